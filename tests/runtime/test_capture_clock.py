"""Capture times: never back, never in the future, free of jitter, after every jump and drift."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgestream.runtime.capture_clock import BACK_S, DRIFT, CaptureClock

SECONDS = st.floats(-1e6, 1e6)
STAMPS = st.one_of(st.none(), SECONDS)


@given(st.lists(st.tuples(STAMPS, st.floats(0, 30), st.booleans()), max_size=60))
def test_whatever_comes_times_never_go_back_and_never_lie_in_the_future(steps):
    clock, arrived_s, last_s = CaptureClock(), 1000.0, 0.0
    for pts_s, later_s, is_new_connection in steps:
        arrived_s += later_s
        if is_new_connection:
            clock.anchor()
        captured = clock.step(pts_s, arrived_s)
        assert last_s <= captured.at_s <= arrived_s
        assert captured.lag_s >= 0
        if pts_s is None:
            assert captured.at_s == arrived_s and captured.lag_s == 0
        last_s = captured.at_s


@pytest.mark.medium
@given(
    st.lists(st.floats(0, 0.4), min_size=30, max_size=80),
    st.floats(-1e5, 1e5),
    st.floats(1e-3, 0.2),
)
def test_jitter_is_taken_out_once_the_best_case_was_seen(jitters_s, first_pts_s, interval_s):
    """Even time stamps, arrivals late by up to 0.4 s: times are even, and lag is the jitter."""
    clock, arrived_s, before = CaptureClock(), 0.0, None
    for index, late_s in enumerate([0.0, *jitters_s]):
        sent_s = 50 + index * interval_s
        arrived_s = max(arrived_s, sent_s + late_s)  # one connection keeps the order
        captured = clock.step(first_pts_s + index * interval_s, arrived_s)
        leaked_s = DRIFT * (arrived_s - 50)
        assert -1e-6 <= captured.at_s - sent_s <= leaked_s + 1e-6
        assert abs(captured.lag_s - (arrived_s - captured.at_s)) < 1e-6
        if before is not None:
            assert abs(captured.at_s - before - interval_s) <= leaked_s + 1e-6
        before = captured.at_s


@given(st.floats(-DRIFT * 0.8, 2e-3))
def test_a_clock_that_drifts_is_followed(drift):
    """An hour at 4 a second: the lag stays that of the network, whichever clock is faster."""
    clock = CaptureClock()
    lags_s = []
    for index in range(0, 4 * 3600, 40):
        true_s = index / 4
        jitter_s = 0.05 * (index % 3)
        lags_s.append(clock.step(true_s * (1 + drift), true_s + jitter_s).lag_s)
    assert max(lags_s) < 0.2


def test_growing_latency_is_seen():
    """Pictures a second apart of which each is decoded 0.1 s later than the one before."""
    clock = CaptureClock()
    lags_s = [clock.step(float(index), index * 1.1).lag_s for index in range(20)]
    assert lags_s[0] == 0 and lags_s == sorted(lags_s)
    assert 1.8 < lags_s[-1] <= 1.9


@given(st.floats(BACK_S + 0.1, 1e9), st.booleans())
def test_a_clock_that_begins_again_is_taken_up_at_once(jump_s, is_back):
    """A restart of the camera, a wrap of its counter: no lag, no stop, and it is said."""
    clock = CaptureClock()
    for index in range(50):
        clock.step(100 + index * 0.1, 7 + index * 0.1)
    begun_s = 104.9 - jump_s if is_back else 105.0 + jump_s
    for index in range(50):
        captured = clock.step(begun_s + index * 0.1, 12 + index * 0.1)
        assert captured.is_rebased == (index == 0)
        assert captured.lag_s < 1e-3
        assert abs(captured.at_s - (12 + index * 0.1)) < 1e-3


def test_a_burst_after_a_halt_is_late_and_no_jump():
    """Three seconds of nothing, then all that was held back at once."""
    clock = CaptureClock()
    for index in range(10):
        clock.step(index * 0.1, index * 0.1)
    lags_s = []
    for index in range(10, 41):
        captured = clock.step(index * 0.1, 4.0 + (index - 10) * 1e-3)
        assert not captured.is_rebased
        assert abs(captured.at_s - index * 0.1) < 0.01
        lags_s.append(captured.lag_s)
    assert lags_s[0] > 2.9 and lags_s[-1] < 0.1


def test_a_picture_out_of_order_is_no_restart():
    clock = CaptureClock()
    clock.step(10.0, 0.0)
    clock.step(10.2, 0.2)
    late = clock.step(10.1, 0.2)
    assert abs(late.at_s - 0.2) < 1e-9 and not late.is_rebased
    assert abs(clock.step(10.3, 0.3).at_s - 0.3) < 1e-3


def test_asking_for_the_lag_changes_nothing():
    clock = CaptureClock()
    assert clock.lag_s(5.0, 1.0) == 0
    clock.step(5.0, 1.0)
    for _ in range(3):
        assert abs(clock.lag_s(5.5, 3.5) - 2.0) < 1e-9
        assert clock.lag_s(None, 3.5) == 0
    assert clock.step(6.0, 2.0).lag_s < 1e-3
