"""RGB pixels of a decoded picture: upright, with the right colours, no larger than asked."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from .values import UInt8

if TYPE_CHECKING:
    import av

# A picture that does not name its colour matrix: SD is BT.601, HD is BT.709, by the habit of every
# encoder and player. swscale alone would take BT.601 for both, and be 23 levels off in HD.
HD_HEIGHT_PX = 720
HD_WIDTH_PX = 1280
UNSPECIFIED_MATRIX = 2  # AVCOL_SPC_UNSPECIFIED

# swscale's own numbers (libswscale/swscale.h). Without the last two, AREA turns white into 253.
SWS_AREA = 0x20
SWS_FULL_CHR_H_INT = 0x2000
SWS_ACCURATE_RND = 0x40000


class RgbConverter:
    """Turns decoded pictures into RGB pixels; keeps swscale's context between pictures.

    Alpha is left out. Pixels that are not square stay as they are. A mirrored picture (EXIF
    orientation 2, 4, 5, 7) is not mirrored back: PyAV gives the angle alone.

    Args:
        max_side_px: a longer side than this is scaled down to it, by area averaging.
    """

    def __init__(self, max_side_px: int) -> None:
        from av.video.reformatter import VideoReformatter

        self._max_side_px = max_side_px
        self._reformatter = VideoReformatter()

    def convert(self, picture: av.VideoFrame) -> UInt8:
        """(height, width, 3) uint8 RGB, contiguous.

        Raises:
            av.FFmpegError: swscale does not know the pixel format.

        Cost: 0.3 ms for 1280x720, 1.0 ms when scaled from there to 640x360 (one core of a server).
        """
        rgb = self._reformatter.reformat(
            picture, format="rgb24", **self._scaling(picture), **_colour_matrix(picture)
        )
        return _upright(np.asarray(rgb.to_ndarray(), np.uint8), picture.rotation)

    def _scaling(self, picture: av.VideoFrame) -> dict[str, Any]:
        longer_px = max(picture.width, picture.height)
        if longer_px <= self._max_side_px:
            return {}
        ratio = self._max_side_px / longer_px
        return {
            "width": max(1, round(picture.width * ratio)),
            "height": max(1, round(picture.height * ratio)),
            "interpolation": SWS_AREA | SWS_FULL_CHR_H_INT | SWS_ACCURATE_RND,
        }


def _colour_matrix(picture: av.VideoFrame) -> dict[str, Any]:
    from av.video.reformatter import Colorspace

    is_hd = picture.height >= HD_HEIGHT_PX or picture.width >= HD_WIDTH_PX
    is_named = int(picture.colorspace) != UNSPECIFIED_MATRIX
    return {} if is_named or not is_hd else {"src_colorspace": Colorspace.ITU709}


def _upright(pixels: UInt8, rotation_deg: int) -> UInt8:
    quarter_turns = round(rotation_deg / 90) % 4  # counter-clockwise, for PyAV and numpy alike
    return np.ascontiguousarray(np.rot90(pixels, quarter_turns))
