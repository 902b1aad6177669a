"""The dialogue as a file of JSON lines, of bounded size, that outlives a crash.

`dialogue.jsonl` is only appended to. When it is full it becomes `dialogue.1.jsonl`, in the place of
the one before, and a new one begins: between half and all of `max_bytes` of the newest turns stay.
A crash in the middle of a line costs that line alone; it is cut off when the file is next opened.
"""

from __future__ import annotations

import json
import math
import os
import stat
import threading
from pathlib import Path

from ..errors import OutputUnwritable
from ..line_file import LineFile, output_error
from ..recent import DialogueTurn

NEWEST, BEFORE = "dialogue.jsonl", "dialogue.1.jsonl"
_NEWLINE_SEARCH_BYTES = 4096


class DialogueLog:
    """The dialogue in a folder; one process at a time writes it. Safe for several threads.

    State: the open file and its size.

    Args:
        folder: made where it is not there; its parent must exist.
        max_bytes: of both files together, at most.

    Raises:
        OutputUnwritable: the folder or the file cannot be opened for writing.
    """

    def __init__(self, folder: Path, *, max_bytes: int = 1_000_000) -> None:
        if max_bytes < 2:
            raise ValueError(f"got max_bytes={max_bytes}")
        self._newest, self._before = folder / NEWEST, folder / BEFORE
        self._max_file_bytes = max_bytes // 2
        self._lock = threading.Lock()
        try:
            folder.mkdir(exist_ok=True)
        except OSError as error:
            raise output_error(os.fspath(folder), error) from error
        self._open()

    def __enter__(self) -> DialogueLog:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def append(self, turn: DialogueTurn) -> bool:
        """Write one turn to the end. After a kill it is there; after a power cut, if `sync` was.

        Returns:
            Whether it was written: a line that alone is larger than a file may be is not.

        Raises:
            OutputFull: the disk is full; the turns before this one are whole.
            OutputUnwritable: the file cannot be written any more.
        """
        line = _line(turn)
        n_bytes = len(line.encode("utf-8", "replace"))
        if n_bytes > self._max_file_bytes:
            return False
        with self._lock:
            if self._n_bytes + n_bytes > self._max_file_bytes:
                self._rotate()
            self._file.write(line)
            self._n_bytes += n_bytes
        return True

    def forget_before(self, time_s: float) -> None:
        """Take the turns out that are about the time before, seconds; infinite for all of them.

        A file that has some is written again beside itself and swapped; one with none left goes.

        Raises:
            OutputFull, OutputUnwritable: it cannot be written; then it is as it was.
        """
        with self._lock:
            self._file.close()
            try:
                for file in (self._before, self._newest):
                    _rewrite(file, time_s)
            except OSError as error:
                raise output_error(os.fspath(self._newest), error) from error
            finally:
                self._open()

    def sync(self) -> None:
        """Have the disk keep what was written; for when a snapshot is taken."""
        try:
            file = os.open(self._newest, os.O_RDONLY)
            try:
                if stat.S_ISREG(os.fstat(file).st_mode):
                    os.fsync(file)
            finally:
                os.close(file)
        except OSError as error:
            raise output_error(os.fspath(self._newest), error) from error

    def close(self) -> None:
        """Give the file back; calling it twice is harmless."""
        self._file.close()

    def _open(self) -> None:
        """Open the newest file behind its last whole line."""
        how = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOCTTY
        try:
            file = os.open(self._newest, how, 0o644)
        except OSError as error:
            raise _refused(self._newest, error) from error
        try:
            self._n_bytes = _without_half_a_line(file)
        except OSError as error:
            os.close(file)
            raise _refused(self._newest, error) from error
        self._file = LineFile(file, os.fspath(self._newest))

    def _rotate(self) -> None:
        self._file.close()
        try:
            os.replace(self._newest, self._before)
        except OSError as error:
            raise _refused(self._newest, error) from error
        finally:
            self._open()


def _without_half_a_line(file: int) -> int:
    """Cut off what follows the last end of a line; the size that is left, bytes."""
    if not stat.S_ISREG(os.fstat(file).st_mode):
        return 0
    size = end = os.fstat(file).st_size
    whole = 0
    while end and not whole:
        start = max(0, end - _NEWLINE_SEARCH_BYTES)
        found = os.pread(file, end - start, start).rfind(b"\n")
        whole, end = (start + found + 1 if found >= 0 else 0), start
    if whole < size:
        os.ftruncate(file, whole)
    return whole


def _rewrite(file: Path, time_s: float) -> None:
    """The file without turns about the time before; what is no line of ours goes with them."""
    try:
        lines = file.read_bytes().splitlines(keepends=True)
    except FileNotFoundError:
        return
    kept = [line for line in lines if _time_of(line) >= time_s]
    if len(kept) == len(lines):
        return
    beside = file.with_name(f".{file.name}.writing")
    if kept:
        with open(beside, "wb") as out:
            out.writelines(kept)
            out.flush()
            os.fsync(out.fileno())
        os.replace(beside, file)
    else:
        beside.unlink(missing_ok=True)
        file.unlink()


def _time_of(line: bytes) -> float:
    try:
        return float(json.loads(line)["time_s"])
    except (ValueError, KeyError, TypeError):
        return -math.inf


def _line(turn: DialogueTurn) -> str:
    value = {"time_s": turn.time_s, "question": turn.question, "answer": turn.answer}
    return json.dumps(value, ensure_ascii=False, allow_nan=False) + "\n"


def _refused(path: Path, error: OSError) -> OutputUnwritable:
    return OutputUnwritable(
        f"cannot keep the dialogue in {path}: {error.strerror}",
        hint="name a folder that you may write to",
    )
