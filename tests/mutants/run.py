"""Make small wrong changes to a room of nac, one at a time, and tell which ones its tests do not notice.

    python tests/mutants/run.py ROOM [--sample N] [--seed N] [--minutes N] [--near] [--again]

cosmic-ray (``[tool.cosmic-ray]`` in pyproject.toml) makes the changes, in a copy of the working tree. A sample is
drawn of all places where something can be changed, and of the changes at each place one. :func:`unseen` says what
tests need not notice. Tests that reach a changed line run first, and all tests of the room only if those notice
nothing. A change that makes the tests hang counts as caught. Results lie in ``.mutants/ROOM.jsonl``; a change that
is listed there is not tried again.
"""

from __future__ import annotations

import argparse
import ast
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from difflib import unified_diff
from importlib import import_module
from pathlib import Path

import pytest
from cosmic_ray.commands import init
from cosmic_ray.mutating import use_mutation
from cosmic_ray.plugins import get_operator
from cosmic_ray.work_db import use_db
from cosmic_ray.work_item import MutationSpec
from coverage import CoverageData

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[2]
Position = tuple[int, int]
"""Line, from 1, and column, from 0."""


@dataclass(frozen=True)
class Settings:
    """``options`` of pytest; ``rooms``: the tests of each; ``patience``: seconds beside three normal runs."""

    options: list[str]
    rooms: dict[str, list[str]]
    patience: float

    @classmethod
    def read(cls) -> Settings:
        table = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["cosmic-ray"]
        return cls(table["options"], table["rooms"], table["patience"])


def main() -> None:
    settings = Settings.read()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("room", choices=settings.rooms)
    parser.add_argument("--sample", type=int, default=60, help="places to change [default: 60]")
    parser.add_argument("--seed", type=int, default=0, help="another one draws another sample [default: 0]")
    parser.add_argument("--minutes", type=float, default=60, help="begin no change after so long [default: 60]")
    parser.add_argument("--near", action="store_true", help="run only tests that reach the changed line")
    parser.add_argument("--again", action="store_true", help="try those that survived again")
    options = parser.parse_args()
    record = Record(ROOT / ".mutants" / f"{options.room}.jsonl")
    with tempfile.TemporaryDirectory(prefix="nac-mutants-") as folder:
        tree = copy_of_tree(Path(folder))
        os.chdir(tree)
        os.environ |= {"PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "1"}  # for processes that tests start
        sys.path.insert(0, str(tree))
        sys.dont_write_bytecode = True  # changes may come too fast for the times of files
        sample = drawn(Path("nac", options.room), options.sample, options.seed)
        run(sample, settings, record, options)


def copy_of_tree(folder: Path) -> Path:
    """The files of the working tree that git does not ignore, beside the folder with recordings and weights."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    )
    tree = folder / "nac"
    for name in map(os.fsdecode, filter(None, listed.stdout.split(b"\0"))):
        if (ROOT / name).is_file():
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, tree / name)
    if (shared := ROOT.parent / "shared").is_dir():
        (folder / "shared").symlink_to(shared.resolve())
    return tree


def drawn(room: Path, count: int, seed: int) -> list[MutationSpec]:
    """The sample: one change at each of so many places."""
    with use_db(":memory:") as database:
        init(sorted(room.rglob("*.py")), database, {})
        changes = [item.mutations[0] for item in database.pending_work_items]
    unseen_in = {path: Unseen(path) for path in {change.module_path for change in changes}}
    places: dict[tuple[str, Position], list[MutationSpec]] = {}
    for change in changes:
        if change.start_pos not in unseen_in[change.module_path]:
            places.setdefault((str(change.module_path), change.start_pos), []).append(change)
    chance = random.Random(seed)
    chosen = chance.sample(sorted(places), min(count, len(places)))
    print(f"{len(chosen)} of {len(places)} places in {room}, seed {seed}", flush=True)
    return [
        chance.choice(sorted(places[place], key=lambda change: (change.operator_name, change.occurrence)))
        for place in chosen
    ]


class Unseen:
    """The stretches of a module that tests need not see."""

    def __init__(self, path: Path) -> None:
        source = path.read_text(encoding="utf-8")
        lines = [line.encode() for line in source.splitlines()]

        def at(line: int, byte: int) -> Position:
            return line, len(lines[line - 1][:byte].decode())

        stretches = sorted(
            (at(node.lineno, node.col_offset), at(node.end_lineno, node.end_col_offset))
            for node in unseen(ast.parse(source))
        )
        self._starts = [start for start, _ in stretches]
        self._ends = [max(end for _, end in stretches[: number + 1]) for number in range(len(stretches))]

    def __contains__(self, place: Position) -> bool:
        number = bisect_right(self._starts, place)
        return bool(number) and place < self._ends[number - 1]


def unseen(tree: ast.Module) -> Iterator[ast.expr | ast.stmt]:
    """What no test has to notice: types of arguments and names, and the words of errors, logs and __repr__."""
    for node in ast.walk(tree):
        match node:
            case ast.FunctionDef(name="__repr__" | "__str__") | ast.Raise():
                yield node
            case ast.FunctionDef(returns=ast.expr() as kind):
                yield kind
            case ast.arg(annotation=ast.expr() as kind) | ast.AnnAssign(annotation=kind):
                yield kind
            case ast.If(test=ast.Name("TYPE_CHECKING")) | ast.ClassDef(bases=[ast.Name("Protocol")]):
                yield node
            case ast.Assign(value=value) if node in tree.body and is_union(value):
                yield node
            case ast.Call(func=function) if says(ast.unparse(function)):
                yield node


def is_union(node: ast.expr) -> bool:
    """Whether it is an alias of types such as ``str | bytes``."""
    if isinstance(node, ast.BinOp):
        return isinstance(node.op, ast.BitOr) and is_union(node.left) and is_union(node.right)
    return isinstance(node, (ast.Name, ast.Attribute, ast.Subscript)) or ast.unparse(node) == "None"


def says(function: str) -> bool:
    """Whether a function of this name makes an error or says something to people."""
    return function.endswith("Error") or function.split(".")[0] in ("log", "logging", "warnings")


class Record:
    """What became of changes, in a file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.caught: dict[str, bool] = {}
        if path.exists():
            rows = map(json.loads, path.read_text(encoding="utf-8").splitlines())
            self.caught = {row["diff"]: row["caught"] for row in rows}

    def add(self, diff: str, caught: bool, seconds: float) -> None:
        self.caught[diff] = caught
        self._path.parent.mkdir(exist_ok=True)
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"diff": diff, "caught": caught, "seconds": round(seconds, 1)}) + "\n")


class Reach:
    """Which tests run which lines, from the data of pytest-cov with ``--cov-context=test``."""

    def __init__(self, file: Path) -> None:
        data = CoverageData(str(file))
        data.read()
        self._tests_of = {
            Path(name): {line: tests_in(contexts) for line, contexts in data.contexts_by_lineno(name).items()}
            for name in data.measured_files()
        }

    def near(self, change: MutationSpec) -> list[str]:
        """The tests that run the first line of a change, or else its module; first those that run less of it."""
        tests_of = self._tests_of.get(change.module_path.resolve(), {})
        lines = Counter(test for tests in tests_of.values() for test in tests)
        return sorted(tests_of.get(change.start_pos[0]) or lines, key=lambda test: (lines[test], test))


def tests_in(contexts: list[str]) -> set[str]:
    """The tests in names such as ``tests/a.py::test_b|run``; what runs as a module is imported has the name ""."""
    return {context.rpartition("|")[0] for context in contexts if context}


def run(sample: list[MutationSpec], settings: Settings, record: Record, options: argparse.Namespace) -> None:
    """Try the changes, and print what became of them."""
    room, everything = options.room, settings.rooms[options.room]
    began = time.monotonic()
    cover = [f"--cov=nac/{room}", "--cov-context=test", "--cov-report=", "-rs"]  # a skipped test sees no change
    if subprocess.run([sys.executable, "-m", "pytest", *settings.options, *cover, *everything]).returncode:
        sys.exit("the tests fail without any change")
    limit = settings.patience + 3 * (time.monotonic() - began)
    reach = Reach(Path(".coverage"))
    import_others()
    tried: dict[str, bool] = {}
    for number, change in enumerate(sample, 1):
        if time.monotonic() - began > 60 * options.minutes:
            print(f"{options.minutes:g} minutes are over")
            break
        near = reach.near(change)
        with made(change) as diff:
            if record.caught.get(diff) is None or (options.again and not record.caught[diff]):
                start = time.monotonic()
                rounds = [near] if near and options.near else [near, everything]
                caught = any(tests and fails([*settings.options, *tests], limit) for tests in rounds)
                record.add(diff, caught, time.monotonic() - start)
        tried[diff] = record.caught[diff]
        print(f"{number}: {'caught' if tried[diff] else 'survived: ' + diff}", flush=True)
    count = sum(tried.values())
    print(f"{room}: {count} of {len(tried)} caught ({100 * count / max(len(tried), 1):.0f} %)")


@contextmanager
def made(change: MutationSpec) -> Iterator[str]:
    """Make a change, which is undone at the end, and yield it as a diff without context."""
    operator = get_operator(change.operator_name)(**change.operator_args)
    with use_mutation(change.module_path, operator, change.occurrence) as (before, after):
        lines = list(unified_diff(before.splitlines(), after.splitlines(), lineterm=""))[2:]
        yield "\n".join(
            [f"{change.module_path}: {change.operator_name}", *(line for line in lines if line[0] in "+-@")]
        )


def import_others() -> None:
    """Import the large packages that most tests use, once for all processes that run tests."""
    for name in ("av", "hypothesis", "mutagen", "numpy", "pyarrow", "soundfile", "torch"):
        with suppress(ImportError):
            import_module(name)


def fails(arguments: list[str], seconds: float) -> bool:
    """Whether pytest fails in a process of its own, or takes longer than so many seconds."""
    if not (child := os.fork()):
        os.setsid()
        nowhere = os.open(os.devnull, os.O_RDWR)
        for stream in range(3):
            os.dup2(nowhere, stream)
        os._exit(int(pytest.main(arguments)))
    end = time.monotonic() + seconds
    while not (ended := os.waitpid(child, os.WNOHANG))[0]:
        if time.monotonic() > end:
            print("the tests hang:", end=" ")
            os.killpg(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return True
        time.sleep(0.05)
    return ended[1] != 0


if __name__ == "__main__":
    main()
