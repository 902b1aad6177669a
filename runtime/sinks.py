"""Sinks: where records go. One protocol, one dictionary of the kinds there are."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol, TextIO

from .errors import OutputError, OutputFull, OutputUnwritable
from .records import StampedRecord


class Sink(Protocol):
    """Something that takes every record, in order, from one thread at a time."""

    def send(self, record: StampedRecord) -> None:
        """Pass one record on; raises OutputError when that is not possible."""
        ...

    def close(self) -> None:
        """Let go of what the sink holds; calling it twice is harmless."""
        ...


# What a person reads when an event opens and closes. Events of a model that are not listed here
# are shown by their name.
WORDS: dict[str, tuple[str, str | None]] = {
    "cut": ("the scene changes", None),
    "dark": ("it gets dark", None),
    "bright": ("it gets bright", None),
    "motion": ("something starts to move", "it has stopped"),
    "pan": ("the camera turns {direction}", "the camera is steady again"),
    "every": ("time to look", None),
}


def clock_text(time_s: float) -> str:
    """Stream time as a person reads it: `1:02:03.25`, `2:03.25`."""
    hundredths = round(time_s * 100)
    seconds, minutes, hours = hundredths % 6000 / 100, hundredths // 6000 % 60, hundredths // 360000
    return f"{hours}:{minutes:02d}:{seconds:05.2f}" if hours else f"{minutes}:{seconds:05.2f}"


def event_text(body: dict[str, Any], is_opening: bool) -> str | None:
    """The sentence for an `opened` or `closed` record; None where its end is not worth a line."""
    event = body["event"]
    opening, closing = WORDS.get(event, (f"{event} begins", f"{event} ends"))
    if is_opening:
        return opening.format_map(body["attributes"])
    from_s, to_s = body["about_s"]
    return None if closing is None else f"{closing} (after {to_s - from_s:.1f} s)"


class ConsoleSink:
    """Lines for a person: when, and what happened. Partial texts and counters are left out."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def send(self, record: StampedRecord) -> None:
        text = self._text(record)
        if text is not None:
            self._stream.write(f"{clock_text(record.time_s):>10}  {text}\n")
            self._stream.flush()

    def _text(self, stamped: StampedRecord) -> str | None:
        kind, body = stamped.record.type, dict(stamped.record.body)
        if kind in ("opened", "closed"):
            return event_text(body, kind == "opened")
        if kind == "final":
            return body["text"] or None
        if kind == "warning":
            return f"warning: {body['message']}"
        if kind == "drop":
            return f"dropped {body['count']} {body['what']} since {body['since_s']:.1f} s"
        if kind == "camera" and body["state"] == "rebased":
            return f"camera: {body['reason']}"
        return None

    def close(self) -> None:
        """The stream belongs to the caller and stays open."""


class JsonLinesSink:
    """One JSON object a line, whole or not at all.

    An existing file is appended to, never overwritten; a half line that a crash left is closed
    first, so that every line after it can be read.

    Args:
        target: a path, or a text stream that belongs to the caller.

    Raises:
        OutputUnwritable: the file cannot be opened.
    """

    def __init__(self, target: Path | TextIO) -> None:
        self._path = target if isinstance(target, Path) else None
        self._stream = None if isinstance(target, Path) else target
        self._file = None if self._path is None else _opened(self._path)

    def send(self, record: StampedRecord) -> None:
        line = json.dumps(record.as_json(), ensure_ascii=False, allow_nan=False) + "\n"
        if self._stream is not None:
            self._stream.write(line)
            self._stream.flush()
        elif self._file is not None:
            self._append(self._file, line.encode())

    def _append(self, file: int, line: bytes) -> None:
        """Write the whole line, or cut off what got through and raise."""
        written = 0
        try:
            while written < len(line):
                written += os.write(file, line[written:])
        except OSError as error:
            if written:
                _cut_off(file, written)
            raise _output_error(self._path, error) from error

    def close(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None


def _opened(path: Path) -> int:
    try:
        file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)
    except OSError as error:
        raise OutputUnwritable(
            f"cannot write records to {path}: {error.strerror}",
            hint="name a file in a folder that exists and that you may write to",
        ) from error
    try:
        size = os.fstat(file).st_size
        if size and os.pread(file, 1, size - 1) != b"\n":
            os.write(file, b"\n")
    except OSError as error:
        os.close(file)
        raise _output_error(path, error) from error
    return file


def _cut_off(file: int, n_bytes: int) -> None:
    size = os.fstat(file).st_size
    os.ftruncate(file, size - n_bytes)


def _output_error(path: Path | None, error: OSError) -> OutputError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return OutputFull(
            f"the disk is full: a record could not be written to {path}",
            hint="make room; the lines before it are whole, and the next run appends",
        )
    return OutputUnwritable(f"cannot write records to {path}: {error.strerror}")


SINKS: dict[str, Callable[[Any], Sink]] = {"console": ConsoleSink, "jsonl": JsonLinesSink}
