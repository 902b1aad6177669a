"""Gates by name: every N seconds without drift, never, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgestream.runtime.errors import SettingsInvalid, StreamOutOfOrder
from edgestream.runtime.gate import GATES, EveryGate, gate_from_name
from edgestream.runtime.gate_change import ChangeGate, ChangeRules
from edgestream.runtime.values import Features, Motion

NO_TOKENS = np.zeros((0, 0), np.float32)


def features(time_s: float) -> Features:
    motion = Motion(np.zeros((6, 7, 7), np.float32))
    return Features(time_s, NO_TOKENS, np.zeros(147, np.float32), motion, False)


def opened_s(gate: EveryGate, times: list[float]) -> list[float]:
    return [event.opened_s for t in times for event in gate.step(features(t)).opened]


@pytest.mark.parametrize("fps", [2, 3, 4, 7, 8, 29.97])
def test_every_does_not_drift(fps: float) -> None:
    times = [0.4 + i / fps for i in range(int(60 * fps))]
    got = opened_s(EveryGate(5.0), times)
    assert len(got) == 12 and got[0] == 0.4
    assert all(0 <= t - (0.4 + 5 * n) < 1 / fps + 1e-6 for n, t in enumerate(got))


def test_a_gap_gives_one_event_and_shifts_none() -> None:
    assert opened_s(EveryGate(2.0), [0, 1, 2, 3, 11, 11.5, 12, 13]) == [0, 2, 11, 12]


@pytest.mark.medium
@settings(deadline=None)
@given(st.lists(st.floats(0, 3), max_size=30), st.floats(0.1, 4), st.integers(0, 30))
def test_every_opens_at_most_once_a_period_and_goes_on_from_a_snapshot(
    gaps: list[float], every_s: float, cut: int
) -> None:
    times = [float(t) for t in np.cumsum(gaps)]
    whole, first, second = EveryGate(every_s), EveryGate(every_s), EveryGate(every_s)
    expected = opened_s(whole, times)
    got = opened_s(first, times[:cut])
    second.restore(first.snapshot())
    assert got + opened_s(second, times[cut:]) == expected
    periods = [int((t - times[0] + 1e-6) // every_s) for t in expected]
    assert len(set(periods)) == len(periods)
    first.reset()
    assert opened_s(first, times) == expected


def test_an_event_of_every_is_closed_in_the_next_decision_and_lasts_no_time() -> None:
    gate = EveryGate(0.5)
    (event,) = gate.step(features(1.0)).opened
    assert gate.idle(1.0).closed == () and gate.idle(0.2).closed == ()
    tick = gate.idle(1.1)
    assert [(e.event_id, e.closed_s) for e in tick.closed] == [(event.event_id, 1.0)]
    assert tick.phases == {"every": "closed"} and gate.idle(1.2).phases == {"every": "quiet"}
    assert gate.idle(99.0).opened == ()
    assert gate.step(features(2.0)).phases == {"every": "opened"}
    decision = gate.step(features(2.5))
    assert [e.event_id for e in decision.closed] == ["e2"]
    assert [e.event_id for e in decision.opened] == ["e3"]


def test_every_refuses_time_that_goes_back() -> None:
    gate = EveryGate(1.0)
    gate.step(features(3.0))
    with pytest.raises(StreamOutOfOrder):
        gate.step(features(2.0))


def test_never_never_opens() -> None:
    gate = gate_from_name("never")
    decisions = [gate.step(features(t)) for t in (0.0, 1.0)] + [gate.idle(2.0)]
    gate.restore(gate.snapshot())
    gate.reset()
    assert not any(decision.opened or decision.closed for decision in decisions)


def test_names_make_gates() -> None:
    assert set(GATES) == {"change", "every", "never"}
    gate = gate_from_name("every:2.5")
    assert isinstance(gate, EveryGate) and gate.every_s == 2.5
    rules = ChangeRules(moving=0.5)
    change = gate_from_name("change", rules)
    assert isinstance(change, ChangeGate) and change.rules is rules


@pytest.mark.parametrize(
    "name",
    ["", "chance", "every", "every:", "every:0", "every:-1", "every:nan", "every:x", "never:2"],
)
def test_bad_names_say_what_was_expected(name: str) -> None:
    with pytest.raises(SettingsInvalid) as caught:
        gate_from_name(name)
    assert "expected" in caught.value.message or "takes nothing" in caught.value.message
