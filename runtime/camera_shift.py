"""Camera shift: the one displacement that best carries a whole picture onto the next one.

Works on 56 x 56 luma with the local mean taken out, so that neither lights nor shading count; a
grid point is 2 px of the 112 px picture. A wide search finds the displacement to a point, then a
robust least-squares fit finds it to a fraction of a point.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .values import Float32

GRID = 56
COARSE_GRID = 28
MEAN_POINTS = 13
"""Side of the square whose mean is taken out, grid points: a quarter of the picture."""
SMALLEST_OVERLAP = 0.3
"""Share of the picture that both must show: with less, chance finds a match in any two pictures."""
SMALLEST_STEP = 0.03
"""Grid points: a fit that moves by less is done."""
_FFT = 64  # at least COARSE_GRID + the widest shift, so that nothing wraps around


def without_local_mean(luma: Float32, points: int = MEAN_POINTS) -> Float32:
    """The picture less the mean of a square around each point, edges repeated.

    Args:
        luma: (rows, columns) float32, grey levels.
        points: side of the square, odd.
    """
    reach = points // 2
    sums = np.pad(np.pad(luma, reach, mode="edge"), ((1, 0), (1, 0))).cumsum(0, np.float64)
    sums = sums.cumsum(1)
    box = sums[points:, points:] - sums[:-points, points:]
    box = box - sums[points:, :-points] + sums[:-points, :-points]
    return np.asarray(luma - box / (points * points), np.float32)


def shifted(picture: Float32, right: float, down: float) -> Float32:
    """The picture with its content displaced, bilinear, edges repeated.

    Args:
        picture: (rows, columns) float32.
        right: displacement in grid points, any sign.
        down: the same.
    """
    rows, columns = picture.shape
    picture = _moved_rows(picture, down, rows)
    return np.asarray(_moved_rows(picture.T, right, columns).T)


def _moved_rows(picture: Float32, by: float, count: int) -> Float32:
    source = np.arange(count) - by
    floor = np.floor(source)
    part = np.float32(source[0] - floor[0])
    first = np.clip(floor.astype(np.intp), 0, count - 1)
    if part == 0:
        return np.asarray(picture[first])
    second = np.clip(first + (floor >= 0), 0, count - 1)
    return np.asarray(picture[first] * (1 - part) + picture[second] * part, np.float32)


def shifted_by_cells(picture: Float32, right: Float32, down: Float32) -> Float32:
    """The picture with each cell displaced by its own whole number of points, edges repeated.

    Args:
        picture: (rows, rows) float32.
        right: (cells, cells) displacements, grid points; rounded.
        down: the same.
    """
    side = picture.shape[0] // right.shape[0]
    index = np.arange(picture.shape[0])
    across = np.rint(right).astype(np.intp).repeat(side, 0).repeat(side, 1)
    along = np.rint(down).astype(np.intp).repeat(side, 0).repeat(side, 1)
    last = picture.shape[0] - 1
    rows = np.clip(index[:, None] - along, 0, last)
    columns = np.clip(index[None, :] - across, 0, last)
    return np.asarray(picture[rows, columns])


def inside(right: float, down: float, count: int = GRID) -> NDArray[np.bool_]:
    """(count, count) bool: which points of a shifted picture came from inside the picture."""
    index = np.arange(count)
    columns = (index - right >= 0) & (index - right <= count - 1)
    rows = (index - down >= 0) & (index - down <= count - 1)
    return np.asarray(rows[:, None] & columns[None, :])


def wide_search(before: Float32, now: Float32) -> tuple[int, int, float]:
    """The most significant displacement among all with enough overlap.

    Args:
        before: (28, 28) float32 without local mean.
        now: the same, of the next frame.

    Returns:
        right and down in coarse points, and the correlation there in [-1, 1].

    Cost: three real 64 x 64 transforms, about 0.15 ms on one core.
    """
    size = before.shape[0]
    cross = np.fft.irfft2(
        np.fft.rfft2(now, (_FFT, _FFT)) * np.conj(np.fft.rfft2(before, (_FFT, _FFT))), (_FFT, _FFT)
    )
    widest = int(size * (1 - SMALLEST_OVERLAP))
    steps = np.arange(-widest, widest + 1)
    cross = cross[np.ix_(steps % _FFT, steps % _FFT)]
    both = _overlap_energy(now, steps) * _overlap_energy(before, -steps)
    energy = np.sqrt(np.maximum(both, 0))  # a difference of sums may fall below 0 by its rounding
    overlap = np.outer(size - np.abs(steps), size - np.abs(steps)) / (size * size)
    correlation = cross / np.maximum(energy, 1e-3)
    # A correlation counts by the root of the points it rests on, as in a test of significance.
    merit = np.where(overlap >= SMALLEST_OVERLAP, correlation * np.sqrt(overlap), -1.0)
    down, right = np.unravel_index(int(merit.argmax()), merit.shape)
    return int(steps[right]), int(steps[down]), float(correlation[down, right])


def _overlap_energy(picture: Float32, steps: NDArray[np.intp]) -> NDArray[np.float64]:
    """Sum of squares of the part that overlaps the other picture, per (down, right)."""
    size = picture.shape[0]
    sums = np.zeros((size + 1, size + 1))
    sums[1:, 1:] = np.square(picture, dtype=np.float64).cumsum(0).cumsum(1)
    low, high = np.maximum(steps, 0), np.minimum(steps, 0) + size
    rows = sums[high] - sums[low]
    return np.asarray(rows[:, high] - rows[:, low])


def refine_shift(
    before: Float32, now: Float32, right: float, down: float, *, steps: int = 3
) -> tuple[float, float]:
    """The displacement near a first guess that leaves the least difference, robust to movers.

    Args:
        before: (56, 56) float32 without local mean.
        now: the same, of the next frame.
        right: first guess, grid points, right within about 1.5 points.
        down: the same.
        steps: Gauss-Newton steps, at most.

    Returns:
        right and down, grid points. Points that do not fit weigh little (Cauchy weights).
    """
    for _ in range(steps):
        warped = shifted(before, right, down)
        valid = inside(right, down)
        gain = light_gain(warped, now, valid)
        warped = gain * warped
        residual = (now - warped) * valid
        across = np.gradient(warped, axis=1)
        along = np.gradient(warped, axis=0)
        scale = 2.0 * float(np.median(np.abs(residual[valid]))) + 0.5
        weight = valid / (1.0 + np.square(residual / scale))
        xx, yy = float((weight * across**2).sum()), float((weight * along**2).sum())
        xy = float((weight * across * along).sum())
        bx, by = (
            -float((weight * across * residual).sum()),
            -float((weight * along * residual).sum()),
        )
        ridge = 1e-3 * (xx + yy) + 1e-3
        det = (xx + ridge) * (yy + ridge) - xy * xy
        step_right = ((yy + ridge) * bx - xy * by) / det
        step_down = ((xx + ridge) * by - xy * bx) / det
        right += min(max(step_right, -1.0), 1.0)
        down += min(max(step_down, -1.0), 1.0)
        if max(abs(step_right), abs(step_down)) < SMALLEST_STEP:
            break
    return right, down


def light_gain(before: Float32, now: Float32, valid: NDArray[np.bool_]) -> float:
    """Contrast of the picture now over that before, from aligned pictures without local mean.

    Returns:
        Least-squares gain within [1/16, 16]; 1 where there is nothing to compare.
    """
    b, n = before[valid], now[valid]
    energy = float(np.dot(b, b))
    if energy < 1.0:
        return 1.0
    return float(np.clip(float(np.dot(b, n)) / energy, 1 / 16, 16.0))
