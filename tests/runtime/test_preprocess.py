"""Small pictures: any size in, area means out."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgestream.runtime.frame_facts import FILTERS
from edgestream.runtime.manifest_values import FrameInput
from edgestream.runtime.preprocess import SMALL_PX, fitted_picture, small_picture


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


@pytest.mark.medium
@given(st.integers(1, 300), st.integers(1, 300), st.integers(0, 255), st.sampled_from(FILTERS))
def test_no_filter_changes_a_plain_picture(height: int, width: int, level: int, kind: str) -> None:
    plain = np.full((height, width, 3), (level, 255 - level, 40), np.uint8)
    small = small_picture(plain, (40, 60), kind)
    assert small.shape == (40, 60, 3)
    assert np.abs(small.astype(int) - plain[0, 0]).max() <= 2


@pytest.mark.parametrize("kind", FILTERS[1:])
def test_a_filter_is_what_processors_call_by_its_name(kind: str) -> None:
    """Nearer than one level to PIL's, and nearer than the mean of areas."""
    image = pytest.importorskip("PIL.Image")
    y, x = np.mgrid[0:360, 0:640]
    waves = [128 + 100 * np.sin(x / 9.0) * np.cos(y / k) for k in (7.0, 11.0, 23.0)]
    pixels = np.stack(waves, -1).astype(np.uint8)
    pixels[100:200, 150:420] = (200, 30, 90)  # edges, which show a filter best
    for size in ((112, 196), (224, 224), (320, 400)):
        how = getattr(image.Resampling, kind.upper())
        wanted = np.asarray(image.fromarray(pixels).resize(size[::-1], how)).astype(int)
        found = fitted_picture(pixels, FrameInput(size, 1.0, "squash", filter=kind))
        area = fitted_picture(pixels, FrameInput(size, 1.0, "squash"))
        error, other = (np.abs(one - wanted).mean() for one in (found, area))
        assert error < 1.0 and error < 0.7 * other, (kind, size, error, other)


def test_a_picture_of_the_wanted_size_stays() -> None:
    pixels = np.random.default_rng(3).integers(0, 256, (64, 96, 3), dtype=np.uint8)
    for kind in FILTERS:
        assert np.abs(small_picture(pixels, (64, 96), kind).astype(int) - pixels).max() <= 1
