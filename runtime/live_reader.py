"""The reader of a live source: in a thread of its own it connects, decodes, samples, and again."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .backoff import Backoff
from .capture_clock import CaptureClock, Captured
from .declared_times import raw_time_s
from .errors import SourceError, SourceLost
from .lag_guard import LagGuard, Verdict
from .live_feed import Feed, OpenFeed
from .live_link import LiveLink
from .records import camera_state
from .rgb_from_av import RgbConverter
from .sampling import Sampler
from .sources import SourceSettings
from .values import Frame

if TYPE_CHECKING:
    import av

    from .live_feed import VideoPacket

# What FFmpeg needs to notice that its own time limit has passed; then its reason is the better one.
GRACE_S = 2.0

# A camera may take long to its next key frame, while packets come: some send one in 20 s.
STALLS_WITHOUT_PICTURE = 3


@dataclass(frozen=True, slots=True)
class Clocks:
    """The clocks of a live source, handed in so that a test can step them.

    Attributes:
        monotonic: never goes back, seconds.
        wall: the time of day, seconds since 1970.
    """

    monotonic: Callable[[], float] = time.monotonic
    wall: Callable[[], float] = time.time


class LiveReader:
    """Reads one live source until its link is stopped.

    State: capture clock, sampler, number of the next frame, when stream time began; of the present
    connection: lag guard, when it gave its first and last picture, whether it had a key frame.

    Args:
        camera: the source's name, for reasons.
        open_feed: opens a connection.
        settings: sampling, largest side, and `live`: when a connection counts as lost.
        link: where frames and states go, and where the wish to leave comes from.
        backoff: how long to wait between two tries.
        clocks: of the source.
    """

    def __init__(
        self,
        camera: str,
        open_feed: OpenFeed,
        settings: SourceSettings,
        link: LiveLink,
        backoff: Backoff,
        clocks: Clocks,
    ) -> None:
        self.began_s: float | None = None
        self._camera = camera
        self._open_feed = open_feed
        self._rules = settings.live
        self._link = link
        self._backoff = backoff
        self._clocks = clocks
        self._capture = CaptureClock()
        self._guard = LagGuard(settings.live.max_lag_s)
        self._sampler = Sampler(settings.fps)
        self._max_side_px = settings.max_side_px
        self._index = 0
        self._first_at_s: float | None = None
        self._last_at_s = 0.0
        self._is_joined = False

    def run(self) -> None:
        """Connect and read, again and again; a bug ends it and reaches the consumer."""
        try:
            while self._link.wait_unpaused():
                held_s = self._connection()
                if not self._link.is_leaving():
                    self._link.sleep(self._backoff.after(held_s))
        except BaseException as error:  # whatever ends a thread must reach the consumer
            self._link.fail(error)

    def _connection(self) -> float:
        """One connection from its opening to its end; for how long it gave pictures, seconds."""
        self._first_at_s = None
        self._link.tried()
        self._link.expect_sign(self._rules.open_timeout_s + GRACE_S)
        try:
            feed = self._open_feed(self._link.is_leaving)
            try:
                self._read(feed)
            finally:
                feed.close()
        except SourceError as error:
            if not self._link.is_leaving():
                self._link.move("lost", f"{self._camera} is lost: {error.message}")
        return 0.0 if self._first_at_s is None else self._last_at_s - self._first_at_s

    def _read(self, feed: Feed) -> None:
        """Read until the user leaves.

        Raises:
            SourceLost: the connection ended, or gives no pictures.
        """
        self._capture.anchor()
        self._guard.reset()
        self._converter = RgbConverter(self._max_side_px)
        self._is_joined = False
        self._last_at_s = asked_s = self._clocks.monotonic()
        self._link.expect_sign(self._rules.stall_s + GRACE_S)
        with closing(feed.packets()) as packets:
            for packet in packets:
                arrived_s = self._clocks.monotonic()
                if self._link.is_leaving():
                    return
                if packet is not None:
                    self._take(feed, packet, arrived_s, arrived_s - asked_s)
                self._check_pictures(arrived_s)
                asked_s = self._clocks.monotonic()
                self._link.expect_sign(self._rules.stall_s + GRACE_S)

    def _check_pictures(self, now_s: float) -> None:
        longest_s = STALLS_WITHOUT_PICTURE * self._rules.stall_s
        if now_s - self._last_at_s > longest_s:
            what = "picture" if self._is_joined else "key frame"
            raise SourceLost(f"packets come, but no {what} for {longest_s:g} s")

    def _take(self, feed: Feed, packet: VideoPacket, arrived_s: float, waited_s: float) -> None:
        """Decode a packet, unless it cannot be decoded yet or is too late to be worth it."""
        import av

        if packet.is_corrupt:
            self._damaged(1)
        verdict = Verdict.DECODE
        if packet.size:  # an empty one has the decoder give what it held back
            self._is_joined = self._is_joined or packet.is_keyframe
            if not self._is_joined:
                return
            verdict = self._judged(feed, packet, arrived_s, waited_s)
        if verdict is Verdict.SKIP:
            self._link.drop("late frames")
            return
        try:
            pictures = feed.decode(packet, is_joining=verdict is not Verdict.DECODE)
        except av.FFmpegError:
            self._damaged(1)
            return
        for picture in pictures:
            self._picture(picture, arrived_s, feed.has_times)

    def _judged(
        self, feed: Feed, packet: VideoPacket, arrived_s: float, waited_s: float
    ) -> Verdict:
        lag_s = self._capture.lag_s(_sent_s(packet), arrived_s) if feed.has_times else None
        verdict = self._guard.step(arrived_s, waited_s, lag_s, packet.is_keyframe)
        if verdict is Verdict.ANCHOR and feed.has_times:
            self._capture.anchor()
            self._link.fault("source-late", 1, self._late_text)
        return verdict

    def _picture(self, picture: av.VideoFrame, arrived_s: float, has_times: bool) -> None:
        self._damaged(picture.is_corrupt)
        pts_s = raw_time_s(picture, has_display_times=True) if has_times else None
        captured = self._capture.step(pts_s, arrived_s)
        self._last_at_s = arrived_s
        if self._first_at_s is None:
            self._first_at_s = arrived_s
        if self.began_s is None:
            self.began_s = captured.at_s
        self._say(picture, captured)
        time_s = captured.at_s - self.began_s
        if self._sampler.takes(time_s):
            self._put(picture, time_s, captured)

    def _say(self, picture: av.VideoFrame, captured: Captured) -> None:
        self._link.decoded(captured.lag_s)
        size = f"{picture.width}x{picture.height}"
        self._link.move("open", f"watching {self._camera}, {size}")
        if captured.is_rebased:
            reason = f"the clock of {self._camera} began again; stream time goes on"
            self._link.note(camera_state("rebased", reason))

    def _put(self, picture: av.VideoFrame, time_s: float, captured: Captured) -> None:
        import av

        try:
            pixels = self._converter.convert(picture)
        except av.FFmpegError:
            self._damaged(1)
            return
        ago_s = self._clocks.monotonic() - captured.at_s
        self._link.put(Frame(self._index, time_s, pixels, self._clocks.wall() - ago_s))
        self._index += 1

    def _damaged(self, count: int) -> None:
        if count:
            self._link.fault("source-damaged", int(count), self._damaged_text)

    def _damaged_text(self, count: int) -> str:
        return f"{self._camera}: {count} damaged piece(s), left out or patched"

    def _late_text(self, count: int) -> str:
        return (
            f"{self._camera}: pictures come later than they did, by more than "
            f"{self._rules.max_lag_s:g} s ({count} time(s)); its clock or the network is slow"
        )


def _sent_s(packet: VideoPacket) -> float | None:
    stamp = packet.dts if packet.pts is None else packet.pts
    return None if stamp is None else float(stamp * packet.time_base)
