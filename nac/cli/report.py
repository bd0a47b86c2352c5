"""What the command prints: lines, tables, progress."""

from __future__ import annotations

import codecs
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from nac.cli.hints import message_of, with_hint
from nac.container.header import UNKNOWN_WEIGHTS
from nac.container.timeline import clock
from nac.errors import NacError

if TYPE_CHECKING:
    from nac.cli.batch import Job
    from nac.evaluate.bench import Measured
    from nac.evaluate.comparison import Average
    from nac.evaluate.metrics import Metric
    from nac.files.info import Info
    from nac.files.shards import Recoded
    from nac.files.verify import Checked
    from nac.interop.convert import Converted
    from nac.storage.output import Result
    from nac.training.packing import Packed
    from nac.weights.models import Status


def out(line: str) -> None:
    """A line of results, to standard output. File names that are not UTF-8 pass through."""
    check_out()
    sys.stdout.buffer.write(_encoded(line + "\n"))
    sys.stdout.buffer.flush()


def check_out() -> None:
    """Raise NacError if there is no standard output."""
    if sys.stdout is None:
        raise NacError("standard output is closed")


def note(line: str) -> None:
    """A message to standard error, if open, above the progress bar if there is one."""
    if sys.stderr is None:
        return
    with _bar_aside():
        sys.stderr.buffer.write(_encoded(line + "\n"))
        sys.stderr.buffer.flush()


def error(name: object, problem: Exception | str | None) -> None:
    """The line for a failure."""
    message = message_of(problem) if isinstance(problem, Exception) else problem
    note(f"nac: {printable(name)}: {message}" if name else f"nac: {message}")


def warning(name: object, line: str) -> None:
    """A warning about a file."""
    error("" if line.startswith(f"{name}: ") else name, printable(line))


def _encoded(line: str) -> bytes:
    """Text in the encoding of file names; characters outside of it are escaped."""
    return line.encode(sys.getfilesystemencoding(), "nac")


def _escaped(error: UnicodeError) -> tuple[bytes, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    found = error.object[error.start : error.end]
    # A lone surrogate stands for an undecodable byte of a name.
    parts = (
        bytes([ord(c) - 0xDC00]) if "\udc80" <= c <= "\udcff" else c.encode("ascii", "backslashreplace")
        for c in found
    )
    return b"".join(parts), error.end


codecs.register_error("nac", _escaped)


def printable(name: object) -> str:
    """A file name on one line."""
    return "".join(c if c.isprintable() or "\udc80" <= c <= "\udcff" else repr(c)[1:-1] for c in str(name))


def size(count: float) -> str:
    """A size in bytes for people."""
    for unit in ("B", "kB", "MB"):
        if count < 999.5:
            return f"{number(count)} {unit}"
        count /= 1000
    return f"{number(count)} GB"


def result_text(result: Result) -> str:
    """The result for one file, on one line."""
    speed = result.seconds / max(result.wall_seconds, 1e-9)
    sizes = size(result.bytes_out)
    if result.bytes_in:
        small, large = sorted((result.bytes_in, max(result.bytes_out, 1)))
        sizes = f"{size(result.bytes_in)} -> {sizes} ({large / small:.1f}:1)"
    names = f"{printable(result.input)} -> {printable(result.output)}"
    rate = f"{result.model} {number(result.kbps)} kbit/s"
    return f"{names}: {clock(result.seconds)}, {sizes}, {rate}, {number(speed)}x real time"


def recoded_text(recoded: Recoded) -> str:
    """The result for one shard, on one line."""
    done = [outcome.result for outcome in recoded.outcomes if outcome.result]
    seconds = sum(result.seconds for result in done)
    counts = many(len(done), "item") + (f" and {recoded.failed} failed" if recoded.failed else "")
    before = "" if recoded.bytes_in is None else f"{size(recoded.bytes_in)} -> "
    speed = f"{number(seconds / max(recoded.wall_seconds, 1e-9))}x real time"
    names = f"{printable(recoded.input)} -> {printable(recoded.output)}"
    return f"{names}: {counts}, {clock(seconds)}, {before}{size(recoded.bytes_out)}, {speed}"


def notes_text(result: Converted) -> str:
    """What a file of another codec cannot store, on one line."""
    return f"{printable(result.input)}: .{result.format} does not store: {'; '.join(result.notes)}"


def shard_text(packed: Packed) -> str:
    """The content of a shard, on one line."""
    seconds = clock(sum(file.seconds for file in packed.files))
    return f"{printable(packed.output)}: {many(len(packed.files), 'file')}, {seconds}, {size(packed.bytes)}"


def counts_text(counts: Mapping[str, int]) -> str:
    """Counts of outcomes."""
    return ", ".join(f"{counts[status]} {status}" for status in ("done", "skipped", "failed"))


def many(count: int, what: str) -> str:
    """A number with a noun: 1 chunk, 2 chunks."""
    return f"{count} {what}{'s' * (count != 1)}"


def number(value: float) -> str:
    """A number with up to three significant digits: 0.05, 18, 51000."""
    return f"{float(f'{value:.3g}'):.15g}"


def info_text(info: Info) -> str:
    """A file's description, one line per field."""
    weights = "not known" if info.fingerprint == UNKNOWN_WEIGHTS else info.fingerprint
    channels = {1: "mono", 2: "stereo"}.get(info.channels, f"{info.channels} channels")
    audio = f"{info.sample_rate} Hz, {channels}, {clock(info.seconds)} ({many(info.samples, 'sample')})"
    counts = "1 codebook" if info.codebooks == [1] else f"{' + '.join(map(str, info.codebooks))} codebooks"
    coding = f"{info.saved:.1%} of that saved by range coding" if info.coding == "range" else "packed"
    sizes = f"{many(info.bytes, 'byte')} in {many(info.chunks, 'chunk')}, {number(info.actual_kbps)} kbit/s"
    rows = [
        ("model", f"{info.model}, weights {weights}"),
        ("audio", audio),
        *(("gap", f"{lost} before the file was written, now silent") for lost in info.lost),
        *(("damage", with_hint(text, "recover")) for text in [info.damage] if text),
        ("codes", f"{counts}, {number(info.kbps)} kbit/s, {coding}"),
        ("file", f"{sizes}, version {info.version}"),
        *(("tag", f"{key}={value}") for key, value in info.tags.items()),
    ]
    return "\n".join([printable(info.path), *(f"  {name:<6} {printable(text)}" for name, text in rows)])


def item_text(key: str, info: Info) -> str:
    """A .nac file in a shard, on one line."""
    damage = f", damaged: {info.damage}" if info.damage else ""
    audio = f"{clock(info.seconds)}, {info.sample_rate} Hz, {many(info.channels, 'channel')}"
    return f"  {printable(key)}: {audio}, {info.model} {number(info.kbps)} kbit/s, {size(info.bytes)}{damage}"


def check_text(checked: Checked) -> str:
    """The result of a check, on one line; with a line for each loss if a file was recovered."""
    name = printable(checked.path)
    if checked.output:
        target = printable(checked.output)
        saved = f"{name}: {many(checked.chunks, 'whole chunk')}, {clock(checked.seconds)}, saved to {target}"
        return "\n".join([saved, *(f"{name}: {lost}" for lost in checked.lost)])
    if checked.error:
        return f"{name}: damaged"
    gaps = "".join(f"; {gap} before it was written" for gap in checked.lost)
    return f"{name}: whole, {clock(checked.seconds)} in {many(checked.chunks, 'chunk')}{gaps}"


BENCH = (20, 6, 9, 9, 9, 11, 9, 9, 10)


def bench_head(reference: bool) -> str:
    """The heading over :func:`bench_text`; the last columns only with a ``reference``."""
    head = ["model", "s", "encode", "decode", "memory", "of peak", "x ref enc", "x ref dec", "same codes"]
    return _columns(head if reference else head[:6])


def bench_text(row: Measured) -> str:
    """A model's speed, on one line."""
    clips = f"{row.batch} x " * (row.batch > 1) + number(round(row.seconds, 1))
    cells = [row.model, clips, f"{number(row.encode.speed)}x", f"{number(row.decode.speed)}x", size(row.memory)]
    cells.append(f"{row.encode.share:.0%} / {row.decode.share:.0%}")
    if row.encode.ratio and row.decode.ratio and row.same_codes is not None:
        cells += [f"{row.encode.ratio:.2f}", f"{row.decode.ratio:.2f}", f"{row.same_codes:.2%}"]
    return _columns(cells)


def _columns(cells: Sequence[str]) -> str:
    return "  ".join(cell.ljust(width) for cell, width in zip(cells, BENCH, strict=False)).rstrip()


def models_text(rows: Sequence[Status]) -> str:
    """A table of models."""
    head = ("name", "rate", "ch", "kbit/s per stream", "size", "here", "licence", "good for")
    lines = [head]
    for row in rows:
        rates = f"{number(row.kbps[0])} to {number(row.kbps[1])}"
        here = "yes" if row.present else "-"
        bytes_ = "" if row.size is None else size(row.size)
        cells = (row.name, f"{row.sample_rate}", f"{row.channels}", rates, bytes_, here, row.licence, row.about)
        lines.append(cells)
    return table(lines)


def table(lines: Sequence[Sequence[str]]) -> str:
    """Lines of aligned cells."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
    )


def averages_text(rows: Sequence[Average], metrics: Sequence[Metric]) -> str:
    """A table of the comparison, with one line per coder and bitrate."""

    def cell(row: Average, name: str) -> str:
        if name not in row.values:
            return "-"
        value = row.values[name].mean
        return f"{value:.1f}x" if name in ("encode", "decode") else f"{value:.2f}"

    names = ["kbps", "encode", "decode", *(metric.name for metric in metrics)]
    head = ["", "asked", "kbit/s", "encode", "decode", *(metric.label for metric in metrics)]
    return table([head, *([row.system, number(row.asked), *(cell(row, name) for name in names)] for row in rows)])


class Progress:
    """A bar on standard error over all files of a command, if that is a terminal and ``shown``.

    It counts bytes of inputs, so that the remaining time is right for files of any length.
    """

    def __init__(self, jobs: Sequence[Job], *, shown: bool) -> None:
        self._bar: Any = None
        self._cancelled = False
        self._lock = threading.Lock()
        self._files, self._ended = len(jobs), 0
        self._seconds, self._began = 0.0, time.perf_counter()
        if shown and sys.stderr is not None and sys.stderr.isatty():
            from tqdm import tqdm

            # The remaining bytes of a job.
            self._left: dict[Job, float] = {job: _size(job.input) for job in jobs}
            total = sum(self._left.values())
            bar = "{percentage:3.0f}%|{bar}| {desc} [{elapsed}<{remaining}]" if total else "{desc} [{elapsed}]"
            self._bar = tqdm(total=total, leave=False, dynamic_ncols=True, smoothing=0.1, bar_format=bar)

    def __enter__(self) -> Progress:
        global _shown
        _shown = self
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        global _shown
        _shown = None
        if self._bar is not None:
            self._bar.close()

    def cancel(self) -> None:
        """Make all work stop at its next progress call."""
        self._cancelled = True

    def of(self, job: Job) -> Callable[[float, float | None], None]:
        """A callback for a job's progress: seconds of audio done since the last call, and the total if known."""
        whole = 0.0 if self._bar is None else self._left[job]

        def advance(seconds: float, total: float | None) -> None:
            if self._cancelled:
                raise KeyboardInterrupt
            if self._bar is None:
                return
            with self._lock:
                self._seconds += seconds
                # With unknown length, nothing counts before the end.
                self._take(job, whole * seconds / total if total else 0)

        return advance

    def _take(self, job: Job, share: float) -> None:
        share = min(share, self._left[job])
        self._left[job] -= share
        share = min(share, self._bar.total - self._bar.n)  # the rest of a sum of many parts is not exactly zero
        speed = self._seconds / max(time.perf_counter() - self._began, 1e-9)
        files = f"{self._ended}/{self._files} files, " * (self._files > 1)
        text = f"{files}{clock(self._seconds)} of audio, {number(speed)}x real time"
        self._bar.set_description_str(text, refresh=False)
        self._bar.update(share)

    def file_done(self, job: Job, *, skipped: bool) -> None:
        """A job has ended; ``skipped`` ones do not count for the remaining time."""
        if self._bar is not None:
            with self._lock:
                self._ended += 1
                if skipped:
                    self._bar.total -= self._left[job]
                    self._left[job] = 0
                self._take(job, self._left[job])

    @contextmanager
    def aside(self) -> Iterator[None]:
        """Hides the bar while a line is written above it."""
        with self._lock:
            if self._bar is not None:
                self._bar.clear()
            yield
            if self._bar is not None:
                self._bar.refresh()


@contextmanager
def _bar_aside() -> Iterator[None]:
    with nullcontext() if _shown is None else _shown.aside():
        yield


_shown: Progress | None = None
"""The owner of the bar on the terminal."""


def summary_text(outcomes: Sequence[str], files: int) -> str:
    """Number of files done, skipped, failed and not tried."""
    counts = [f"{outcomes.count(outcome)} {outcome}" for outcome in ("done", "skipped", "failed")]
    left = files - len(outcomes)
    return ", ".join([*counts, f"{left} left"] if left else counts)


def _size(path: Path) -> int:
    """Size of a file in bytes; 0 if unknown."""
    try:
        return path.stat().st_size
    except OSError:
        return 0


def others_text(count: int, some: Sequence[Path] = ()) -> str:
    """The number of ignored files, and the names of the first ones."""
    names = [printable(path) for path in some[:5]]
    more = [f"{count - len(names)} more"] if names and count > len(names) else []
    return f"ignored {many(count, 'other file')}{': ' * bool(names)}" + " and ".join(
        [", ".join(names), *more] if names else []
    )
