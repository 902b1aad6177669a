"""Segment files: records as checked lines, written at one end and read from the other.

A line is `<crc32, 8 hex> <length> <delivery id> <record, JSON>`; length and checksum are of what
stands behind them, id and record. A line counts by its place, also where it is damaged: so the
place of every other one stays what it was.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

SUFFIX = ".queue"


def line_of(delivery_id: str, body: bytes) -> bytes:
    """The checked line of one record; `body` has no line end in it, as JSON has none."""
    content = delivery_id.encode("ascii") + b" " + body
    return b"%08x %d %s\n" % (zlib.crc32(content), len(content), content)


def blank(line: bytes) -> bytes:
    """What stands where a line was erased."""
    return b" " * (len(line) - 1) + b"\n"


def parsed_line(line: bytes) -> tuple[str, bytes] | None:
    """Delivery id and record of a line; None where it is torn or damaged."""
    if not line.endswith(b"\n"):
        return None
    head, _, rest = line[:-1].partition(b" ")
    length, _, content = rest.partition(b" ")
    if head != b"%08x" % zlib.crc32(content) or length != b"%d" % len(content):
        return None
    delivery_id, _, body = content.partition(b" ")
    try:
        return delivery_id.decode("ascii"), body
    except UnicodeDecodeError:
        return None


@dataclass(slots=True)
class Segment:
    """One file of lines, and where its lines stand in the queue.

    Attributes:
        path: its name is its number among the segments.
        first: number of its first line in the queue.
        lines: how many it has.
        size_bytes: of the file.
        damaged: numbers of the lines that cannot be read.
        erased: of these, the lines that were made blank.
    """

    path: Path
    first: int
    lines: int = 0
    size_bytes: int = 0
    damaged: set[int] = field(default_factory=set)
    erased: set[int] = field(default_factory=set)

    @property
    def number(self) -> int:
        """Its number among the segments."""
        return int(self.path.stem)

    @property
    def last(self) -> int:
        """Number of its last line; `first` - 1 where it has none."""
        return self.first + self.lines - 1

    def readable_in(self, first: int, last: int) -> int:
        """How many of the lines from `first` to `last` can be read, as far as they are here."""
        first, last = max(first, self.first), min(last, self.last)
        if last < first:
            return 0
        return last - first + 1 - sum(first <= number <= last for number in self.damaged)


def opened_segment(path: Path, first: int, *, is_newest: bool) -> Segment:
    """A segment of an earlier run, every line of it checked.

    What follows the last good line of the newest one was being written when the run was killed,
    and is cut off.

    Raises:
        OSError: it cannot be read, or cut.

    Cost: the whole file is read.
    """
    content = path.read_bytes()
    lines = _split(content)
    damaged = [place for place, line in enumerate(lines) if parsed_line(line) is None]
    count = len(lines)
    if is_newest:
        while damaged and damaged[-1] == count - 1:
            count -= 1
            damaged.pop()
        size = sum(map(len, lines[:count]))
        if size < len(content):
            os.truncate(path, size)
    size = sum(map(len, lines[:count]))
    blank = {first + place for place in damaged if not lines[place].strip()}
    return Segment(path, first, count, size, {first + place for place in damaged}, blank)


def erase_in(segment: Segment, is_one: Callable[[bytes], bool]) -> set[int]:
    """Make the lines blank whose record this is true of, where they stand; their numbers.

    Lines that were done are still in the file, and are made blank too.

    Raises:
        OSError: the file cannot be read or written.

    Cost: the whole file is read; a blank line costs one write.
    """
    erased: set[int] = set()
    offset = 0
    file = os.open(segment.path, os.O_RDWR | os.O_CLOEXEC)
    try:
        for number, line in enumerate(_split(segment.path.read_bytes()), segment.first):
            parsed = parsed_line(line)
            if parsed is not None and is_one(parsed[1]):
                os.pwrite(file, blank(line), offset)
                erased.add(number)
            offset += len(line)
        if erased:
            os.fsync(file)
    finally:
        os.close(file)
        segment.damaged |= erased
        segment.erased |= erased
    return erased


def _split(content: bytes) -> list[bytes]:
    """Lines that end in a line feed alone: a damaged one may hold anything."""
    lines = content.split(b"\n")
    rest = lines.pop()
    return [line + b"\n" for line in lines] + ([rest] if rest else [])


class SegmentWriter:
    """The open end of the newest segment; one file at most is open.

    State: the file descriptor; the files that were written since they were last on the disk.
    """

    def __init__(self) -> None:
        self._file: int | None = None
        self._path: Path | None = None
        self._unsynced: dict[Path, None] = {}

    def append(self, segment: Segment, line: bytes) -> None:
        """Write one line whole, or leave the file as it was.

        Raises:
            OSError: it cannot be written; no more may be written to this segment, for if not even
                the half of a line could be cut off again, it stands at its end.
        """
        if self._file is None or self._path != segment.path:
            self.close()
            how = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
            self._file, self._path = os.open(segment.path, how, 0o600), segment.path
        self._unsynced[segment.path] = None
        written = 0
        try:
            while written < len(line):
                written += os.write(self._file, line[written:])
        except OSError:
            with suppress(OSError):  # then a reader finds a damaged line, which is counted
                os.ftruncate(self._file, segment.size_bytes)
            self.close()
            raise
        segment.lines += 1
        segment.size_bytes += len(line)

    def unsynced(self) -> list[Path]:
        """The files for `sync_files`, which count as synced from now on."""
        paths, self._unsynced = list(self._unsynced), {}
        return paths

    def not_synced(self, paths: Sequence[Path]) -> None:
        """These are not on the disk after all."""
        self._unsynced |= dict.fromkeys(paths)

    def close(self) -> None:
        """Close the file; the next line opens one."""
        file, self._file = self._file, None
        if file is not None:
            os.close(file)


class SegmentReader:
    """Reads lines in order, from one open file.

    State: the open file, its segment's path, the number of its next line.
    """

    def __init__(self) -> None:
        self._file: BinaryIO | None = None
        self._path: Path | None = None
        self._next = 0

    def line(self, segment: Segment, number: int) -> tuple[str, bytes] | None:
        """Delivery id and record of a line; None where it is damaged or cannot be read.

        Cost: one line where the last call read the one before it; else the file up to it.
        """
        try:
            file = self._at(segment, number)
            found = file.readline()
        except OSError:
            self.close()
            return None
        self._next = number + 1
        return parsed_line(found)

    def _at(self, segment: Segment, number: int) -> BinaryIO:
        if self._file is None or self._path != segment.path or number < self._next:
            self.close()
            self._file = open(segment.path, "rb")  # noqa: SIM115 - kept open from line to line
            self._path, self._next = segment.path, segment.first
        while self._next < number:
            self._file.readline()
            self._next += 1
        return self._file

    def close(self) -> None:
        """Close the file; the next call opens one."""
        file, self._file = self._file, None
        if file is not None:
            file.close()


def segment_paths(folder: Path) -> Iterator[Path]:
    """The segment files of a folder, oldest first.

    Raises:
        OSError: it cannot be listed.
    """
    names = (name for name in os.listdir(folder) if name.endswith(SUFFIX))
    numbered = (name for name in names if name.removesuffix(SUFFIX).isdecimal())
    yield from (folder / name for name in sorted(numbered))


def sync_files(paths: Sequence[Path]) -> None:
    """Have the disk hold these files and the names of their folder; what is gone is passed over.

    Raises:
        OSError: it does not.

    Cost: one flush of the disk a file, and one for the folder.
    """
    for path in (*paths, *{path.parent for path in paths}):
        try:
            file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            continue
        try:
            os.fsync(file)
        finally:
            os.close(file)
