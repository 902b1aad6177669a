"""A feed that comes in bursts, spread out: packets at the speed of their time stamps."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from typing import TYPE_CHECKING

from .live_feed import Feed

if TYPE_CHECKING:
    import av

    from .live_feed import VideoPacket

LONGEST_SLEEP_S = 0.05

LONGEST_WAIT_S = 60.0
"""A packet that would have to wait longer has time stamps that leapt: it is given at once."""


class SpreadFeed:
    """Packets of a stream in segments (HLS), as evenly as they were taken. See `Feed`.

    Without it, of the seconds that come at once only the newest picture would be looked at. It
    costs the length of a segment in delay, which such a stream has anyway.

    Args:
        inner: the feed; it has time stamps.
        has_left: whether the reader is to leave.
        sleep: waits that many seconds.
        monotonic: a clock that never goes back, seconds.
    """

    has_times = True

    def __init__(
        self,
        inner: Feed,
        has_left: Callable[[], bool],
        sleep: Callable[[float], None] = time.sleep,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._inner = inner
        self._has_left = has_left
        self._sleep = sleep
        self._monotonic = monotonic

    def packets(self) -> Generator[VideoPacket | None, None, None]:
        """See `Feed`. After a packet that comes too late the next ones are given later too."""
        began_s: float | None = None  # when time stamp 0 would have been given
        for packet in self._inner.packets():
            if packet is None or packet.dts is None or packet.time_base is None:
                yield packet
                continue
            sent_s, now_s = float(packet.dts * packet.time_base), self._monotonic()
            if began_s is None or not 0 < began_s + sent_s - now_s <= LONGEST_WAIT_S:
                began_s = now_s - sent_s
            while not self._has_left() and (wait_s := began_s + sent_s - self._monotonic()) > 0:
                self._sleep(min(wait_s, LONGEST_SLEEP_S))
                yield None
            yield packet

    def decode(self, packet: VideoPacket, *, is_joining: bool) -> list[av.VideoFrame]:
        """See `Feed`."""
        return self._inner.decode(packet, is_joining=is_joining)

    def close(self) -> None:
        """Close the connection."""
        self._inner.close()
