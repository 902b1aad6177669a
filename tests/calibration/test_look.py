"""The look of a picture: equal for equal ones, and further apart the more differs."""

from __future__ import annotations

import numpy as np
import pytest

from edgestream.calibration.look import look_of

SIDE = 112


def grey(level):
    return np.full((SIDE, SIDE, 3), level, np.uint8)


def distance(one, other):
    return float(np.linalg.norm(look_of(one) - look_of(other)))


def stripes(is_across, level=40):
    wave = ((np.indices((SIDE, SIDE))[0 if is_across else 1] // 4) % 2) * level + 100
    return np.repeat(wave[..., None], 3, 2).astype(np.uint8)


def test_the_distance_of_two_plain_pictures_is_their_difference_of_light():
    assert look_of(grey(90)).shape == (160,) and look_of(grey(90)).dtype == np.float32
    assert distance(grey(90), grey(90)) == 0
    assert distance(grey(100), grey(151)) == pytest.approx(0.2, abs=1e-3)


def test_colour_counts_where_light_is_the_same():
    red, green = grey(0), grey(0)
    red[..., 0], green[..., 1] = 200, round(200 * 0.299 / 0.587)
    assert distance(red, green) > 0.3


def test_place_counts():
    left, right = grey(60), grey(60)
    left[:, : SIDE // 2], right[:, SIDE // 2 :] = 180, 180
    assert distance(left, right) > 0.4


def test_the_direction_of_edges_counts_where_light_and_colour_are_the_same():
    along, across = stripes(False), stripes(True)
    assert abs(along.mean() - across.mean()) < 1
    assert distance(along, across) > 0.1


def test_noise_of_a_sensor_is_near():
    random = np.random.default_rng(0)
    scene = stripes(False, 120)
    one, other = (
        np.clip(scene + random.normal(0, 4, scene.shape), 0, 255).astype(np.uint8) for _ in range(2)
    )
    assert distance(one, other) < 0.01 and distance(scene, scene // 2) > 0.2
