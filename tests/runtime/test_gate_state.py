"""Saved gates: each goes on from JSON as if nothing had been between."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgestream.runtime.errors import StateInvalid
from edgestream.runtime.gate import GATES, gate_from_name
from edgestream.runtime.gate_state import STATES, restore_gate, saved_gate
from edgestream.runtime.state_snapshot import SavedPart
from edgestream.runtime.values import Features, Motion

NAMES = ["change", "every:0.5", "never"]


@st.composite
def streams(draw):
    """Frames whose motion, light and cuts open and close events; numbers as numpy gives them."""
    made, time_s = [], 0.0
    for first in [True] + [False] * draw(st.integers(1, 30)):
        share = st.floats(0, 1).map(np.float32)
        motion = Motion(
            np.zeros((6, 7, 7), np.float32),
            light_stops=draw(st.floats(-1, 1)),
            light_share=float(draw(share)),
            shift_px=(draw(st.floats(-6, 6)), draw(st.floats(-6, 6))),
            found=draw(share),
            palette=draw(share),
            recognisable=draw(share),
            moving=draw(share),
            over_s=0.0 if first else 0.25,
            is_first=first,
        )
        made.append(Features(time_s, np.zeros((0, 0), np.float32), np.zeros(4), motion, False))
        time_s += 0.25
    return made


def through_json(saved):
    return SavedPart(json.loads(json.dumps(saved.values, allow_nan=False)), saved.arrays)


@pytest.mark.medium
@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=40, deadline=None)
@given(frames=streams(), data=st.data())
def test_a_restored_gate_decides_as_one_that_was_never_stopped(name, frames, data):
    at = data.draw(st.integers(0, len(frames)))
    whole, stopped, other = (gate_from_name(name) for _ in range(3))
    for features in frames[:at]:
        whole.step(features)
        stopped.step(features)
    assert restore_gate(other, name, through_json(saved_gate(stopped, name)))
    assert other.snapshot() == whole.snapshot()
    for features in frames[at:]:
        one, two = whole.step(features), other.step(features)
        assert (one.opened, one.closed, one.phases) == (two.opened, two.closed, two.phases)


def test_every_gate_can_be_saved():
    kinds = {type(gate_from_name(name)) for name in NAMES}
    assert kinds == set(STATES) and {name.partition(":")[0] for name in NAMES} == set(GATES)


@pytest.mark.parametrize("other", ["every:2", "never"])
def test_a_state_of_another_gate_is_left_alone(other):
    gate = gate_from_name(other)
    assert not restore_gate(gate, other, saved_gate(gate_from_name("every:5"), "every:5"))
    assert gate.snapshot() == gate_from_name(other).snapshot()


def started(name):
    gate = gate_from_name(name)
    motion = Motion(np.zeros((6, 7, 7), np.float32), is_first=True)
    gate.step(Features(1.0, np.zeros((0, 0), np.float32), np.zeros(4), motion, False))
    return json.loads(json.dumps(saved_gate(gate, name).values))


@pytest.mark.parametrize(
    ("name", "keys", "value", "words"),
    [
        ("change", ["track"], 3, "state.track: got 3, expected a list"),
        ("change", ["track", 0], {}, r"state.track\[0\]: got \{\}, expected an object of time_s"),
        ("change", ["track", 0, "stops"], "a", r"track\[0\].stops: got 'a', expected a number"),
        ("change", ["track", 0, "stops"], float("nan"), "got nan, expected a number"),
        ("change", ["scores"], [], "scores: got .*, expected an object"),
        ("change", ["phases", "types", 0], [], "expected a list of 2"),
        ("change", ["phases", "types", 0, 1, "phase"], "loud", "got 'loud', expected one of quiet"),
        ("change", ["phases", "events"], 1.5, "events: got 1.5, expected a value of type int"),
        ("every:1", ["event", "opened_s"], -1.0, "state.event: Event.opened_s must be a finite"),
        ("every:1", ["rounds"], True, "rounds: got True"),
    ],
)
def test_a_field_of_another_kind_is_one_sentence(name, keys, value, words):
    values = started(name)
    place = values["state"]
    for key in keys[:-1]:
        place = place[key]
    place[keys[-1]] = value
    with pytest.raises(StateInvalid, match=words) as fault:
        restore_gate(gate_from_name(name), name, SavedPart(values, {}))
    assert fault.value.exit_code == 3 and fault.value.hint
