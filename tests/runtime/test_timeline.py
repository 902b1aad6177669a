"""Timeline laws: it starts at 0, never goes back, and every frame is placed or counted."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgestream.runtime.timeline import LATE_WITHIN_S, Timeline

stamps = st.one_of(st.none(), st.floats(min_value=-1e5, max_value=1e5))


def placed_times(raw_s: list[float | None], interval_s: float = 0.04) -> list[float | None]:
    timeline = Timeline(interval_s)
    return [timeline.step(stamp).time_s for stamp in raw_s]


@given(st.lists(stamps, min_size=1, max_size=60))
def test_it_starts_at_0_never_goes_back_and_counts_what_it_drops(raw_s):
    timeline = Timeline(0.04)
    steps = [timeline.step(stamp) for stamp in raw_s]
    times_s = [step.time_s for step in steps if step.time_s is not None]
    assert times_s[0] == 0.0
    assert times_s == sorted(times_s)
    assert timeline.late_count == len(raw_s) - len(times_s)
    assert timeline.last_s == times_s[-1]


@given(
    st.floats(-1e5, 1e5),
    st.lists(st.floats(min_value=0.0, max_value=1e3), max_size=60),
)
def test_a_clock_that_goes_forward_is_only_shifted(start_s, gaps_s):
    raw_s = [start_s]
    for gap_s in gaps_s:
        raw_s.append(raw_s[-1] + gap_s)
    placed = placed_times(list(raw_s))
    assert placed == pytest.approx([stamp - start_s for stamp in raw_s], abs=2e-6)


@given(st.lists(stamps, min_size=1, max_size=60), st.integers(0, 59))
def test_reset_is_fresh(raw_s, cut):
    timeline = Timeline(0.04)
    for stamp in raw_s[:cut]:
        timeline.step(stamp)
    timeline.reset()
    assert [timeline.step(stamp).time_s for stamp in raw_s] == placed_times(raw_s)
    assert timeline.late_since_s >= 0


def test_a_frame_out_of_order_is_dropped_and_the_rest_keeps_its_time():
    timeline = Timeline(0.04)
    steps = [timeline.step(stamp) for stamp in (5.0, 5.04, 5.12, 5.08, 5.16)]
    assert [step.time_s for step in steps] == pytest.approx([0, 0.04, 0.12, None, 0.16])
    assert (timeline.late_count, timeline.late_since_s) == (1, pytest.approx(0.12))


def test_the_edge_between_late_and_started_again():
    late = Timeline(0.5)
    late.step(0.0), late.step(4.0)
    assert late.step(4.0 - LATE_WITHIN_S).time_s is None
    again = Timeline(0.5)
    again.step(0.0), again.step(4.0)
    placed = again.step(4.0 - LATE_WITHIN_S - 0.01)
    assert placed.time_s == 4.5
    assert placed.rebased_by_s == pytest.approx(0.5 + LATE_WITHIN_S + 0.01)
    assert again.step(4.0 - LATE_WITHIN_S - 0.01 + 0.25).time_s == pytest.approx(4.75)
    assert again.late_count == 0


def test_frames_without_a_time_come_one_interval_later():
    assert placed_times([None, None, 7.0, 7.5, None], 0.5) == [0.0, 0.5, 1.0, 1.5, 2.0]


@pytest.mark.parametrize("interval_s", [0, -1, math.nan, math.inf])
def test_impossible_intervals_are_refused(interval_s):
    with pytest.raises(ValueError, match="interval_s"):
        Timeline(interval_s)
