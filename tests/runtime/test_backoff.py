"""Waits between tries: they grow, are bounded, spread, and begin again after a good connection."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from edgestream.runtime.backoff import Backoff, wait_s

FIRST_S = st.floats(1e-3, 60)


@given(st.integers(0, 10_000), FIRST_S, st.floats(1, 100), st.floats(0, 1))
def test_a_wait_is_bounded_and_never_nothing(tries, first_s, ratio, share):
    most_s = first_s * ratio
    waited_s = wait_s(tries, first_s, most_s, share)
    assert first_s / 2 <= waited_s <= most_s
    assert waited_s <= wait_s(tries + 1, first_s, most_s, share)
    assert waited_s <= wait_s(tries, first_s, most_s, 1.0)


def test_it_doubles_up_to_the_most():
    backoff = Backoff(1.0, 30.0, lambda: 1.0)
    assert [backoff.after(0.0) for _ in range(7)] == [1, 2, 4, 8, 16, 30, 30]
    backoff.reset()
    assert backoff.after(0.0) == 1.0


def test_jitter_spreads_over_the_upper_half():
    assert wait_s(2, 1.0, 30.0, 0.0) == 2.0
    assert wait_s(2, 1.0, 30.0, 0.5) == 3.0


@given(st.lists(st.floats(0, 100), min_size=1, max_size=30), st.floats(0, 1))
def test_a_connection_that_held_longer_than_the_wait_starts_anew(held_s, share):
    backoff = Backoff(1.0, 30.0, lambda: share)
    before_s, first_s = 0.0, wait_s(0, 1.0, 30.0, share)
    for held in held_s:
        waited_s = backoff.after(held)
        assert first_s <= waited_s <= 30
        if held > before_s:
            assert waited_s == first_s
        else:
            assert waited_s >= min(before_s, 30 * (0.5 + share / 2))
        before_s = waited_s
