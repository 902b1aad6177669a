"""Picture change: the parts that have a naive twin, and the bounds of each measure."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgestream.runtime.luma_planes import cell_correlation, cell_texture
from edgestream.runtime.picture_change import (
    ALIKE_PX,
    moves_with_neighbour,
    moving_share,
    neighbourhood,
    smoothed,
)

from .test_block_matching import texture


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_neighbours_that_move_alike_by_plain_loops(seed: int) -> None:
    rng = np.random.default_rng(seed)
    displacement = rng.uniform(-5, 5, (2, 7, 7)).astype(np.float32)
    matched = rng.random((7, 7)) < 0.5
    alike = moves_with_neighbour(displacement, matched)
    for y in range(7):
        for x in range(7):
            wanted = False
            for j, i in ((y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)):
                if 0 <= j < 7 and 0 <= i < 7 and matched[j, i]:
                    step = np.abs(displacement[:, y, x] - displacement[:, j, i]).max()
                    wanted |= bool(step <= ALIKE_PX)
            assert alike[y, x] == wanted


def test_correlation_and_texture_of_cells_by_plain_loops() -> None:
    before, now = texture(1, 56), texture(2, 56)
    now = 0.5 * now + 0.5 * before + 7
    usable = np.random.default_rng(3).random((56, 56)) < 0.8
    usable[:8, :8] = False
    usable[0, :4] = True  # four points left of a cell
    correlation, spread = cell_correlation(before, now, usable), cell_texture(now, usable)
    for y in range(7):
        for x in range(7):
            cell = np.s_[8 * y : 8 * y + 8, 8 * x : 8 * x + 8]
            b, n = before[cell][usable[cell]], now[cell][usable[cell]]
            if len(n) >= 32:
                wanted = np.corrcoef(b.astype(float), n.astype(float))[0, 1]
                assert correlation[y, x] == pytest.approx(wanted, abs=2e-3)
                assert spread[y, x] == pytest.approx(n.std(), rel=1e-3)
            else:
                assert spread[y, x] == 0.0


def test_the_neighbourhood_is_the_range_of_nine() -> None:
    picture = texture(4, 56)
    low, high = neighbourhood(picture)
    assert low[20, 30] == picture[19:22, 29:32].min()
    assert high[20, 30] == picture[19:22, 29:32].max()
    assert (low <= picture).all() and (picture <= high).all()


def test_smoothing_keeps_the_mean_and_takes_the_finest_detail() -> None:
    checks = (np.indices((56, 56)).sum(axis=0) % 2).astype(np.float32)
    assert np.allclose(smoothed(checks)[1:-1, 1:-1], 0.5, atol=1e-6)
    assert np.allclose(smoothed(np.full((56, 56), 3, np.float32)), 3)


def test_a_block_moves_when_a_quarter_of_its_points_differ() -> None:
    residual, tolerance = np.zeros((56, 56), np.float32), np.ones((56, 56), np.float32)
    everywhere = np.ones((56, 56), np.bool_)
    residual[0, :3] = 9
    assert moving_share(residual, tolerance, everywhere) == 0.0
    residual[0, :4] = 9
    assert moving_share(residual, tolerance, everywhere) == pytest.approx(1 / 196)
    assert moving_share(residual, tolerance, ~everywhere) == 0.0
