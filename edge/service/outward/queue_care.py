"""What a queue on disk needs now and then: a flush, and a word about what it lost."""

from __future__ import annotations

import time
from collections.abc import Callable

from .disk_queue import DiskQueue
from .notices import Notices

FLUSH_EVERY_S = 1.0
"""What a power cut may cost, or a kill send twice."""


class QueueCare:
    """Takes care of one queue, from the thread that sends.

    State: when it was flushed last, how many losses have been told.

    Args:
        queue: to take care of.
        notices: take its warnings.
        name: what the warnings' codes begin with, `webhook` or `mqtt`.
        monotonic: a clock, seconds.
    """

    def __init__(
        self,
        queue: DiskQueue,
        notices: Notices,
        name: str,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._queue = queue
        self._notices = notices
        self._name = name
        self._monotonic = monotonic
        self._flushed_s = monotonic()
        self._told = 0

    def step(self) -> None:
        """Do what is due. Cost: a flush of the disk, once a second."""
        now_s = self._monotonic()
        if now_s - self._flushed_s < FLUSH_EVERY_S:
            return
        self._queue.flush()
        self._flushed_s = now_s
        self._tell()

    def _tell(self) -> None:
        counts = self._queue.counts()
        lost = counts.dropped + counts.damaged
        if lost > self._told:
            self._told = lost
            self._notices.say(
                f"{self._name}-records-lost",
                f"{counts.dropped} records for {self._name} found no more room and "
                f"{counts.damaged} could not be read again since the start; the oldest go first",
            )
        if counts.fault:
            self._notices.say(
                f"{self._name}-queue-in-memory",
                f"the disk takes no records for {self._name} ({counts.fault.lower()}): new ones "
                "wait in memory, and a kill would lose them",
            )
