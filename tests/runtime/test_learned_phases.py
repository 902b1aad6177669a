"""A learned gate's scores as events: what opens, what is told, what is muted."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgestream.runtime.errors import SettingsInvalid, StreamOutOfOrder
from edgestream.runtime.learned_phases import LearnedPhases, LearnedRules, learned_rules
from edgestream.runtime.manifest_values import GateFacts
from edgestream.runtime.phases import PhaseRules
from edgestream.runtime.router import TurnRouter

EVENTS = ("cut", "pan", "enter")
FACTS = GateFacts(
    "learned",
    EVENTS,
    {"speak": 0.6, "cut": 0.5, "pan": 0.4},
    close_ratio=0.5,
    attributes={"colour": ("red", "blue"), "direction": ("left", "right")},
    attributes_of={"pan": ("direction",), "enter": ("colour", "direction")},
)
RULES = learned_rules(FACTS, has_speak=True)
WARM = replace(RULES, warm_up_frames=0)


def told(rules, *frames, attributes=None):
    """(events that opened, whether they make a Turn) at each frame of 0.25 s."""
    phases, found = LearnedPhases(rules), []
    for index, scores in enumerate(frames):
        decision = phases.step(index / 4, {"speak": 0.0, **scores}, attributes)
        found.append((" ".join(event.event for event in decision.opened), decision.speaks))
    return found


def turns(found):
    """Frames that make a Turn, with what is told."""
    return {index: opened for index, (opened, speaks) in enumerate(found) if opened and speaks}


def test_the_manifest_states_the_thresholds():
    assert RULES.events["cut"] == PhaseRules(0.5, 0.25)
    assert RULES.events["enter"] == PhaseRules(0.5, 0.25), "0.5 where the manifest has none"
    assert RULES.speak == PhaseRules(0.6, 0.3) and RULES.attributes_of == FACTS.attributes_of
    assert learned_rules(replace(FACTS, close_ratio=None), has_speak=False).speak is None


def test_what_opens_with_the_wish_to_speak_is_told_at_once():
    found = told(WARM, {}, {"pan": 0.7, "enter": 0.9, "speak": 0.9}, {})
    assert turns(found) == {1: "pan enter"}


def test_what_opens_without_it_is_a_record_and_no_turn():
    found = told(WARM, {}, {"pan": 0.7, "speak": 0.3}, {})
    assert found[1] == ("pan", False) and not turns(found)


def test_a_type_that_comes_a_frame_late_belongs_to_what_is_told():
    found = told(WARM, {}, {"speak": 0.9}, {"pan": 0.7, "speak": 0.9}, {})
    assert turns(found) == {1: "speak"} and found[2] == ("pan", False)


def test_the_next_event_of_a_long_wish_is_told_too():
    found = told(WARM, {}, {"cut": 0.7, "speak": 0.9}, {"enter": 0.7, "speak": 0.5}, {})
    assert turns(found) == {1: "cut", 2: "enter"}


def test_a_wish_that_goes_on_is_told_once():
    found = told(WARM, {}, *[{"speak": 0.9, "pan": 0.8}] * 5, {}, {"speak": 0.9, "pan": 0.8})
    assert turns(found) == {1: "pan", 7: "pan"}


def test_between_its_two_thresholds_a_wish_goes_on_and_does_not_begin():
    assert not turns(told(WARM, {"speak": 0.5}, {"speak": 0.5}))
    assert turns(told(WARM, {"speak": 0.7}, {"speak": 0.4}, {"speak": 0.7})) == {0: "speak"}
    assert turns(told(WARM, {"speak": 0.7}, {"speak": 0.2}, {"speak": 0.7})) == {
        0: "speak",
        2: "speak",
    }


def test_while_it_warms_up_only_cuts_and_the_opening_scene_are_told():
    every = dict.fromkeys(EVENTS, 1.0)
    loud = [{"speak": 1.0, "pan": 1.0, "enter": 1.0}] * 2
    assert told(RULES, *loud) == [("speak", True), ("", False)]
    assert turns(told(RULES, {}, {"speak": 1.0, "enter": 1.0}, {})) == {}
    assert turns(told(RULES, {}, {"speak": 1.0, **every})) == {1: "cut"}
    assert turns(told(RULES, {}, {}, {"speak": 1.0, "enter": 1.0})) == {2: "enter"}


def test_a_gate_without_a_wish_tells_whatever_opens():
    rules = learned_rules(replace(FACTS), has_speak=False)
    found = told(replace(rules, warm_up_frames=0), {}, {"pan": 0.7}, {"pan": 0.7, "cut": 0.9})
    assert turns(found) == {1: "pan", 2: "cut"}


def test_raw_scores_stay_in_the_decision():
    decision = LearnedPhases(RULES).step(0.0, {"speak": 0.1, "pan": 0.9})
    assert decision.scores == {"speak": 0.1, "pan": 0.9} and not decision.opened


@pytest.mark.parametrize(
    ("shares", "told_of_enter"),
    [
        ({"red": 0.8, "blue": 0.1}, {"colour": "red"}),
        ({"red": 0.5, "blue": 0.2}, {}),
        ({"red": 0.05, "blue": 0.75}, {"colour": "blue"}),
    ],
)
def test_an_event_carries_what_the_gate_is_sure_of(shares, told_of_enter):
    attributes = {"colour": shares, "direction": {"left": 0.1, "right": 0.2}}
    decision = LearnedPhases(WARM).step(0.0, {"enter": 0.9, "cut": 0.9, "pan": 0.9}, attributes)
    found = {event.event: dict(event.attributes) for event in decision.opened}
    assert found == {"cut": {}, "pan": {}, "enter": told_of_enter}


def test_without_a_list_every_event_carries_everything():
    rules = replace(WARM, attributes_of=None)
    attributes = {"direction": {"left": 0.9, "right": 0.1}}
    decision = LearnedPhases(rules).step(0.0, {"cut": 0.9}, attributes)
    assert dict(decision.opened[0].attributes) == {"direction": "left"}


def test_the_router_makes_no_turn_of_what_is_not_told():
    router, phases = TurnRouter(describes_events=True), LearnedPhases(WARM)
    assert not list(router.turns(phases.step(0.0, {"pan": 0.9, "speak": 0.1}), (), 0.0))
    (turn,) = router.turns(phases.step(0.25, {"cut": 0.9, "speak": 0.9}), (), 0.25)
    assert [event.event for event in turn.events] == ["cut"]


scores = st.fixed_dictionaries({name: st.floats(0, 1) for name in ("speak", *EVENTS)})


@pytest.mark.medium
@settings(max_examples=60, deadline=None)
@given(st.lists(scores, min_size=1, max_size=24), st.data())
def test_a_state_put_back_goes_on_as_if_nothing_had_been_between(frames, data):
    at = data.draw(st.integers(0, len(frames)))
    whole, stopped = LearnedPhases(RULES), LearnedPhases(RULES)
    for index, one in enumerate(frames):
        if index == at:
            again = LearnedPhases(RULES)
            again.restore(stopped.snapshot())
            stopped = again
        left, right = whole.step(index / 4, one), stopped.step(index / 4, one)
        assert (left.opened, left.closed, left.speaks) == (right.opened, right.closed, right.speaks)
        assert left.phases == right.phases
    stopped.reset()
    assert stopped.snapshot() == LearnedPhases(RULES).snapshot()


@settings(max_examples=60, deadline=None)
@given(st.lists(scores, min_size=1, max_size=24))
def test_every_turn_has_events_and_every_opening_closes(frames):
    phases, opened, closed = LearnedPhases(RULES), [], []
    for index, one in enumerate(frames):
        decision = phases.step(index / 4, one)
        assert bool(decision.opened) or not decision.speaks
        opened += [event.event_id for event in decision.opened]
        closed += [event.event_id for event in decision.closed]
    closed += [event.event_id for event in phases.idle(len(frames) / 4 + 60).closed]
    assert sorted(opened) == sorted(closed) and len(set(opened)) == len(opened)


def test_times_do_not_go_back_and_another_state_is_refused():
    phases = LearnedPhases(RULES)
    phases.step(1.0, {})
    before = phases.snapshot()
    with pytest.raises(StreamOutOfOrder):
        phases.step(0.5, {"speak": 1.0})
    assert phases.snapshot() == before
    other = LearnedPhases(LearnedRules({"fall": PhaseRules()}))
    with pytest.raises(SettingsInvalid, match="fall"):
        other.restore(before)
