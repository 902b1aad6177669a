"""Pictures that a client sends along: data: URLs alone, their size looked up before decoding."""

from __future__ import annotations

import base64
import binascii
import struct
from typing import TYPE_CHECKING, cast

from ...runtime.errors import BodyTooLarge, RequestInvalid
from ...runtime.rgb_from_av import RgbConverter
from ...runtime.values import UInt8

if TYPE_CHECKING:
    import av

PNG = b"\x89PNG\r\n\x1a\n"
JPEG = b"\xff\xd8\xff"
# Markers that begin a frame of a JPEG; the others of this row are tables.
FRAME_MARKERS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
BLOCKS_PX = 65_536
LONE_MARKERS = frozenset({0x01, *range(0xD0, 0xD8)})


def image_from_url(url: str, *, most_px: int, max_side_px: int) -> UInt8:
    """The picture in a data: URL, (height, width, 3) uint8 RGB.

    Args:
        url: `data:image/jpeg;base64,…` or the same of a PNG.
        most_px: pixels that it may have; more are refused before anything is decoded.
        max_side_px: a longer side is scaled down to this.

    Raises:
        RequestInvalid: it is another URL, or no such picture.
        BodyTooLarge: it has more pixels.
    """
    return decoded_image(_bytes_from_url(url), most_px=most_px, max_side_px=max_side_px)


def decoded_image(data: bytes, *, most_px: int, max_side_px: int) -> UInt8:
    """The picture in a JPEG or PNG; see `image_from_url`."""
    width, height = image_size(data)
    if width * height > most_px:
        raise BodyTooLarge(
            f"got a picture of {width} x {height} px, expected at most {most_px} pixels",
            hint="send a smaller one, or raise service.max_image_mpx",
        )
    picture = _decoded(data, most_px)
    if (picture.width, picture.height) != (width, height):
        raise _invalid(f"the picture is no {width} x {height} px, as it says")
    return RgbConverter(max_side_px).convert(picture)


def image_size(data: bytes) -> tuple[int, int]:
    """(width, height) that the head of a JPEG or PNG states, px. Decodes nothing.

    Raises:
        RequestInvalid: it is neither, or states no size.
    """
    if data.startswith(PNG):
        size = _png_size(data)
    elif data.startswith(JPEG):
        size = _jpeg_size(data)
    else:
        raise _invalid("the picture is no JPEG and no PNG")
    if size is None or 0 in size:
        raise _invalid("the picture states no size")
    return size


def _bytes_from_url(url: str) -> bytes:
    head, comma, text = url.partition(",")
    if not comma or not head.startswith("data:image/") or not head.endswith(";base64"):
        raise _invalid(
            f"got the picture {url[:40]!r}…, expected data:image/jpeg;base64,… or png: the "
            "service fetches nothing from the network"
        )
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise _invalid(f"the picture is no base64: {error}") from error


def _png_size(data: bytes) -> tuple[int, int] | None:
    if len(data) < 24 or data[12:16] != b"IHDR":
        return None
    width, height = struct.unpack(">II", data[16:24])
    return width, height


def _jpeg_size(data: bytes) -> tuple[int, int] | None:
    """Of the largest frame that is stated: a second one must not be larger than the first."""
    largest: tuple[int, int] | None = None
    at = 2
    while at + 4 <= len(data):
        if data[at] != 0xFF:
            at += 1  # within a scan
            continue
        marker = data[at + 1]
        if marker in LONE_MARKERS or marker in (0x00, 0xFF, 0xD8):
            at += 1 if marker == 0xFF else 2
            continue
        if marker == 0xD9:
            break
        length = int.from_bytes(data[at + 2 : at + 4], "big")
        if marker in FRAME_MARKERS and at + 9 <= len(data):
            height, width = struct.unpack(">HH", data[at + 5 : at + 9])
            largest = max(largest or (0, 0), (width, height), key=lambda one: one[0] * one[1])
        at += 2 + length
    return largest


def _decoded(data: bytes, most_px: int) -> av.VideoFrame:
    """The picture; no larger than it said, since FFmpeg finds sizes where nobody else looks."""
    import av

    codec = "png" if data.startswith(PNG) else "mjpeg"
    try:
        decoder = cast("av.VideoCodecContext", av.CodecContext.create(codec, "r"))
        decoder.thread_count = 1
        # FFmpeg counts what it decodes in whole blocks.
        decoder.options = {"max_pixels": str(2 * most_px + BLOCKS_PX)}
        pictures = [*decoder.decode(av.Packet(data)), *decoder.decode(None)]
    except (av.FFmpegError, ValueError) as error:
        raise _invalid(f"the picture cannot be decoded: {error}") from error
    if not pictures:
        raise _invalid("the picture cannot be decoded")
    return pictures[0]


def _invalid(message: str) -> RequestInvalid:
    return RequestInvalid(message, hint="send a JPEG or PNG as data:image/…;base64,…")
