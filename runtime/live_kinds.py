"""The kinds of live sources: what each address means, and how its connection is opened."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from functools import partial

from .addresses import camera_name, check_network_address, options_in
from .errors import SettingsInvalid, SourceLost, SourceMissing
from .live_feed import Feed, opened_by_av
from .live_source import LiveSource
from .sources import SourceSettings

SIZE, RATE = r"[1-9]\d{1,4}x[1-9]\d{1,4}", r"[1-9]\d{0,2}"
DEVICE_OPTIONS = {"size": SIZE, "fps": RATE, "format": r"[a-z0-9]{1,16}"}
SCREEN_OPTIONS = {"size": SIZE, "fps": RATE}
SCREEN_FPS = "10"

# Long enough to see the first key frame's header, short enough that a camera is open in a second;
# by default FFmpeg looks at five seconds.
PROBING = {"analyzeduration": "1000000", "probesize": "1000000", "fpsprobesize": "0"}
# What an answer of a camera may make FFmpeg open: never a file of this device.
RTSP = {"rtsp_transport": "tcp", "allowed_media_types": "video", "protocol_whitelist": "tcp,tls"}
HTTP = {"protocol_whitelist": "http,https,tcp,tls,httpproxy,crypto"}

V4L2 = "video4linux2,v4l2"


def network_source(address: str, settings: SourceSettings) -> LiveSource:
    """The camera at `rtsp://`, `rtsps://`, `http://` or `https://` (MJPEG, HLS).

    Raises:
        SettingsInvalid: no host can be told from it.
    """
    check_network_address(address)
    name = camera_name(address)
    kind = RTSP if address.startswith("rtsp") else HTTP

    def open_feed(has_left: Callable[[], bool]) -> Feed:
        return opened_by_av(address, name, settings.live, options={**PROBING, **kind})

    return LiveSource(name, open_feed, settings)


def device_source(address: str, settings: SourceSettings) -> LiveSource:
    """The camera at `/dev/videoN` or `v4l2:/dev/videoN`, perhaps with options.

    Raises:
        SettingsInvalid: an option is unknown or wrong.
        SourceMissing: there is no such device.
    """
    path, options = options_in(address, "v4l2:", DEVICE_OPTIONS)
    if not path.startswith("/dev/"):
        raise SettingsInvalid(
            f"got the source {address!r}, expected v4l2:/dev/videoN[?size=WxH&fps=N&format=mjpeg]"
        )
    if not os.path.exists(path):
        raise SourceMissing(
            f"got the source {path!r}, but there is no such device",
            hint="`v4l2-ctl --list-devices` or `ls /dev/video*` shows those there are",
        )
    name = os.path.basename(path)
    return LiveSource(name, partial(_device_feed, path, name, options, settings), settings)


def _device_feed(
    path: str,
    name: str,
    options: dict[str, str],
    settings: SourceSettings,
    has_left: Callable[[], bool],
) -> Feed:
    import av

    if V4L2 not in av.formats_available:
        from .feed_gst import GstFeed, check_gst_present

        check_gst_present()
        return GstFeed(gst_of_device(path, options), name, settings.live, has_left)
    names = {"size": "video_size", "fps": "framerate", "format": "input_format"}
    chosen = {names[key]: value for key, value in options.items()}
    return opened_by_av(path, name, settings.live, format_name="v4l2", options=chosen)


def gst_of_device(path: str, options: dict[str, str]) -> list[str]:
    """The words of a pipeline that reads a camera, where FFmpeg was built without.

    Args:
        path: of the device.
        options: as of `device_source`.
    """
    is_jpeg = options.get("format") == "mjpeg"
    caps = "image/jpeg" if is_jpeg else "video/x-raw"
    if "size" in options:
        width, _, height = options["size"].partition("x")
        caps += f",width={width},height={height}"
    if "fps" in options:
        caps += f",framerate={options['fps']}/1"
    return ["v4l2src", f"device={path}", "!", caps, *(["!", "jpegdec"] if is_jpeg else [])]


def screen_source(address: str, settings: SourceSettings) -> LiveSource:
    """The X11 screen at `screen:[DISPLAY]`.

    Raises:
        SettingsInvalid: an option is unknown or wrong, or no display is named anywhere.
    """
    display, options = options_in(address, "screen:", SCREEN_OPTIONS)
    display = display or os.environ.get("DISPLAY", "")
    if re.fullmatch(r"[A-Za-z0-9_.-]*:\d+(\.\d+)?(\+\d+,\d+)?", display) is None:
        raise SettingsInvalid(
            f"got the source {address!r} and the display {display!r}, "
            "expected screen:[DISPLAY][?size=WxH&fps=N] with a display such as :0.0",
            hint="only X11 can be watched; see `echo $DISPLAY`",
        )
    chosen = {"framerate": options.get("fps", SCREEN_FPS)}
    chosen.update({"video_size": options["size"]} if "size" in options else {})

    def open_feed(has_left: Callable[[], bool]) -> Feed:
        try:
            return opened_by_av(
                display, "screen", settings.live, format_name="x11grab", options=chosen
            )
        except SourceLost as error:
            raise SourceLost(f"the display {display} cannot be read: {error.message}") from None

    return LiveSource("screen", open_feed, settings)


def gst_source(address: str, settings: SourceSettings) -> LiveSource:
    """The pipeline behind `gst:`.

    Raises:
        SettingsInvalid: it is no pipeline.
        SourceUnreadable: GStreamer is not installed.
    """
    from .feed_gst import GstFeed, check_gst_present, gst_words

    words = gst_words(address.removeprefix("gst:"))
    check_gst_present()

    def open_feed(has_left: Callable[[], bool]) -> Feed:
        return GstFeed(words, "gst", settings.live, has_left)

    return LiveSource("gst", open_feed, settings)


def loop_source(address: str, settings: SourceSettings) -> LiveSource:
    """The file behind `loop:`, again and again.

    Raises:
        SourceError: as of a file; it is opened and closed once.
    """
    from .feed_loop import LoopFeed
    from .source_file import VideoFile

    path = address.removeprefix("loop:")
    name = VideoFile(path, settings).name
    return LiveSource(name, lambda has_left: LoopFeed(path, has_left), settings)
