"""Small pictures: any size in, area means out."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgestream.runtime.preprocess import SMALL_PX, small_picture


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 300), st.integers(1, 300), st.integers(0, 255))
def test_a_plain_picture_of_any_size_keeps_its_colour(height: int, width: int, level: int) -> None:
    plain = np.full((height, width, 3), (level, 255 - level, 40), np.uint8)
    small = small_picture(plain)
    assert small.shape == (SMALL_PX, SMALL_PX, 3) and small.dtype == np.uint8
    assert np.abs(small.astype(int) - plain[0, 0]).max() <= 1


@pytest.mark.parametrize("size", [(1, 1), (7, 1), (361, 641), (720, 1280), (2160, 3840)])
def test_the_mean_of_a_picture_stays(size: tuple[int, int]) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    difference = small_picture(pixels).mean((0, 1)) - pixels.mean((0, 1))
    assert np.abs(difference).max() < 0.5


def test_every_pixel_is_the_mean_of_its_area() -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (448, 896, 3), dtype=np.uint8)
    means = pixels.reshape(112, 4, 112, 8, 3).mean((1, 3))
    assert np.abs(small_picture(pixels) - means).max() < 2


def test_a_cropped_and_a_mirrored_view_are_read_as_they_are() -> None:
    pixels = np.random.default_rng(2).integers(0, 256, (200, 300, 3), dtype=np.uint8)
    for view in (pixels[10:150, 20:220], pixels[:, ::-1], pixels[::-1]):
        assert np.array_equal(small_picture(view), small_picture(view.copy()))


def test_it_takes_a_read_only_picture() -> None:
    pixels = np.zeros((10, 10, 3), np.uint8)
    pixels.flags.writeable = False
    small_picture(pixels)
