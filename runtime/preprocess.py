"""Pictures at the size that a stage wants."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from .values import UInt8

SMALL_PX = 112
"""Side of the picture that stage 0 looks at: the `size_px` of the manifest's motion maps."""


def small_picture(pixels: UInt8, size_px: tuple[int, int] = (SMALL_PX, SMALL_PX)) -> UInt8:
    """The picture squashed to a size, each pixel the mean of the area it stands for.

    Args:
        pixels: (height, width, 3) uint8 RGB, any size from 1 x 1.
        size_px: (height, width) wanted, px.

    Returns:
        (height, width, 3) uint8 RGB, an array of its own.

    Cost: 1.2 ms for 1280 x 720 on one core; interpolation by area, because anything faster aliases.
    """
    import av
    from av.video.reformatter import VideoReformatter

    height, width = size_px
    # from_ndarray reads rows from start to end: a cropped or mirrored view has to be copied first.
    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
    small = VideoReformatter().reformat(
        frame, width, height, "rgb24", interpolation="AREA", threads=1
    )
    return np.asarray(small.to_ndarray(), np.uint8)
