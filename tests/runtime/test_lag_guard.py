"""The lag guard: latency stays bounded however slow the decoder, and nothing is skipped idly."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgestream.runtime.lag_guard import CATCH_UP_S, LagGuard, Verdict

MAX_LAG_S = 1.5
READ_S = 1e-4
JOINS = (Verdict.JOIN, Verdict.ANCHOR)


def play(decode_s, *, interval_s=0.1, key_every=10, count=900, has_times=True, held_s=None):
    """A camera, a queue that never loses, and a decoder: (verdict, lag when handled) per packet.

    `held_s` is when the network gives nothing: (from, to).
    """
    guard, now_s, handled = LagGuard(MAX_LAG_S), 0.0, []
    for index in range(count):
        sent_s = index * interval_s
        comes_s = held_s[1] if held_s and held_s[0] <= sent_s < held_s[1] else sent_s
        asked_s = now_s
        now_s = max(now_s + READ_S, comes_s)
        lag_s = now_s - sent_s
        known_s = lag_s if has_times else None
        verdict = guard.step(now_s, now_s - asked_s, known_s, index % key_every == 0)
        handled.append((verdict, lag_s))
        now_s += 0 if verdict is Verdict.SKIP else decode_s
    return handled


@given(st.floats(0, 0.5), st.integers(1, 60), st.floats(0.02, 0.2))
def test_latency_is_bounded_however_slow_the_decoder(decode_s, key_every, interval_s):
    handled = play(decode_s, interval_s=interval_s, key_every=key_every)
    # Until it is noticed, up to a key frame, and one group of pictures that was begun.
    most_s = MAX_LAG_S + CATCH_UP_S + (key_every + 1) * (decode_s + interval_s)
    assert max(lag_s for _, lag_s in handled) <= most_s
    assert sum(verdict in (Verdict.DECODE, *JOINS) for verdict, _ in handled) > 0


@given(st.lists(st.tuples(st.floats(0, 2), st.floats(0, 2), st.floats(0, 5), st.booleans())))
def test_what_is_decoded_after_a_gap_begins_with_a_key_frame(packets):
    guard, arrived_s, is_broken = LagGuard(MAX_LAG_S), 0.0, False
    for later_s, waited_s, lag_s, is_key_frame in packets:
        arrived_s += later_s
        verdict = guard.step(arrived_s, waited_s, lag_s, is_key_frame)
        if verdict is Verdict.SKIP:
            is_broken = True
        elif is_broken:
            assert verdict in JOINS and is_key_frame
            is_broken = False
        else:
            assert verdict is Verdict.DECODE


@pytest.mark.parametrize("has_times", [True, False])
def test_a_decoder_that_keeps_up_loses_nothing(has_times):
    handled = play(0.06, has_times=has_times)
    assert {verdict for verdict, _ in handled} == {Verdict.DECODE}


@pytest.mark.parametrize("has_times", [True, False])
def test_a_slow_decoder_skips_and_goes_on(has_times):
    handled = play(0.15, has_times=has_times)
    skipped = sum(verdict is Verdict.SKIP for verdict, _ in handled)
    assert 200 < skipped < 600
    assert max(lag_s for _, lag_s in handled) < MAX_LAG_S + CATCH_UP_S + 2.5
    assert any(verdict is Verdict.JOIN for verdict, _ in handled)


def test_a_burst_after_a_halt_is_decoded_where_that_is_quick():
    handled = play(0.01, held_s=(20.0, 25.0), key_every=300)
    assert max(lag_s for _, lag_s in handled) > 4.5
    assert {verdict for verdict, _ in handled} == {Verdict.DECODE}


def test_lag_that_skipping_does_not_cure_is_not_ours():
    """A camera whose pictures are 2 s late for good: one group is skipped, once."""
    guard = LagGuard(MAX_LAG_S)
    verdicts, offset_s = [], 2.0
    for index in range(200):
        verdicts.append(guard.step(index * 0.1, 0.09, offset_s, index % 10 == 0))
        if verdicts[-1] is Verdict.ANCHOR:
            offset_s = 0.0
    runs = [verdict for verdict, _ in itertools.groupby(verdicts)]
    assert runs == [Verdict.DECODE, Verdict.SKIP, Verdict.ANCHOR, Verdict.DECODE]
    assert verdicts.count(Verdict.SKIP) <= 20


def test_a_source_without_times_that_never_lets_wait_is_not_skipped_for_ever():
    guard = LagGuard(MAX_LAG_S)
    verdicts = [guard.step(index * 0.01, 1e-4, None, True) for index in range(2000)]
    assert verdicts.count(Verdict.ANCHOR) > 2
    assert verdicts.count(Verdict.DECODE) > verdicts.count(Verdict.SKIP)
