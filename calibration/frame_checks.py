"""Whether frames can stand for what a camera sees: enough, not all the same, and no noise."""

from __future__ import annotations

import math

import numpy as np

from ..runtime.errors import CalibrationConstant, CalibrationNoise, CalibrationTooSmall
from ..runtime.values import Float32, UInt8

FEWEST_FRAMES = 16
LEAST_DISTANCE = 2.0
"""Mean distance of two thumbnails, grey levels; below it the frames are one picture and noise."""
LEAST_CORRELATION = 0.2
"""Of neighbouring pixels; pictures of the world have 0.9 and more, noise has 0."""
THUMBNAIL_CELLS = 8
MIDDLE_PX = 256
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601
_HINT = "give a calibration set of real footage, or none: the default is of rendered clips"


def check_frames(frames: UInt8) -> None:
    """Whether frames can stand for what a camera sees.

    Args:
        frames: (count, height, width, 3) uint8 RGB.

    Raises:
        CalibrationTooSmall: fewer than 16.
        CalibrationConstant: the mean distance of two thumbnails is below 2 grey levels.
        CalibrationNoise: the correlation of neighbouring pixels is below 0.2.

    Cost: 0.3 ms a frame of 224 x 224.
    """
    if len(frames) < FEWEST_FRAMES:
        raise CalibrationTooSmall(
            f"got {len(frames)} calibration frames, expected at least {FEWEST_FRAMES}", hint=_HINT
        )
    refuse_constant(frames)
    refuse_noise(float(np.mean([neighbour_correlation(_luma(frame)) for frame in frames])))


def refuse_constant(frames: UInt8) -> None:
    """Refuse pictures that are all but the same.

    Args:
        frames: (count, height, width, 3) uint8 RGB, one or more.

    Raises:
        CalibrationConstant: the mean distance of two thumbnails is below 2 grey levels.
    """
    thumbnails = np.stack([_thumbnail(_luma(frame)) for frame in frames])
    distance = mean_distance(thumbnails) if len(frames) > 1 else 0.0
    if distance < LEAST_DISTANCE:
        raise CalibrationConstant(
            f"got {len(frames)} calibration frames that differ by {distance:.2f} grey levels, "
            f"expected at least {LEAST_DISTANCE:g}: they show the same picture",
            hint=_HINT,
        )


def refuse_noise(correlation: float) -> None:
    """Refuse pictures whose neighbouring pixels know nothing of each other.

    Args:
        correlation: mean of `neighbour_correlation` over the pictures.

    Raises:
        CalibrationNoise: it is below 0.2.
    """
    if correlation < LEAST_CORRELATION:
        raise CalibrationNoise(
            f"got calibration frames whose neighbouring pixels correlate by {correlation:.2f}, "
            f"expected at least {LEAST_CORRELATION:g}: they are noise",
            hint=_HINT,
        )


def picture_correlation(pixels: UInt8) -> float:
    """`neighbour_correlation` of the middle of a picture, before scaling makes noise smooth.

    Args:
        pixels: (height, width, 3) uint8 RGB.

    Cost: 0.5 ms, whatever its size.
    """
    rows, columns = (
        slice(max(0, (side - MIDDLE_PX) // 2), (side + MIDDLE_PX) // 2) for side in pixels.shape[:2]
    )
    return neighbour_correlation(_luma(pixels[rows, columns]))


def mean_distance(thumbnails: Float32) -> float:
    """Mean absolute difference of two different thumbnails, over all pairs; grey levels.

    Args:
        thumbnails: (count, …) float32, two or more.

    Cost: O(count log count) instead of the pairs: in sorted order, element i is the larger one in
    i pairs and the smaller one in the rest.
    """
    count = len(thumbnails)
    ordered = np.sort(thumbnails.reshape(count, -1).astype(np.float64), axis=0)
    weights = 2.0 * np.arange(count) - (count - 1)
    return float(np.mean(weights @ ordered) / (count * (count - 1) / 2))


def neighbour_correlation(luma: Float32) -> float:
    """Correlation of pixels with those right of and below them; 1 for a picture of one level.

    Args:
        luma: (height, width) float32.
    """
    pairs = ((luma[:, :-1], luma[:, 1:]), (luma[:-1], luma[1:]))
    found = [_correlation(one.ravel(), other.ravel()) for one, other in pairs if one.size]
    return float(np.mean(found)) if found else 1.0


def _correlation(one: Float32, other: Float32) -> float:
    one, other = one - one.mean(), other - other.mean()
    spread = math.sqrt(float(one @ one) * float(other @ other))
    return float(one @ other) / spread if spread > 1e-6 * one.size else 1.0


def _luma(frame: UInt8) -> Float32:
    return np.asarray(frame @ _LUMA, np.float32)


def _thumbnail(luma: Float32) -> Float32:
    """Means of 8 x 8 cells, or of as many as there are pixels."""
    for axis in (0, 1):
        size = luma.shape[axis]
        edges = np.linspace(0, size, min(size, THUMBNAIL_CELLS) + 1).astype(int)
        sums = np.add.reduceat(luma, edges[:-1], axis=axis)
        sizes = np.expand_dims(np.diff(edges), 1 - axis)
        luma = np.asarray(sums / sizes, np.float32)
    return luma
