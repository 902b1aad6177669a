"""The hub: every record of every camera gets a number, is kept for a while, and goes to listeners.

Records come from the threads of the cameras. Listeners belong to one asyncio loop; each has a
bounded queue, and one that is slow loses records and is told how many. Nobody waits for it.
"""

from __future__ import annotations

import asyncio
import json
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence

from ...runtime.errors import ServiceFull
from ...runtime.records import StampedRecord
from .listener import Listener, Numbered, Wanted


class Hub:
    """See the module. Safe for any number of threads.

    State: the last number, kept records within `keep_bytes`, the listeners.

    Args:
        keep_bytes: records kept for replay, at most.
        first: number before the first; from the wall clock, so that it grows over restarts.
        capacity: records that may wait for one listener.
        most: listeners at a time.
        retention_s: nothing older is kept; 0: as long as there is room.
        monotonic: seconds.
    """

    def __init__(
        self,
        *,
        keep_bytes: int,
        first: int,
        capacity: int = 256,
        most: int = 256,
        retention_s: float = 0.0,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._keep_bytes, self._capacity, self._most = keep_bytes, capacity, most
        self._retention_s, self._monotonic = retention_s, monotonic
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
            kind, now_s = stamped.record.type, self._monotonic()
            record = Numbered(self._last, stamped.camera, kind, text, now_s)
            self._kept.append(record)
            self._kept_bytes += record.n_bytes
            self._let_go()
            for listener in self._listeners:
                listener.offer(record)
        self._wake()

    def _let_go(self) -> None:
        """Let go of what is too much or too old."""
        oldest_s = self._monotonic() - self._retention_s if self._retention_s else -math.inf
        kept = self._kept
        while kept and (self._kept_bytes > self._keep_bytes or kept[0].put_s < oldest_s):
            gone = kept.popleft()
            self._kept_bytes -= gone.n_bytes
            self._gone_up_to = gone.number

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
            self._let_go()
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
            self._let_go()
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
