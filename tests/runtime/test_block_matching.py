"""Block matching: the fast one says what plain loops say, and finds what was moved."""

from __future__ import annotations

import numpy as np
import pytest

from edgestream.runtime.block_matching import (
    CELLS,
    POINTS_PER_CELL,
    REACH_POINTS,
    block_means,
    match_blocks,
    matching_costs,
    unit_contrast,
)
from edgestream.runtime.values import Float32

SIDE = CELLS * POINTS_PER_CELL


def texture(seed: int, side: int = SIDE + 16) -> Float32:
    """Blobs of a few points, so that a part of a point means something."""
    rough = np.random.default_rng(seed).uniform(0, 255, (side + 4, side + 4)).astype(np.float32)
    windows = np.lib.stride_tricks.sliding_window_view(rough, (5, 5))
    return np.asarray(windows.mean(axis=(2, 3)) * 4 - 384, np.float32)


def naive_costs(before: Float32, now: Float32) -> Float32:
    """The same costs by plain loops."""
    reach = REACH_POINTS
    costs = np.zeros((2 * reach + 1, 2 * reach + 1, CELLS, CELLS), np.float32)
    for down in range(-reach, reach + 1):
        for right in range(-reach, reach + 1):
            for y in range(SIDE):
                for x in range(SIDE):
                    from_y = min(max(y - down, 0), SIDE - 1)
                    from_x = min(max(x - right, 0), SIDE - 1)
                    cell = (y // POINTS_PER_CELL, x // POINTS_PER_CELL)
                    costs[down + reach, right + reach][cell] += abs(
                        now[y, x] - before[from_y, from_x]
                    )
    return costs / POINTS_PER_CELL**2


def test_fast_is_naive() -> None:
    before, now = unit_contrast(texture(0)[:SIDE, :SIDE]), unit_contrast(texture(1)[:SIDE, :SIDE])
    assert np.allclose(matching_costs(before, now), naive_costs(before, now), atol=1e-4)


@pytest.mark.parametrize(("right", "down"), [(0, 0), (3, 0), (-3, 0), (0, 2), (0, -4), (2, -3)])
def test_the_sign_and_size_of_a_displacement(right: int, down: int) -> None:
    world = texture(2)
    before = world[8 : 8 + SIDE, 8 : 8 + SIDE]
    now = world[8 - down : 8 - down + SIDE, 8 - right : 8 - right + SIDE]
    u, v, _, best = match_blocks(before, now)
    inner = slice(1, -1)  # the outer cells see content that was not there
    assert np.allclose(np.median(u[inner, inner]), 4 * right, atol=1.0)
    assert np.allclose(np.median(v[inner, inner]), 4 * down, atol=1.0)
    assert np.median(best[inner, inner]) < 0.05


def test_a_change_of_light_is_no_motion() -> None:
    before = texture(3)[:SIDE, :SIDE] * 0.3 + 80
    maps = match_blocks(before, before * 0.4 + 3)
    assert np.abs(maps[:2]).max() < 0.5
    assert maps[2].max() < 0.02


def test_noise_on_a_plain_wall_is_no_motion() -> None:
    rng = np.random.default_rng(4)
    before, now = (rng.normal(120, 0.3, (SIDE, SIDE)).astype(np.float32) for _ in range(2))
    assert np.abs(match_blocks(before, now)[:2]).mean() < 1.0


@pytest.mark.parametrize("level", [0.0, 255.0])
def test_a_picture_without_texture_gives_zeros(level: float) -> None:
    plain = np.full((SIDE, SIDE), level, np.float32)
    assert not match_blocks(plain, plain).any()


def test_block_means_are_means_of_blocks() -> None:
    plane = np.random.default_rng(5).normal(size=(3, 28, 28)).astype(np.float32)
    expected = plane.reshape(3, 7, 4, 7, 4).mean(axis=(2, 4))
    assert np.allclose(block_means(plane, 7), expected, atol=1e-6)
