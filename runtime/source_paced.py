"""A file played at its own speed, as if it were live."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator

from .records import Record
from .sources import RETURN_WITHIN_S, Source
from .values import Frame

# Half the bound, since a sleep may take longer than asked; and not so short that the clock would
# not move at all.
LONGEST_SLEEP_S = RETURN_WITHIN_S / 2
SHORTEST_SLEEP_S = 0.001


class PacedSource:
    """Gives each frame when its time has come, never before. See `Source` for the protocol.

    A consumer that is late gets the next frame at once: what is to be dropped is not decided here.
    Then, and where the inner source is slow, a frame's time lies before `now_s`, as with a camera.

    Args:
        source: finite; its frames are timed from 0.
        sleep: waits that many seconds.
        monotonic: a clock that never goes back, seconds.
        wall: the time of day, seconds since 1970.
    """

    is_live = True

    def __init__(
        self,
        source: Source,
        sleep: Callable[[float], None] = time.sleep,
        monotonic: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self.name = source.name
        self.duration_s = source.duration_s
        self._source = source
        self._sleep = sleep
        self._monotonic = monotonic
        self._wall = wall
        self._started_s: float | None = None
        self._ended_s: float | None = None

    def now_s(self) -> float:
        """Stream time, seconds: runs with the clock from the first frame to the end of the file."""
        if self._ended_s is not None:
            return self._ended_s
        if self._started_s is None:
            return 0.0
        return self._monotonic() - self._started_s

    def frames(self, tell: Callable[[Record], None]) -> Iterator[Frame | None]:
        """The frames of the inner source, each at its time, with `captured_s` set; else None.

        `captured_s` is when a camera would have taken it: not later when the consumer is late.
        """
        self._started_s = self._ended_s = None
        started_wall_s = 0.0
        inner = self._source.frames(tell)
        try:
            for frame in inner:
                if frame is None:
                    yield None
                    continue
                if self._started_s is None:
                    self._started_s = self._monotonic() - frame.time_s
                    started_wall_s = self._wall() - frame.time_s
                yield from self._wait_until(frame.time_s)
                yield Frame(frame.index, frame.time_s, frame.pixels, started_wall_s + frame.time_s)
            yield from self._wait_until(self._source.now_s())
            self._ended_s = max(self.now_s(), self._source.now_s())
        finally:
            if isinstance(inner, Generator):
                inner.close()

    def _wait_until(self, time_s: float) -> Iterator[None]:
        while (waiting_s := time_s - self.now_s()) > 0:
            self._sleep(min(max(waiting_s, SHORTEST_SLEEP_S), LONGEST_SLEEP_S))
            if self.now_s() < time_s:
                yield None
