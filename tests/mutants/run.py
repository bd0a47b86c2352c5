"""Make small wrong changes to a room of nac, one at a time, and tell which ones its tests do not notice.

    python tests/mutants/run.py ROOM [--sample N] [--seed N] [--minutes N] [--again]

cosmic-ray (``[tool.cosmic-ray]`` in pyproject.toml) makes the changes, in a copy of the working tree. A sample is
drawn of all places where something can be changed, and of the changes at each place one. :func:`unseen` says what
tests need not notice. Results lie in ``.mutants/ROOM.jsonl``; a change that is listed there is not tried again.
"""

from __future__ import annotations

import argparse
import ast
import json
import os
import random
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from cosmic_ray.commands import init
from cosmic_ray.mutating import mutate_and_test
from cosmic_ray.work_db import use_db
from cosmic_ray.work_item import MutationSpec, TestOutcome, WorkerOutcome

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[2]
Position = tuple[int, int]
"""Line, from 1, and column, from 0."""


@dataclass(frozen=True)
class Settings:
    """``command``: runs tests; ``rooms``: the tests of each; ``patience``: seconds beside three normal runs."""

    command: str
    rooms: dict[str, list[str]]
    patience: float

    @classmethod
    def read(cls) -> Settings:
        table = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["cosmic-ray"]
        return cls(table["test-command"], table["rooms"], table["patience"])


def main() -> None:
    settings = Settings.read()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("room", choices=settings.rooms)
    parser.add_argument("--sample", type=int, default=60, help="places to change [default: 60]")
    parser.add_argument("--seed", type=int, default=0, help="another one draws another sample [default: 0]")
    parser.add_argument("--minutes", type=float, default=60, help="begin no change after so long [default: 60]")
    parser.add_argument("--again", action="store_true", help="try those that survived again")
    options = parser.parse_args()
    record = Record(ROOT / ".mutants" / f"{options.room}.jsonl")
    with tempfile.TemporaryDirectory(prefix="nac-mutants-") as folder:
        tree = copy_of_tree(Path(folder))
        os.chdir(tree)
        os.environ["PYTHONPATH"] = str(tree)  # for processes that tests start
        sample = drawn(Path("nac", options.room), options.sample, options.seed)
        run(sample, settings, options.room, record, options.again, options.minutes)


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
            case ast.If(test=ast.Name("TYPE_CHECKING")):
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


def run(
    sample: list[MutationSpec], settings: Settings, room: str, record: Record, again: bool, minutes: float
) -> None:
    """Try the changes, and print what became of them."""
    words = shlex.split(settings.command) + settings.rooms[room]
    command = shlex.join([sys.executable if word == "python" else word for word in words])
    began = time.monotonic()
    if subprocess.run(shlex.split(command)).returncode:
        sys.exit("the tests fail without any change")
    normal = time.monotonic() - began
    tried: dict[str, bool] = {}
    for number, change in enumerate(sample, 1):
        if time.monotonic() - began > 60 * minutes:
            print(f"{minutes:g} minutes are over")
            break
        diff = difference(change)
        if record.caught.get(diff) is None or (again and not record.caught[diff]):
            start = time.monotonic()
            result = mutate_and_test([change], command, settings.patience + 3 * normal)
            assert result.worker_outcome is WorkerOutcome.NORMAL, result.output
            record.add(diff, result.test_outcome is not TestOutcome.SURVIVED, time.monotonic() - start)
        tried[diff] = record.caught[diff]
        print(f"{number}: {'caught' if tried[diff] else 'survived: ' + diff}", flush=True)
    caught = sum(tried.values())
    print(f"{room}: {caught} of {len(tried)} caught ({100 * caught / max(len(tried), 1):.0f} %)")


def difference(change: MutationSpec) -> str:
    """A change as a diff without context."""
    result = mutate_and_test([change], shlex.join([sys.executable, "-c", ""]), 60)
    lines = [line for line in (result.diff or "").splitlines() if line[:1] in "+-@"]
    return "\n".join([f"{change.module_path}: {change.operator_name}", *lines[3:]])


if __name__ == "__main__":
    main()
