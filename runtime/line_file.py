"""Whole lines into a file, a pipe or a terminal, without being held for ever by its reader.

A line for a regular file is written whole or cut off again. A pipe takes what it can: the rest of
a line waits here and goes before the next one. While a pipe is full we wait, and look every 100 ms
whether the run is being left; then there is LEAVE_WITHIN_S left before the lines are given up.
Nothing is held in a buffer of Python's, whose lock a stuck thread would keep to the end.
"""

from __future__ import annotations

import errno
import os
import select
import stat
import time
from collections.abc import Callable
from pathlib import Path

from .errors import OutputError, OutputFull, OutputUnwritable

# Enough for a reader that is alive; a service manager gives us 10 s in all before it kills.
LEAVE_WITHIN_S = 1.0
LOOK_EVERY_MS = 100


def never() -> bool:
    """The run is not being left."""
    return False


class LineFile:
    """An open file descriptor that takes text.

    State: the rest of a line that a pipe did not take yet.

    Args:
        file: the descriptor.
        name: of it, for messages.
        encoding: of the text; what it cannot say is replaced.
        has_left: whether the run is being left.
    """

    def __init__(
        self,
        file: int,
        name: str,
        *,
        encoding: str = "utf-8",
        has_left: Callable[[], bool] = never,
    ) -> None:
        self._file: int | None = file
        self._name = name
        self._encoding = encoding
        self._has_left = has_left
        self._is_regular = stat.S_ISREG(os.fstat(file).st_mode)
        self._rest = b""

    def write(self, text: str) -> int:
        """Write one or more whole lines.

        Raises:
            BrokenPipeError: the reader has gone.
            OutputError: the disk is full, or the lines are not taken while the run is being left.
        """
        if self._file is None:
            return 0
        self._rest += text.encode(self._encoding, "replace")
        try:
            self._write_rest(self._file)
        except BrokenPipeError:
            self._rest = b""
            raise
        except OSError as error:
            self._rest = b""
            raise output_error(self._name, error) from error
        return len(text)

    def flush(self) -> None:
        """Nothing is held back."""

    def close(self) -> None:
        """Give the descriptor back; calling it twice is harmless."""
        file, self._file = self._file, None
        if file is not None:
            os.close(file)

    def _write_rest(self, file: int) -> None:
        if self._is_regular:
            self._append(file)
            return
        while self._rest:
            self._wait_until_writable(file)
            # What poll calls writable takes PIPE_BUF bytes without blocking.
            written = os.write(file, self._rest[: select.PIPE_BUF])
            self._rest = self._rest[written:]

    def _append(self, file: int) -> None:
        line, self._rest = self._rest, b""
        written = 0
        try:
            while written < len(line):
                written += os.write(file, line[written:])
        except BaseException:  # Ctrl-C as well: half a line would spoil the next one
            if 0 < written < len(line):
                os.ftruncate(file, os.lseek(file, -written, os.SEEK_CUR))
            raise

    def _wait_until_writable(self, file: int) -> None:
        poll = select.poll()
        poll.register(file, select.POLLOUT)
        give_up_s: float | None = None
        while not poll.poll(LOOK_EVERY_MS):
            if not self._has_left():
                continue
            now_s = time.monotonic()
            give_up_s = now_s + LEAVE_WITHIN_S if give_up_s is None else give_up_s
            if now_s >= give_up_s:
                self._rest = b""
                raise OutputUnwritable(
                    f"records were lost: {self._name} took nothing for {LEAVE_WITHIN_S:g} s "
                    "while the run was being left"
                )


def open_for_lines(path: Path, has_left: Callable[[], bool] = never) -> LineFile:
    """The end of a file of JSON lines, or a pipe or device, ready for more lines.

    A half line that a crash left is closed first, so that every line after it can be read.

    Args:
        path: made where nothing is there.
        has_left: whether the run is being left.

    Raises:
        OutputUnwritable: it cannot be opened, holds something else than JSON lines, or is a pipe
            that nobody reads.
    """
    # O_NONBLOCK: a pipe without a reader is an error now, where it would wait for one else.
    how = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NONBLOCK | os.O_NOCTTY
    try:
        file = os.open(path, how, 0o644)
    except OSError as error:
        raise _not_opened(path, error) from error
    try:
        os.set_blocking(file, True)
        if stat.S_ISREG(os.fstat(file).st_mode) and _ends_in_half_a_line(path):
            os.write(file, b"\n")
        return LineFile(file, os.fspath(path), has_left=has_left)
    except OSError as error:
        os.close(file)
        raise output_error(os.fspath(path), error) from error
    except OutputError:
        os.close(file)
        raise


def _ends_in_half_a_line(path: Path) -> bool:
    with open(path, "rb") as content:
        first = content.read(1)
        if not first:
            return False
        if first != b"{":
            raise OutputUnwritable(
                f"{path} holds something else than records: got {first!r} at its start, expected "
                "b'{'",
                hint="name another file; only one that has records is appended to",
            )
        content.seek(-1, os.SEEK_END)
        return content.read(1) != b"\n"


def _not_opened(path: Path, error: OSError) -> OutputUnwritable:
    if error.errno == errno.ENXIO:
        return OutputUnwritable(
            f"cannot write records to {path}: nobody reads from it",
            hint="start the program that reads first",
        )
    return OutputUnwritable(
        f"cannot write records to {path}: {error.strerror}",
        hint="name a file in a folder that exists and that you may write to",
    )


def output_error(name: str, error: OSError) -> OutputError:
    """What a failed write means to the user."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return OutputFull(
            f"the disk is full: a record could not be written to {name}",
            hint="make room; the lines before it are whole, and the next run appends",
        )
    return OutputUnwritable(f"cannot write records to {name}: {error.strerror}")
