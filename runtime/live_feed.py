"""A feed: one open connection to a live source, as packets that FFmpeg has read and can decode."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Mapping
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, cast

from .errors import SourceLost, SourceUnreadable
from .opening import LARGE_PICTURE_PX, lenient_about_text, video_stream

if TYPE_CHECKING:
    import av
    from av.container import InputContainer
    from av.packet import Packet
    from av.video.stream import VideoStream

    from .live_rules import LiveRules

    VideoPacket: TypeAlias = Packet[VideoStream]

# Their demuxers make time stamps up out of a frame rate that nobody promised: arrival says more.
INVENTED_TIMES = frozenset({"mjpeg", "mpjpeg", "yuv4mpegpipe"})

# A camera sends no picture above 8K; a broken or hostile stream may announce one of gigabytes.
MOST_PIXELS = 8192 * 4608


class Feed(Protocol):
    """An open connection."""

    @property
    def has_times(self) -> bool:
        """Whether pictures carry time stamps that mean something."""

    def packets(self) -> Generator[VideoPacket | None, None, None]:
        """Video packets as they come; None after anything else, so that control comes back.

        Raises:
            SourceLost: nothing more will come; the message is the reason, without secrets.
        """

    def decode(self, packet: VideoPacket, *, is_joining: bool) -> list[av.VideoFrame]:
        """The pictures that come out of the decoder for a packet that goes in.

        Args:
            packet: of `packets`.
            is_joining: packets before it were left out: forget what the decoder knows of them.

        Raises:
            av.FFmpegError: it is damaged.
        """

    def close(self) -> None:
        """Close the connection, from the thread that reads."""


OpenFeed: TypeAlias = Callable[[Callable[[], bool]], Feed]
"""(has the reader been told to leave) -> an open Feed; raises a SourceError whose message is the
reason. It may block for `LiveRules.open_timeout_s`."""


class AvFeed:
    """A feed that FFmpeg reads by itself.

    Args:
        container: open; belongs to the feed.
        camera: the name for messages.
        stall_s: what its read timeout is, seconds, for the reason.

    Raises:
        SourceHasNoVideo, SourceUnreadable: it holds nothing that can be decoded.
    """

    def __init__(self, container: InputContainer, camera: str, stall_s: float) -> None:
        self._container = container
        self._stall_s = stall_s
        self._stream = _live_stream(container, camera)
        self.has_times = container.format.name not in INVENTED_TIMES

    def packets(self) -> Generator[VideoPacket | None, None, None]:
        """See `Feed`. Other streams than the video's are read as well, and give None."""
        import av

        packets = self._container.demux()
        while True:
            asked_s = time.monotonic()
            try:
                packet = next(packets)
            except StopIteration:
                raise SourceLost("the stream has ended") from None
            except av.FFmpegError as error:
                if time.monotonic() - asked_s >= self._stall_s:
                    raise SourceLost(f"nothing came for {self._stall_s:g} s") from None
                raise SourceLost(reason_of(error)) from None
            is_video = packet.stream_index == self._stream.index
            yield cast("VideoPacket", packet) if is_video else None

    def decode(self, packet: VideoPacket, *, is_joining: bool) -> list[av.VideoFrame]:
        """See `Feed`."""
        return decoded(packet, is_joining=is_joining)

    def close(self) -> None:
        """Close the connection."""
        self._container.close()


def decoded(packet: VideoPacket, *, is_joining: bool) -> list[av.VideoFrame]:
    """The pictures of a packet that knows its stream; see `Feed.decode`."""
    if is_joining:
        packet.stream.codec_context.flush_buffers()
    return packet.decode()


def _live_stream(container: InputContainer, camera: str) -> VideoStream:
    """The video stream, set up so that a picture comes out as soon as its packet is in."""
    stream = video_stream(container, camera)
    context = stream.codec_context
    # Threads that each hold a whole picture would each delay it by one.
    stream.thread_type = "SLICE"
    if context.width * context.height < LARGE_PICTURE_PX:
        context.thread_count = 1
    context.options = {"max_pixels": str(MOST_PIXELS)}
    return stream


def opened_by_av(
    place: str,
    camera: str,
    rules: LiveRules,
    *,
    format_name: str | None = None,
    options: Mapping[str, str],
) -> AvFeed:
    """The feed at a place that FFmpeg opens by itself.

    Args:
        place: address or device; may hold a password, and never gets into a message.
        camera: the name for messages.
        rules: how long opening and reading may take.
        format_name: FFmpeg's name of the demuxer or device; None to find out.
        options: FFmpeg's own.

    Raises:
        SourceError: the message is the reason.
    """
    import av

    begun_s = time.monotonic()
    try:
        container = av.open(
            place,
            format=format_name,
            options=dict(options),
            timeout=(rules.open_timeout_s, rules.stall_s),
            **_lenient(),
        )
    except av.FFmpegError as error:
        # FFmpeg has many names for being interrupted, so the clock says whether it was.
        if time.monotonic() - begun_s >= rules.open_timeout_s:
            raise SourceLost(f"no answer within {rules.open_timeout_s:g} s") from None
        raise SourceLost(reason_of(error)) from None  # the cause would name the place
    try:
        if container.duration:
            raise SourceUnreadable(
                f"{camera} is a recording of {container.duration / 1e6:.0f} s, expected a camera "
                "that goes on",
                hint="download it and watch the file",
            )
        return AvFeed(container, camera, rules.stall_s)
    except BaseException:
        container.close()
        raise


def _lenient() -> dict[str, Any]:
    import av

    return lenient_about_text(av.__version__)


def reason_of(error: av.FFmpegError) -> str:
    """Why FFmpeg gave up, in words that hold neither address nor password.

    Args:
        error: what it raised; its file name is left out.
    """
    import av

    known: dict[type[av.FFmpegError], str] = {
        av.error.EOFError: "the connection was closed",
        av.error.HTTPUnauthorizedError: "401 Unauthorized: user name or password is missing or "
        "wrong",
        av.error.HTTPForbiddenError: "403 Forbidden: this user may not see it",
        av.error.HTTPNotFoundError: "404 Not Found: there is no such path",
        av.error.InvalidDataError: "no video could be read there",
    }
    return known.get(type(error), error.strerror or "FFmpeg gave no reason")
