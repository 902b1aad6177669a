"""Camera shift: the fast search says what plain loops say, and the fit finds parts of a point."""

from __future__ import annotations

import numpy as np
import pytest

from edgestream.runtime.camera_shift import (
    COARSE_GRID,
    GRID,
    MEAN_POINTS,
    SMALLEST_OVERLAP,
    inside,
    refine_shift,
    shifted,
    shifted_by_cells,
    wide_search,
    without_local_mean,
)
from edgestream.runtime.values import Float32

from .test_block_matching import texture


def naive_search(before: Float32, now: Float32) -> tuple[int, int, float]:
    """The same search by plain loops."""
    size, best = COARSE_GRID, (-2.0, 0, 0, 0.0)
    widest = int(size * (1 - SMALLEST_OVERLAP))
    for down in range(-widest, widest + 1):
        for right in range(-widest, widest + 1):
            overlap = (size - abs(down)) * (size - abs(right)) / size**2
            if overlap < SMALLEST_OVERLAP:
                continue
            n = now[max(down, 0) : size + min(down, 0), max(right, 0) : size + min(right, 0)]
            b = before[max(-down, 0) : size + min(-down, 0), max(-right, 0) : size + min(-right, 0)]
            energy = np.sqrt(float((n.astype(float) ** 2).sum() * (b.astype(float) ** 2).sum()))
            correlation = float((n.astype(float) * b).sum()) / max(energy, 1e-3)
            best = max(best, (correlation * np.sqrt(overlap), right, down, correlation))
    return best[1], best[2], best[3]


@pytest.mark.parametrize("seed", range(3))
def test_fast_is_naive(seed: int) -> None:
    world = texture(seed, 80)
    before, now = world[10:38, 10:38], world[10 - seed : 38 - seed, 17:45]
    before, now = without_local_mean(before, 7), without_local_mean(now, 7)
    right, down, correlation = wide_search(before, now)
    wanted = naive_search(before, now)
    assert (right, down) == wanted[:2] == (-7, seed)
    assert correlation == pytest.approx(wanted[2], abs=1e-4)


@pytest.mark.parametrize("seed", range(4))
def test_fast_is_naive_where_there_is_nothing_to_find(seed: int) -> None:
    before, now = (without_local_mean(texture(20 + seed + 9 * i, 28)[:28, :28], 7) for i in (0, 1))
    right, down, correlation = wide_search(before, now)
    wanted = naive_search(before, now)
    assert (right, down) == wanted[:2]
    assert correlation == pytest.approx(wanted[2], abs=1e-4)


@pytest.mark.parametrize(("right", "down"), [(14, 0), (-14, 2), (1, -13), (0, 0)])
def test_a_whip_pan_is_found(right: int, down: int) -> None:
    world = without_local_mean(texture(7, 100), 7)
    before = world[36 : 36 + COARSE_GRID, 36 : 36 + COARSE_GRID]
    now = world[36 - down : 36 - down + COARSE_GRID, 36 - right : 36 - right + COARSE_GRID]
    assert wide_search(before, now)[:2] == (right, down)


@pytest.mark.parametrize(("right", "down"), [(0.3, 0.0), (-0.6, 0.4), (1.25, -0.75), (0.0, 0.0)])
def test_parts_of_a_point_are_found_among_movers_and_under_other_light(
    right: float, down: float
) -> None:
    before = without_local_mean(texture(8, GRID))
    now = 0.4 * shifted(before, right, down)
    now[10:24, 10:24] = without_local_mean(texture(9, 14), 7)[:14, :14]
    found = refine_shift(before, now, 0.0, 0.0, steps=6)
    assert found == pytest.approx((right, down), abs=0.05)


def test_nothing_to_see_is_no_shift() -> None:
    plain = np.zeros((GRID, GRID), np.float32)
    assert refine_shift(plain, plain, 0.0, 0.0) == (0.0, 0.0)
    assert np.isfinite(wide_search(plain[:28, :28], plain[:28, :28])[2])


def test_the_local_mean_is_the_mean_of_the_square_around() -> None:
    luma = texture(10, GRID)
    detail = without_local_mean(luma)
    reach = MEAN_POINTS // 2
    around = luma[20 - reach : 21 + reach, 30 - reach : 31 + reach]
    assert detail[20, 30] == pytest.approx(luma[20, 30] - around.mean(), abs=1e-3)


def test_shifted_by_cells_is_shifted_where_all_cells_agree() -> None:
    picture = texture(11, GRID)
    right, down = np.full((7, 7), 3.0, np.float32), np.full((7, 7), -2.0, np.float32)
    assert np.array_equal(shifted_by_cells(picture, right, down), shifted(picture, 3.0, -2.0))


def test_inside_says_which_points_are_new() -> None:
    assert inside(0.0, 0.0).all()
    assert inside(3.0, 0.0).sum() == GRID * (GRID - 3)
    assert not inside(3.0, 0.0)[:, :3].any()
    assert not inside(0.0, -1.5)[-2:].any()


def test_a_nearly_plain_picture_has_no_energy_below_zero() -> None:
    # Found in a rendered clip: sums of squares differ by their rounding, which has no root.
    for seed in range(50):
        random = np.random.default_rng(seed)
        picture = np.zeros((COARSE_GRID, COARSE_GRID), np.float32)
        for at in random.integers(0, COARSE_GRID, (4, 2)):
            picture[tuple(at)] = random.uniform(0.001, 90)
        _, _, correlation = wide_search(picture, texture(seed, COARSE_GRID))
        assert np.isfinite(correlation)
