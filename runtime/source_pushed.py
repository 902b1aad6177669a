"""A source whose pictures are handed in from outside: a browser's camera, as JPEGs or decoded."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, TypeAlias, cast

from .errors import CameraTaken, SettingsInvalid, SourceLost, SourceUnreadable
from .jpeg_size import jpeg_size_px
from .live_source import LiveSource
from .sources import SourceSettings

if TYPE_CHECKING:
    import av
    from av.video.codeccontext import VideoCodecContext

    from .live_feed import VideoPacket

    Picture: TypeAlias = "bytes | av.VideoFrame"

PREFIX = "browser:"
LARGEST_JPEG_BYTES = 4_000_000
LARGEST_PX = 4096 * 4096
GIVES_WAY_AFTER_S = 5.0
"""A peer that sent nothing for so long has its place taken by one that comes: a phone that lost its
network comes back before anyone notices that its old connection is dead."""

STANDING_FOR_A_PICTURE = b"\0"
"""An empty packet would mean the end of a stream."""

LOOK_EVERY_S = 0.05
AGAIN_AFTER_S = 0.1
"""Waiting for a page that has gone costs nothing, and it is to be seen as soon as it is back."""


class Pushed:
    """The newest picture that was handed in, and who hands in. Safe for several threads.

    State: the one peer that is connected, one picture, when something last came.
    """

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._changed = threading.Condition()
        self._picture: Picture | None = None
        self._peer: object = None
        self._came_s = 0.0

    def join(self, peer: object) -> bool:
        """A peer is connected, or not: another one is, and was heard a moment ago."""
        with self._changed:
            now_s = self._monotonic()
            if self._peer is not None and now_s - self._came_s < GIVES_WAY_AFTER_S:
                return False
            self._peer, self._came_s = peer, now_s
            self._changed.notify_all()
            return True

    def leave(self, peer: object) -> None:
        """A peer has gone; nothing where another has its place."""
        with self._changed:
            if self._peer is peer:
                self._peer = None
                self._changed.notify_all()

    def is_held(self, peer: object) -> bool:
        """Whether it is this peer that is connected."""
        return self._peer is peer

    def is_joined(self) -> bool:
        """Whether anyone is connected."""
        return self._peer is not None

    def wait_joined(self, within_s: float) -> bool:
        """Whether anyone is connected, waiting that long for it."""
        with self._changed:
            return self._changed.wait_for(self.is_joined, within_s)

    def put(self, picture: Picture) -> None:
        """The newest one; takes the place of one that was not looked at yet."""
        with self._changed:
            self._picture = picture
            self._came_s = self._monotonic()
            self._changed.notify_all()

    def take(self, within_s: float) -> Picture | None:
        """The newest one, waiting that long for it; None where there is none."""
        with self._changed:
            self._changed.wait_for(lambda: self._picture is not None, within_s)
            picture, self._picture = self._picture, None
            return picture

    def silent_s(self) -> float:
        """For how long nothing came, seconds."""
        with self._changed:
            return self._monotonic() - self._came_s


class PushedFeed:
    """Pushed pictures as packets. See `Feed`; each was taken when it came.

    State: the decoder, and a picture that came decoded, while its packet goes round.

    Args:
        pushed: what is handed in.
        stall_s: how long a connected peer may be silent, seconds.
    """

    has_times = False

    def __init__(self, pushed: Pushed, stall_s: float) -> None:
        from av import CodecContext

        self._pushed = pushed
        self._stall_s = stall_s
        self._decoded: av.VideoFrame | None = None
        self._decoder: VideoCodecContext = CodecContext.create("mjpeg", "r")
        self._decoder.thread_count = 1
        self._decoder.options = {"max_pixels": str(LARGEST_PX)}

    def packets(self) -> Generator[VideoPacket | None, None, None]:
        """See `Feed`."""
        import av

        while True:
            picture = self._pushed.take(LOOK_EVERY_S)
            if picture is not None:
                self._decoded = None if isinstance(picture, bytes) else picture
                packet = av.Packet(
                    picture if isinstance(picture, bytes) else STANDING_FOR_A_PICTURE
                )
                packet.is_keyframe = True
                yield cast("VideoPacket", packet)
                continue
            if not self._pushed.is_joined():
                raise SourceLost("the page has gone")
            if self._pushed.silent_s() > self._stall_s:
                raise SourceLost(f"the page sent nothing for {self._stall_s:g} s")
            yield None

    def decode(self, packet: VideoPacket, *, is_joining: bool) -> list[av.VideoFrame]:
        """See `Feed`."""
        decoded, self._decoded = self._decoded, None
        return self._decoder.decode(packet) if decoded is None else [decoded]

    def close(self) -> None:
        """Nothing is held."""


class PushedSource(LiveSource):
    """A live source whose pictures are pushed; see `LiveSource`.

    It waits for a peer: connecting until the first picture, lost when the peer has gone or is
    silent for `live.stall_s`. Only the newest picture is looked at; times are those of arrival.

    Args:
        name: of the camera in records.
        settings: sampling, largest side, and `live`.
    """

    def __init__(self, name: str, settings: SourceSettings) -> None:
        self._pushed = Pushed()
        live = replace(settings.live, backoff_s=AGAIN_AFTER_S, backoff_most_s=AGAIN_AFTER_S)
        super().__init__(name, self._opened, replace(settings, live=live))

    def _opened(self, has_left: Callable[[], bool]) -> PushedFeed:
        """Waits for as long as it takes: a camera in a page is there when somebody opens it."""
        while not self._pushed.wait_joined(LOOK_EVERY_S):
            if has_left():
                raise SourceLost("nobody waits for it any more")
        return PushedFeed(self._pushed, self._settings.live.stall_s)

    @contextmanager
    def connected(self) -> Iterator[Callable[[], bool]]:
        """A peer is there while the block lasts; gives whether it has its place still.

        Raises:
            CameraTaken: another one is there, and sent something in the last GIVES_WAY_AFTER_S.
        """
        peer = object()
        if not self._pushed.join(peer):
            raise CameraTaken(
                f"somebody else sends the pictures of {self.name}",
                hint="have them stop, or add a camera of another name",
            )
        try:
            yield lambda: self._pushed.is_held(peer)
        finally:
            self._pushed.leave(peer)

    def push(self, jpeg: bytes) -> None:
        """Hand in a picture; from any thread, inside `connected`. Never waits.

        Raises:
            SourceUnreadable: it is no JPEG, or larger than 4 MB or 4096 x 4096 pixels. One with a
                good header that cannot be decoded is counted as damaged instead.
        """
        if len(jpeg) > LARGEST_JPEG_BYTES:
            raise SourceUnreadable(
                f"got a picture of {len(jpeg)} bytes, expected at most {LARGEST_JPEG_BYTES}",
                hint="send a smaller picture, or a lower quality",
            )
        _check_size(*jpeg_size_px(jpeg))
        self._pushed.put(bytes(jpeg))

    def push_decoded(self, picture: av.VideoFrame) -> None:
        """Hand in a picture that is decoded already; see `push`.

        Raises:
            SourceUnreadable: it is larger than 4096 x 4096 pixels.
        """
        _check_size(picture.width, picture.height)
        self._pushed.put(picture)


def _check_size(width: int, height: int) -> None:
    if width * height > LARGEST_PX:
        raise SourceUnreadable(
            f"got a picture of {width} x {height} px, expected at most 4096 x 4096 in all",
            hint="send a smaller picture; 1280 x 720 is all that is looked at",
        )


def pushed_source(address: str, settings: SourceSettings) -> PushedSource:
    """The source at `browser:[NAME]`.

    Raises:
        SettingsInvalid: what follows is no name.
    """
    name = address.removeprefix(PREFIX)
    if re.fullmatch(r"[A-Za-z0-9_.-]{0,64}", name) is None:
        raise SettingsInvalid(f"got the source {address!r}, expected browser: or browser:NAME")
    return PushedSource(name or "browser", settings)
