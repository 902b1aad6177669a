"""What a vision graph reads of a frame: its colours, and the motion maps laid over the picture.

One function makes the input of the device and of training, so that both see the same numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from .block_matching import CELLS
from .luma_planes import Planes, planes_from_small_picture
from .motion import MotionDetector
from .picture_change import motion_maps
from .preprocess import model_pixels

if TYPE_CHECKING:
    from .manifest_values import FrameInput
    from .values import Float32, UInt8

COLOURS = 3
MAPS = ("u", "v", "zero_cost", "best_cost", "d_luma", "d_warm")
"""The maps of `Motion.maps` in their order."""
MAP_STD = (4.0, 4.0, 0.3, 0.15, 0.08, 0.04)
"""What a map is divided by, in its own unit: about a third of its 99th percentile over 725 frames
of the rendered test clips at 4 frames/s, so that it lies beside colours of unit variance."""


def vision_input(pixels: UInt8, maps: Float32, frame_input: FrameInput) -> Float32:
    """The input of a vision graph: colours alone, or colours and motion maps.

    Args:
        pixels: (height, width, 3) or (frames, height, width, 3) uint8 RGB, of `fitted_picture`.
        maps: (6, cells, cells) or (frames, 6, cells, cells) float32, of `Motion.maps`; not read
            where the model takes none.
        frame_input: mean and std are read, of the colours on the scale [0, 1], then of the maps in
            their own units; and whether there is `motion`.

    Returns:
        (frames, 3 or 9, height, width) float32, one frame where no number of them was given:
        (value - mean) / std; each cell of a map fills its share of the picture.

    Cost: 0.2 ms for a frame of 112 x 112.
    """
    colours = model_pixels(pixels, frame_input)
    if frame_input.motion is None:
        return colours
    mean, std = (np.asarray(part, np.float32) for part in (frame_input.mean, frame_input.std))
    cells = maps.reshape(-1, *maps.shape[-3:]).astype(np.float32, copy=False)
    moved = (cells - mean[COLOURS:, None, None]) / std[COLOURS:, None, None]
    rows, columns = (np.arange(side) * moved.shape[-1] // side for side in colours.shape[2:])
    return np.concatenate([colours, moved[:, :, rows[:, None], columns]], axis=1)


def clip_maps(pixels: UInt8) -> Float32:
    """The motion maps of a clip, as `MotionDetector` measures them frame by frame.

    Args:
        pixels: (frames, 112, 112, 3) uint8 RGB, at least 0.125 s apart.

    Returns:
        (frames, 6, 7, 7) float32; those of the first frame are zero.

    Cost: 0.45 ms a frame on one core.
    """
    maps = np.zeros((len(pixels), len(MAPS), CELLS, CELLS), np.float32)
    before: Planes | None = None
    for index, small in enumerate(pixels):
        now = planes_from_small_picture(small)
        if before is not None:
            maps[index] = motion_maps(before, now)
        before = now
    return maps


def clip_motion(pixels: UInt8, times_s: Sequence[float]) -> tuple[Float32, NDArray[np.bool_]]:
    """The motion maps of a clip, and which of its frames take over the tokens of the one before.

    Args:
        pixels: (frames, 112, 112, 3) uint8 RGB.
        times_s: of each frame, seconds.

    Returns:
        (frames, 6, 7, 7) float32, and (frames,) bool: the frame is still, as the device sees it.

    Cost: 2 ms a frame on one core; `clip_maps` alone costs a quarter of it.
    """
    detector = MotionDetector()
    found = [detector.step_small(one, at) for one, at in zip(pixels, times_s, strict=True)]
    return np.stack([one.maps for one in found]), np.array([one.is_still for one in found])
