"""Pictures at the size that a stage wants, and as the numbers that a model reads."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from .manifest_values import FrameInput
    from .values import Float32, UInt8

SMALL_PX = 112
"""Side of the picture that stage 0 looks at: the `size_px` of the manifest's motion maps."""


def small_picture(
    pixels: UInt8, size_px: tuple[int, int] = (SMALL_PX, SMALL_PX), kind: str = "area"
) -> UInt8:
    """The picture squashed to a size, each pixel the mean of the area it stands for.

    Args:
        pixels: (height, width, 3) uint8 RGB, any size from 1 x 1.
        size_px: (height, width) wanted, px.
        kind: of the mean: area, where each pixel counts as much; bilinear, bicubic or lanczos,
            which are within a level of 255 of what PIL and PyTorch make with antialiasing.

    Returns:
        (height, width, 3) uint8 RGB, an array of its own.

    Cost: 1.2 ms for 1280 x 720 on one core, bicubic half as much again; anything faster aliases.
    """
    import av
    from av.video.reformatter import VideoReformatter

    height, width = size_px
    # from_ndarray reads rows from start to end: a cropped or mirrored view has to be copied first.
    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
    small = VideoReformatter().reformat(
        frame, width, height, "rgb24", interpolation=kind.upper(), threads=1
    )
    return np.asarray(small.to_ndarray(), np.uint8)


def fitted_picture(pixels: UInt8, frame_input: FrameInput) -> UInt8:
    """The picture at the size of a model's input.

    `squash` changes its proportions, `letterbox` adds black bars, `crop` cuts off what is outside.

    Args:
        pixels: (height, width, 3) uint8 RGB, any size from 1 x 1.
        frame_input: size_px (height, width), resize and filter are read.

    Returns:
        (height, width, 3) uint8 RGB.

    Raises:
        ValueError: resize is none of the three.

    Cost: as `small_picture`.
    """
    height, width = frame_input.size_px
    kind = frame_input.filter or "area"
    if frame_input.resize == "squash":
        return small_picture(pixels, (height, width), kind)
    rows, columns = pixels.shape[:2]
    if frame_input.resize == "letterbox":
        scale = min(height / rows, width / columns)
        size = (max(1, round(rows * scale)), max(1, round(columns * scale)))
        top, left = (height - size[0]) // 2, (width - size[1]) // 2
        canvas = np.zeros((height, width, 3), np.uint8)
        canvas[top : top + size[0], left : left + size[1]] = small_picture(pixels, size, kind)
        return canvas
    if frame_input.resize == "crop":
        scale = max(height / rows, width / columns)
        kept_rows, kept_columns = round(height / scale), round(width / scale)
        top, left = (rows - kept_rows) // 2, (columns - kept_columns) // 2
        kept = pixels[top : top + max(1, kept_rows), left : left + max(1, kept_columns)]
        return small_picture(kept, (height, width), kind)
    raise ValueError(f"resize is {frame_input.resize!r}, expected squash, letterbox or crop")


def model_pixels(fitted: UInt8, frame_input: FrameInput) -> Float32:
    """The colours that a vision graph reads of a fitted picture.

    Args:
        fitted: (height, width, 3) or (frames, height, width, 3) uint8 RGB, of `fitted_picture`.
        frame_input: mean and std of the colours, on the scale [0, 1], are read.

    Returns:
        (frames, 3, height, width) float32: (pixel / 255 - mean) / std; one frame where no number
        of them was given.
    """
    mean = np.asarray((frame_input.mean or (0.0, 0.0, 0.0))[:3], np.float32)
    std = np.asarray((frame_input.std or (1.0, 1.0, 1.0))[:3], np.float32)
    frames = fitted.reshape(-1, *fitted.shape[-3:])
    scaled = (frames.astype(np.float32) / np.float32(255.0) - mean) / std
    return np.ascontiguousarray(scaled.transpose(0, 3, 1, 2))
