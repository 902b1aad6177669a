"""Lines that come in while a stream runs, each asked as it comes: from a person or a pipe."""

from __future__ import annotations

import os
import select
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from ..runtime.errors import UsageError
from .questions import AskedQuestion, parse_question

LOOK_EVERY_MS = 100
# A stderr that takes nothing may hold the thread; it is a daemon and holds nobody else.
LEAVE_WITHIN_S = 1.0
# What a pipe sends without a line's end is handed on in pieces of this size, and so stays bounded.
LONGEST_LINE_BYTES = 1 << 16


def lines_from(file: int, has_left: Callable[[], bool]) -> Iterator[str]:
    """Lines of a terminal, pipe or file as they come, until it ends or the run is left.

    Nothing is read through Python's own buffer: a thread that waits in it would hold its lock, and
    the process, to the end. A terminal is not read while another job has it: the system would
    stop us.

    Args:
        file: descriptor to read.
        has_left: looked at every LOOK_EVERY_MS.
    """
    poll = select.poll()
    poll.register(file, select.POLLIN)
    rest = b""
    while not has_left():
        if _another_job_has(file):
            time.sleep(LOOK_EVERY_MS / 1e3)
            continue
        if not poll.poll(LOOK_EVERY_MS):
            continue
        try:
            piece = os.read(file, LONGEST_LINE_BYTES)
        except OSError:  # the terminal has gone, or was taken from us in between
            return
        if not piece:
            break
        *lines, rest = (rest + piece).split(b"\n")
        if len(rest) >= LONGEST_LINE_BYTES:
            lines, rest = [*lines, rest], b""
        yield from (line.decode("utf-8", "replace") for line in lines)
    if rest and not has_left():
        yield rest.decode("utf-8", "replace")


def _another_job_has(file: int) -> bool:
    try:
        return os.isatty(file) and os.tcgetpgrp(file) != os.getpgrp()
    except OSError:  # a terminal, but not the one that controls us: nobody takes it away
        return False


def ask_line(line: str, ask: Callable[[AskedQuestion], None]) -> None:
    """Ask what a line means; an empty one means nothing, one that is refused says so on stderr."""
    if not line.strip():
        return
    try:
        ask(parse_question(line))
    except UsageError as refusal:
        hint = f"; {refusal.hint}" if refusal.hint else ""
        if sys.stderr is not None:
            print(f"not asked: {refusal.message}{hint}", file=sys.stderr, flush=True)


@contextmanager
def asked_while_running(file: int, ask: Callable[[AskedQuestion], None]) -> Iterator[None]:
    """Ask every line of `file` while the block runs; its thread ends with the block."""
    ended = threading.Event()

    def ask_all() -> None:
        for line in lines_from(file, ended.is_set):
            ask_line(line, ask)

    thread = threading.Thread(target=ask_all, name="edgestream questions", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join(LEAVE_WITHIN_S)
