"""Block matching: where the content of each cell of a picture was in the picture before.

Works on 28 x 28 luma: a grid point stands for 4 x 4 px of the 112 px picture, a cell for 16 px.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from .values import Float32

CELLS = 7
POINTS_PER_CELL = 4
PX_PER_POINT = 4
REACH_POINTS = 4
"""16 px: the `reach_px` of the manifest's motion maps."""
ZERO_PRIOR = 0.03
"""Cost per 4 px of displacement, standard deviations of luma: a plain wall does not move."""
EXACT_COST = 0.05
"""Cost, in standard deviations of luma, under which a match to a whole point is taken as exact."""
CONTRAST_FLOOR = 6.0
"""Grey levels: below it a picture is divided by this and not by its own standard deviation."""


@lru_cache(maxsize=8)
def _averaging(points: int, blocks: int) -> Float32:
    """(blocks, points) matrix that takes means of neighbours: 10 times as fast as np.mean."""
    step = points // blocks
    return np.asarray(np.eye(blocks, dtype=np.float32).repeat(step, axis=1) / np.float32(step))


def block_means(plane: Float32, blocks: int) -> Float32:
    """Means of the square blocks of a plane.

    Args:
        plane: (..., points, points) float32.
        blocks: blocks a side; must divide points.

    Returns:
        (..., blocks, blocks) float32.
    """
    averaging = _averaging(plane.shape[-1], blocks)
    return np.asarray(averaging @ plane @ averaging.T, np.float32)


def unit_contrast(luma: Float32) -> Float32:
    """The picture with zero mean and unit variance, so that a change of light is no motion.

    Args:
        luma: (rows, columns) float32, grey levels 0 to 255.
    """
    centred = luma - luma.mean(dtype=np.float32)
    return np.asarray(centred / np.float32(max(float(centred.std()), CONTRAST_FLOOR)), np.float32)


def matching_costs(before: Float32, now: Float32) -> Float32:
    """Mean absolute difference of each cell for each displacement of the content.

    Args:
        before: (28, 28) float32 of unit contrast.
        now: the same, of the next frame.

    Returns:
        (9, 9, 7, 7) float32: displacement down, displacement right (-16 px to +16 px), cell row,
        cell column;
        content that would come from outside the picture is compared with its nearest edge.
    """
    side = now.shape[0]
    padded = np.pad(before, REACH_POINTS, mode="edge")
    windows = np.lib.stride_tricks.sliding_window_view(padded, (side, side))
    # Window (i, j) is `before` read at (y + i - reach): content moved by reach - i.
    difference = np.abs(windows[::-1, ::-1] - now)
    return block_means(difference, CELLS)


def _parabola(left: Float32, middle: Float32, right: Float32) -> Float32:
    """Offset of the lowest point of the parabola through three costs, in steps, within +-0.5."""
    bend = left + right - 2.0 * middle
    offset = np.where(bend > 1e-6, 0.5 * (left - right) / np.maximum(bend, 1e-6), 0.0)
    return np.asarray(np.clip(offset, -0.5, 0.5), np.float32)


def match_blocks(before: Float32, now: Float32) -> Float32:
    """How the content of each cell moved since the picture before.

    Args:
        before: (28, 28) float32 luma, grey levels.
        now: the same, of the next frame.

    Returns:
        (4, 7, 7) float32: u (right) and v (down) in px of the 112 px picture, within +-18; then
        zero_cost (standing still) and best_cost, in standard deviations of luma, 0 or more.

    Cost: 81 differences of 28 x 28, about 0.2 ms on one core.
    Source: reference assistant's motion maps (zero-motion prior); differs: parabola, not
    soft-argmin.
    """
    costs = matching_costs(unit_contrast(before), unit_contrast(now))
    steps = np.arange(-REACH_POINTS, REACH_POINTS + 1, dtype=np.float32)
    prior = ZERO_PRIOR * np.hypot(steps[:, None], steps[None, :])
    count = len(steps)
    flat = (costs + prior[:, :, None, None]).reshape(count * count, CELLS * CELLS)
    best = flat.argmin(axis=0)
    down, right = np.divmod(best, count)
    cost = costs.reshape(count, count, CELLS * CELLS)
    cell = np.arange(CELLS * CELLS)
    lowest = cost[down, right, cell]
    # A match that leaves nothing needs no fraction: the parabola would only see uneven texture.
    needed = np.minimum(1.0, lowest / EXACT_COST)
    at = np.stack([right, down])
    less, more = np.maximum(at, 1) - 1, np.minimum(at, count - 2) + 1
    inner = (at > 0) & (at < count - 1)
    across = _parabola(cost[down, less[0], cell], lowest, cost[down, more[0], cell])
    along = _parabola(cost[less[1], right, cell], lowest, cost[more[1], right, cell])
    u = steps[right] + across * needed * inner[0]
    v = steps[down] + along * needed * inner[1]
    zero = cost[REACH_POINTS, REACH_POINTS]
    maps = np.stack([PX_PER_POINT * u, PX_PER_POINT * v, zero, lowest])
    return np.asarray(maps.reshape(4, CELLS, CELLS), np.float32)
