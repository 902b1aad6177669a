"""Sampler laws: never faster than asked, never later than needed, no drift, no repeats."""

from __future__ import annotations

import math
from fractions import Fraction
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgestream.runtime.sampling import TIME_ROUNDING_S, Sampler

rates = st.floats(min_value=0.1, max_value=120)
gaps = st.lists(st.floats(min_value=0.0, max_value=3.0), max_size=200)


def times_of(gaps_s: list[float]) -> list[float]:
    times_s = [0.0]
    for gap_s in gaps_s:
        times_s.append(times_s[-1] + gap_s)
    return times_s


def taken(fps: float, times_s: list[float]) -> list[float]:
    sampler = Sampler(fps)
    return [time_s for time_s in times_s if sampler.takes(time_s)]


def naively_taken(fps: float, times_s: list[float]) -> list[float]:
    """For each grid point on its own: the first frame at or after it."""
    last_point = math.floor((times_s[-1] + TIME_ROUNDING_S) * fps)
    found = set()
    for point in range(last_point + 1):
        first = next(
            index
            for index, time_s in enumerate(times_s)
            if math.floor((time_s + TIME_ROUNDING_S) * fps) >= point
        )
        found.add(first)
    return [times_s[index] for index in sorted(found)]


@pytest.mark.medium
@given(rates, st.lists(st.floats(min_value=0.0, max_value=1.0), max_size=40))
def test_it_takes_what_the_naive_twin_takes(fps, gaps_s):
    times_s = times_of(gaps_s)
    assert taken(fps, times_s) == naively_taken(fps, times_s)


@pytest.mark.medium
@given(rates, gaps)
def test_never_more_than_fps_a_second(fps, gaps_s):
    times_s = times_of(gaps_s)
    assert len(taken(fps, times_s)) <= (times_s[-1] + TIME_ROUNDING_S) * fps + 1


@given(rates, gaps)
def test_no_window_without_a_sample_where_there_are_frames(fps, gaps_s):
    times_s = times_of(gaps_s)
    kept = taken(fps, times_s)
    longest_gap_s = max(gaps_s, default=0.0)
    assert kept[0] == 0.0
    for before_s, after_s in pairwise(kept):
        assert after_s - before_s <= 1 / fps + longest_gap_s + 2 * TIME_ROUNDING_S
        assert after_s - before_s >= 1 / fps - longest_gap_s - 2 * TIME_ROUNDING_S


@pytest.mark.medium
@given(rates, gaps)
def test_a_slower_source_gives_every_frame(fps, gaps_s):
    times_s = times_of([1 / fps + gap_s + 1e-9 for gap_s in gaps_s])
    assert taken(fps, times_s) == times_s


@given(st.sampled_from([1, 2, 4, 5, 10, 15, 30]), st.integers(1, 3000))
def test_no_drift(fps, seconds):
    """Hours of 30 fps, times as a file with 1 ms time stamps has them."""
    sampler = Sampler(fps)
    start = seconds * 30
    list(map(sampler.takes, (n / 30 for n in range(0, start, 30))))
    near = [round(n / 30, 3) for n in range(start, start + 60)]
    wanted = {-(-30 * point // fps) for point in range(2 * fps)}  # the first at or after each
    expected = [near[n] for n in sorted(wanted)]
    assert [time_s for time_s in near if sampler.takes(time_s)] == expected


@given(st.floats(0, 1000), st.floats(0.5, 60))
def test_a_gap_is_not_filled(start_s, gap_s):
    sampler = Sampler(4)
    sampler.takes(start_s)
    sampler.takes(start_s + gap_s)
    assert not sampler.takes(start_s + gap_s)


def test_reset_is_fresh():
    times_s = [float(Fraction(n, 30)) for n in range(90)]
    sampler = Sampler(4)
    first = [time_s for time_s in times_s if sampler.takes(time_s)]
    sampler.reset()
    assert [time_s for time_s in times_s if sampler.takes(time_s)] == first


@pytest.mark.parametrize("fps", [0, -1, math.nan, math.inf])
def test_impossible_rates_are_refused(fps):
    with pytest.raises(ValueError, match="fps"):
        Sampler(fps)
