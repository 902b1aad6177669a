"""One listener of the hub: which records it wants, and a bounded queue of those it has not got."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

PASSING = ("partial", "stats")
"""Types that a listener misses least: a later one says it again."""
OVERHEAD_BYTES = 400
"""Of one kept record beside its text: the object, its place, three strings' headers (measured)."""


@dataclass(frozen=True, slots=True)
class Numbered:
    """A record as listeners get it.

    Attributes:
        number: greater than that of every record before, also of earlier runs of the service.
        camera, type: of the record.
        text: its JSON, one line.
        put_s: when it came, by the clock of the hub.
    """

    number: int
    camera: str
    type: str
    text: str
    put_s: float = 0.0

    @property
    def n_bytes(self) -> int:
        """What it takes while it is kept, bytes."""
        return len(self.text.encode()) + OVERHEAD_BYTES


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which records somebody wants; empty: all.

    Attributes:
        camera: of this one alone.
        types: of these alone.
    """

    camera: str = ""
    types: frozenset[str] = frozenset()

    def __call__(self, record: Numbered) -> bool:
        is_its = not self.camera or record.camera == self.camera
        return is_its and (not self.types or record.type in self.types)


class Listener:
    """One listener's queue. `offer` is called by any thread, `take` by the loop.

    State: what waits, at most `capacity`; how many records were let go and not told yet.
    """

    def __init__(self, wanted: Wanted, capacity: int) -> None:
        self.wanted = wanted
        self._capacity = capacity
        self._lock = threading.Lock()
        self._waiting: deque[Numbered] = deque()
        self._missed = 0
        self._news = asyncio.Event()
        self.is_closed = False

    @property
    def n_waiting(self) -> int:
        """Records that wait for it."""
        return len(self._waiting)

    def offer(self, record: Numbered) -> None:
        """Let a record wait; beyond the capacity the least one goes."""
        if not self.wanted(record):
            return
        with self._lock:
            self._waiting.append(record)
            if len(self._waiting) > self._capacity:
                self._let_go()

    def _let_go(self) -> None:
        passing = (index for index, one in enumerate(self._waiting) if one.type in PASSING)
        del self._waiting[next(passing, 0)]
        self._missed += 1

    def begin_with(self, records: Iterable[Numbered], *, has_gap: bool) -> None:
        """Let these wait first; a gap before them counts as one that was missed."""
        self._waiting.extend(records)
        self._capacity += len(self._waiting)
        self._missed = int(has_gap)

    def wake(self) -> None:
        """There is news; called in the loop."""
        self._news.set()

    def close(self) -> None:
        """Nothing comes any more; called in the loop."""
        self.is_closed = True
        self._news.set()

    def forget(self, camera: str) -> None:
        """Let go what waits of a camera."""
        with self._lock:
            self._waiting = deque(one for one in self._waiting if one.camera != camera)

    async def take(self, timeout_s: float) -> tuple[int, list[Numbered]]:
        """(records missed, records), as soon as there is one; nothing after `timeout_s`."""
        if not self._waiting and not self.is_closed:
            try:
                await asyncio.wait_for(self._news.wait(), timeout_s)
            except asyncio.TimeoutError:
                return 0, []
        self._news.clear()
        with self._lock:
            taken, missed = list(self._waiting), self._missed
            self._waiting.clear()
            self._missed = 0
        return missed, taken
