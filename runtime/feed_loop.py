"""A feed out of a file that is played again and again, at its own speed, as a camera would."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from typing import TYPE_CHECKING

from .declared_times import declared_interval_s
from .errors import SourceLost
from .live_feed import decoded
from .opening import opened, video_stream

if TYPE_CHECKING:
    import av
    from av.container import InputContainer

    from .live_feed import VideoPacket

LONGEST_SLEEP_S = 0.05


class LoopFeed:
    """Packets of a file, each when its time has come; time stamps go on from round to round.

    A reader that is late gets the next packet at once.

    Args:
        path: of the file.
        has_left: whether the reader is to leave.
        sleep: waits that many seconds.
        monotonic: a clock that never goes back, seconds.
    """

    has_times = True

    def __init__(
        self,
        path: str,
        has_left: Callable[[], bool],
        sleep: Callable[[float], None] = time.sleep,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._path = path
        self._has_left = has_left
        self._sleep = sleep
        self._monotonic = monotonic
        self._end_s = 0.0  # when the last picture so far ends

    def packets(self) -> Generator[VideoPacket | None, None, None]:
        """See `Feed`.

        Raises:
            SourceError: the file has gone, or holds nothing.
        """
        began_s = self._monotonic()
        while True:
            round_s = self._end_s
            with opened(self._path) as container:
                yield from self._one_round(container, began_s, round_s)
            if self._end_s == round_s:
                raise SourceLost(f"{self._path} holds no packet that can be read")

    def _one_round(
        self, container: InputContainer, began_s: float, round_s: float
    ) -> Generator[VideoPacket | None, None, None]:
        """Packets of one round, its first picture at `round_s` after the beginning."""
        import av

        stream = video_stream(container, self._path)
        interval_s = declared_interval_s(stream)
        packets = container.demux(stream)
        shift: int | None = None
        while True:
            try:
                packet = next(packets)
            except (StopIteration, av.FFmpegError):  # what cannot be read is the end of the round
                return
            if packet.size == 0:
                yield packet  # the decoder gives what it held back
                continue
            stamp = packet.pts if packet.dts is None else packet.dts
            unit = packet.time_base
            if stamp is None or unit is None:
                continue
            if shift is None:
                shift = round(round_s / unit) - (packet.pts if packet.pts is not None else stamp)
            packet.dts = stamp + shift
            packet.pts = None if packet.pts is None else packet.pts + shift
            yield from self._wait_until(began_s + float(packet.dts * unit))
            lasts_s = float((packet.duration or 0) * unit) or interval_s
            shown = packet.dts if packet.pts is None else packet.pts
            self._end_s = max(self._end_s, float(shown * unit) + lasts_s)
            yield packet

    def _wait_until(self, due_s: float) -> Generator[None, None, None]:
        while not self._has_left() and (waiting_s := due_s - self._monotonic()) > 0:
            self._sleep(min(waiting_s, LONGEST_SLEEP_S))
            yield None

    def decode(self, packet: VideoPacket, *, is_joining: bool) -> list[av.VideoFrame]:
        """See `Feed`."""
        return decoded(packet, is_joining=is_joining)

    def close(self) -> None:
        """Nothing is held between rounds."""
