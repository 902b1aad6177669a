"""The hub: every record of every camera gets a number, is kept for a while, and goes to listeners.

Records come from the threads of the cameras. Listeners belong to one asyncio loop; each has a
bounded queue, and one that is slow loses records and is told how many. Nobody waits for it.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ...runtime.errors import ServiceFull
from ...runtime.records import StampedRecord

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
    """

    number: int
    camera: str
    type: str
    text: str

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


class Hub:
    """See the module. Safe for any number of threads.

    State: the last number, kept records within `keep_bytes`, the listeners.

    Args:
        keep_bytes: records kept for replay, at most.
        first: number before the first; from the wall clock, so that it grows over restarts.
        capacity: records that may wait for one listener.
        most: listeners at a time.
    """

    def __init__(
        self, *, keep_bytes: int, first: int, capacity: int = 256, most: int = 256
    ) -> None:
        self._keep_bytes, self._capacity, self._most = keep_bytes, capacity, most
        self._lock = threading.Lock()
        self._first = self._last = first
        self._kept: deque[Numbered] = deque()
        self._kept_bytes = 0
        self._gone_up_to = first
        self._listeners: set[Listener] = set()
        self._loop: asyncio.AbstractEventLoop | None = None

    def serve_in(self, loop: asyncio.AbstractEventLoop) -> None:
        """From now on listeners live in this loop."""
        self._loop = loop

    def put(self, stamped: StampedRecord) -> None:
        """Number a record, keep it and offer it to every listener. Never waits."""
        value = stamped.as_json()
        text = json.dumps(value, ensure_ascii=False, allow_nan=False)
        with self._lock:
            self._last += 1
            record = Numbered(self._last, stamped.camera, stamped.record.type, text)
            self._kept.append(record)
            self._kept_bytes += record.n_bytes
            while self._kept_bytes > self._keep_bytes and self._kept:
                gone = self._kept.popleft()
                self._kept_bytes -= gone.n_bytes
                self._gone_up_to = gone.number
            for listener in self._listeners:
                listener.offer(record)
        self._wake()

    def listen(self, wanted: Wanted, after: int | None = None) -> Listener:
        """A new listener; with `after`, what is kept of later records waits for it already.

        What is replayed may be more than its capacity: the reader asked for it, and it is kept
        anyway.

        Raises:
            ServiceFull: there are as many as there may be.
        """
        with self._lock:
            if len(self._listeners) >= self._most:
                raise ServiceFull(
                    f"{len(self._listeners)} listeners are connected, which is the limit",
                    hint="close one, or raise service.max_listeners",
                )
            listener = Listener(wanted, self._capacity)
            if after is not None:
                listener.begin_with(self._after(after, wanted), has_gap=self._has_gap(after))
            self._listeners.add(listener)
            return listener

    def sit(self) -> Listener:
        """A listener who wants pictures and no records: counted like the others.

        Raises:
            ServiceFull: as `listen`.
        """
        return self.listen(Wanted(types=frozenset({"no record"})))

    def leave(self, listener: Listener) -> None:
        """A listener has gone."""
        with self._lock:
            self._listeners.discard(listener)

    @property
    def listeners(self) -> int:
        """How many listen now."""
        return len(self._listeners)

    @property
    def kept_bytes(self) -> int:
        """What is kept for replay, bytes."""
        return self._kept_bytes

    @property
    def last(self) -> int:
        """The number of the newest record."""
        return self._last

    def kept(self, wanted: Wanted, limit: int) -> list[Numbered]:
        """The newest kept records, oldest first."""
        with self._lock:
            found: list[Numbered] = []
            for record in reversed(self._kept):
                if len(found) == limit:
                    break
                if wanted(record):
                    found.append(record)
        return found[::-1]

    def forget(self, camera: str) -> None:
        """Keep no record of a camera any more, also none that waits for a listener."""
        with self._lock:
            self._kept = deque(one for one in self._kept if one.camera != camera)
            self._kept_bytes = sum(one.n_bytes for one in self._kept)
            for listener in self._listeners:
                listener.forget(camera)

    def close(self) -> None:
        """Tell every listener that nothing comes any more; called in the loop."""
        for listener in self._all():
            listener.close()

    def _after(self, number: int, wanted: Wanted) -> list[Numbered]:
        return [one for one in self._kept if one.number > number and wanted(one)]

    def _has_gap(self, after: int) -> bool:
        """Whether records after this one are not kept any more; 0 asks for what there is."""
        return after < self._gone_up_to and (after > 0 or self._gone_up_to > self._first)

    def _all(self) -> Sequence[Listener]:
        with self._lock:
            return tuple(self._listeners)

    def _wake(self) -> None:
        """One call into the loop, however many listen."""
        loop = self._loop
        if loop is None or not self._listeners:
            return
        try:
            loop.call_soon_threadsafe(self._wake_all)
        except RuntimeError:  # the loop was closed: the service is ending
            self._loop = None

    def _wake_all(self) -> None:
        for listener in self._all():
            listener.wake()


class HubSink:
    """The hub as a sink of one camera; see `Sink`."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub

    def send(self, record: StampedRecord) -> None:
        self._hub.put(record)

    def close(self) -> None:
        """The hub outlives every camera."""
