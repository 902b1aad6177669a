"""Ctrl-C in training waits for the end of a step, so that what was learned can be kept."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def after_the_step(is_alone: bool) -> Iterator[Callable[[], bool]]:
    """Whether Ctrl-C was given, for as long as the block lasts; a second one breaks off at once.

    Args:
        is_alone: no other process waits for what this one has of a step; else, and in a thread,
            Ctrl-C stays what it is.
    """
    asked: list[int] = []
    before = signal.getsignal(signal.SIGINT)
    is_main = threading.current_thread() is threading.main_thread()
    if not is_alone or not is_main or before is not signal.default_int_handler:
        yield lambda: False
        return

    def wait(number: int, frame: FrameType | None) -> None:
        asked.append(number)
        signal.signal(signal.SIGINT, before)

    signal.signal(signal.SIGINT, wait)
    try:
        yield lambda: bool(asked)
    finally:
        signal.signal(signal.SIGINT, before)
