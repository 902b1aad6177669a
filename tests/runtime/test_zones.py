"""Privacy zones: written and read back, every pixel of them hidden, and nobody sees one."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgestream.runtime.errors import ZoneInvalid
from edgestream.runtime.values import Frame
from edgestream.runtime.zones import MaskedSource, Zone, hidden, parsed_zones, rectangle

from ..fakes import ListSource, frame_at

shares = st.integers(0, 1000).map(lambda part: part / 1000)
points = st.tuples(shares, shares)
polygons = st.lists(points, min_size=3, max_size=7).map(tuple).map(Zone)
rectangles = st.tuples(points, points).map(lambda two: rectangle(*two))
sizes = st.tuples(st.integers(1, 90), st.integers(1, 90))


def text_of(zones):
    return ";".join(" ".join(f"{x},{y}" for x, y in zone.corners) for zone in zones)


@pytest.mark.medium
@given(st.lists(polygons | rectangles, min_size=1, max_size=4).map(tuple))
def test_a_text_gives_the_zones_it_was_made_of(zones):
    assert parsed_zones(text_of(zones)) == zones


def test_two_points_are_a_rectangle_and_more_a_polygon():
    box, triangle = parsed_zones(" 0.5,1  0,0.25 ; 0.1,0.1 0.9,0.3 0.5,0.8 ;")
    assert box.corners == ((0.0, 0.25), (0.5, 0.25), (0.5, 1.0), (0.0, 1.0))
    assert triangle.corners == ((0.1, 0.1), (0.9, 0.3), (0.5, 0.8))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "names no zone"),
        (" ; ", "names no zone"),
        ("0,0", "has one point, expected two or more"),
        ("0,0 1", "got '1' in the zone '0,0 1', expected a point x,y"),
        ("0,0 1,x", "got '1,x'"),
        ("0,0 1,1,1", "got '1,1,1'"),
        ("0,0 nan,1", "expected numbers"),
        ("0,0 1.5,1", "got the point 1.5,0, expected shares of the picture, 0 to 1"),
        ("0,0 640,360", "expected shares"),
        ("-0.1,0 1,1", "expected shares"),
        (" ".join(["0,0"] * 300), "got 300 corners"),
    ],
)
def test_what_is_no_zone_is_refused(text, words):
    with pytest.raises(ZoneInvalid) as caught:
        parsed_zones(text)
    assert words in caught.value.message and caught.value.hint


def pixel_of(x, y, height_px, width_px):
    return min(int(y * height_px), height_px - 1), min(int(x * width_px), width_px - 1)


@pytest.mark.medium
@given(polygons, sizes, st.lists(st.floats(0, 1), min_size=3, max_size=3), st.integers(0, 4))
def test_every_pixel_that_a_polygon_touches_is_hidden(zone, size, weights, first):
    """Points of any triangle fan of a polygon that does not cross itself lie in it or on it."""
    mask = hidden([zone], *size)
    at = first % len(zone.corners)
    one, other = zone.corners[at], zone.corners[at - 1]
    x = one[0] + weights[0] * (other[0] - one[0])
    y = one[1] + weights[0] * (other[1] - one[1])
    assert mask[pixel_of(x, y, *size)], "a point of an edge"
    if len(zone.corners) == 3:
        total = sum(weights) or 1.0
        parts = [weight / total for weight in weights] if sum(weights) else [1.0, 0.0, 0.0]
        x = sum(part * corner[0] for part, corner in zip(parts, zone.corners, strict=True))
        y = sum(part * corner[1] for part, corner in zip(parts, zone.corners, strict=True))
        assert mask[pixel_of(min(x, 1), min(y, 1), *size)], "a point inside"


@pytest.mark.medium
@given(points, points, sizes)
def test_a_rectangle_hides_what_it_touches_and_a_margin_of_a_pixel_and_no_more(one, other, size):
    mask, (height_px, width_px) = hidden([rectangle(one, other)], *size), size
    for share_0, share_1, length, axis in (
        (one[0], other[0], width_px, 0),
        (one[1], other[1], height_px, 1),
    ):
        low, high = sorted((share_0 * length, share_1 * length))
        hit = np.flatnonzero(mask.any(axis=axis))
        assert hit[0] <= math.floor(min(low, length - 1)) and hit[-1] >= min(
            math.ceil(high) - 1, length - 1
        )
        assert hit[0] >= math.floor(low) - 2 and hit[-1] <= math.ceil(high) + 1
        assert len(hit) == hit[-1] - hit[0] + 1


def test_where_a_polygon_covers_itself_twice_it_hides_too():
    star = [(0.5 + 0.5 * math.sin(a), 0.5 - 0.5 * math.cos(a)) for a in np.arange(5) * 0.8 * np.pi]
    mask = hidden([Zone(tuple(star))], 100, 100)
    assert mask[50, 50], "the middle of a star lies within its lines twice"
    assert not mask[2, 2]


def test_a_zone_thinner_than_a_pixel_hides_the_pixels_that_it_runs_through():
    mask = hidden(parsed_zones("0.11,0.111 0.9,0.112 0.9,0.1115"), 90, 160)
    assert mask[10, 20:140].all()


class Spied(ListSource):
    def __init__(self, frames):
        super().__init__(frames)
        self.paused = 0

    def pause(self):
        self.paused += 1


def test_a_masked_source_shows_no_pixel_of_a_zone_and_leaves_the_others():
    random = np.random.default_rng(1)
    big = random.integers(1, 256, (48, 64, 3), np.uint8)
    small = random.integers(1, 256, (10, 30, 3), np.uint8)
    inner = Spied([Frame(0, 0.0, big), None, Frame(1, 0.25, small, 5.0), Frame(2, 0.5, big)])
    source = MaskedSource(inner, parsed_zones("0,0 0.5,0.5"))
    first, tick, second, third = list(source.frames(lambda record: None))
    assert tick is None and (second.index, second.time_s, second.captured_s) == (1, 0.25, 5.0)
    for frame, pixels in ((first, big), (second, small), (third, big)):
        mask = hidden(source.zones, *pixels.shape[:2])
        assert not frame.pixels[mask].any() and 0.25 <= mask.mean() <= 0.4
        np.testing.assert_array_equal(frame.pixels[~mask], pixels[~mask])
        assert pixels.all(), "the source's own pixels stay as they are"
    assert (source.name, source.is_live, source.now_s()) == ("list", False, 0.5)
    source.pause()
    assert inner.paused == 1
    with pytest.raises(AttributeError):
        source.rewind()


def test_a_masked_source_that_is_left_lets_go_of_the_inner_one():
    inner = ListSource([frame_at(index) for index in range(5)])
    frames = MaskedSource(inner, [rectangle((0, 0), (1, 1))]).frames(lambda record: None)
    assert not next(frames).pixels.any()
    frames.close()
    assert inner.is_closed
