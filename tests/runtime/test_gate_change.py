"""The change gate: what each measure of stage 0 turns into, and that its state is all there is."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgestream.runtime.gate_change import FLICKERS, MOST_FRAMES, ChangeGate
from edgestream.runtime.values import Features, GateDecision, Motion

STILL = Motion(np.zeros((6, 7, 7), np.float32), recognisable=1.0, light_share=1.0)
FIRST = replace(STILL, is_first=True)
CUT = replace(STILL, found=0.05, palette=0.3, light_stops=-1.0, moving=0.6)


def turned(right: float, down: float = 0.0) -> Motion:
    return replace(STILL, shift_px=(right, down), agreement=0.9)


def decide(
    motions: list[Motion], fps: float = 4.0, gate: ChangeGate | None = None
) -> list[GateDecision]:
    gate = gate or ChangeGate()
    nothing = np.zeros((0, 0), np.float32)
    return [
        gate.step(
            Features(i / fps, nothing, nothing[:, 0:0].ravel(), m, False), 1 / fps if i else None
        )
        for i, m in enumerate(motions)
    ]


def opened(motions: list[Motion], fps: float = 4.0) -> list[tuple[str, float, dict[str, str]]]:
    return [
        (event.event, event.opened_s, dict(event.attributes))
        for decision in decide(motions, fps)
        for event in decision.opened
    ]


def test_a_cut_fires_at_the_second_frame_and_is_neither_dark_nor_motion() -> None:
    assert opened([FIRST, CUT, STILL, STILL]) == [("cut", 0.25, {})]
    assert opened([CUT]) == [("cut", 0.0, {})]
    assert opened([replace(CUT, is_first=True)]) == []


def test_cuts_half_a_second_apart_are_two() -> None:
    assert [t for _, t, _ in opened([FIRST, CUT, STILL, CUT, STILL])] == [0.25, 0.75]


def test_a_black_picture_is_dark_and_not_a_cut() -> None:
    black = replace(STILL, recognisable=0.0, found=0.0, palette=0.0, light_stops=-4.0)
    back = replace(black, light_stops=4.0)
    seen = opened([FIRST, STILL, black, STILL, STILL, STILL, STILL, STILL, back, STILL])
    assert [(name, t) for name, t, _ in seen] == [("dark", 0.5), ("bright", 2.0)]


@pytest.mark.parametrize("fps", [2.0, 4.0, 8.0])
def test_light_opens_when_it_has_changed_enough_and_closes_when_steady(fps: float) -> None:
    per_frame = replace(STILL, light_stops=-1.6 / fps)  # a stop in five eighths of a second
    ramp = [per_frame] * round(0.625 * fps + 0.4)
    decisions = decide([FIRST, STILL, *ramp, *[STILL] * round(3 * fps)], fps)
    (event,) = [event for decision in decisions for event in decision.opened]
    (closed,) = [event for decision in decisions for event in decision.closed]
    assert event.event == "dark"
    assert 1 / fps < event.opened_s <= 1 / fps + 0.4 / 1.6 + 1 / fps
    assert closed.closed_s is not None and closed.closed_s - event.opened_s <= 2.0


def test_dusk_and_shadows_are_no_event() -> None:
    dusk = replace(STILL, light_stops=-0.05)
    shadow = replace(STILL, light_stops=-1.0, light_share=0.2)
    assert opened([FIRST, *[dusk] * 40]) == []
    assert opened([FIRST, shadow, STILL]) == []


@pytest.mark.parametrize(
    ("right", "down", "direction"),
    [(-5, 0.5, "right"), (5, 0, "left"), (0.3, -5, "down"), (0, 5, "up")],
)
def test_the_camera_turns_against_the_content(right: float, down: float, direction: str) -> None:
    motion = turned(right, down)
    seen = opened([FIRST, STILL, motion, motion, motion, STILL, STILL])
    assert seen == [("pan", 0.5, {"direction": direction})]


def test_sway_is_no_pan_and_slow_turns_are() -> None:
    assert opened([FIRST, *[turned(2), turned(-2.5), turned(1.5), turned(-1)] * 6]) == []
    assert [name for name, _, _ in opened([FIRST, *[turned(1.6)] * 8])] == ["pan"]


def test_turning_back_is_a_pan_of_its_own() -> None:
    seen = opened([FIRST, *[turned(6)] * 4, *[turned(-6)] * 4, STILL])
    # Back at 1.25 s; the old pan has to hold low for 0.25 s before the new one can open.
    assert [(t, way["direction"]) for _, t, way in seen] == [(0.25, "left"), (1.75, "right")]


def test_motion_rides_over_short_rests() -> None:
    moves = replace(STILL, moving=0.05)
    decisions = decide(
        [FIRST, moves, STILL, STILL, moves, STILL, STILL, STILL, STILL, STILL, STILL]
    )
    assert [e.opened_s for d in decisions for e in d.opened] == [0.25]
    # It was over at 1.25 s, and after another second that was sure.
    assert [(d.time_s, e.closed_s) for d in decisions for e in d.closed] == [(2.25, 1.25)]


def test_what_camera_and_light_leave_over_is_no_movement() -> None:
    assert [n for n, _, _ in opened([FIRST, replace(turned(5), moving=0.15), STILL])] == ["pan"]
    lit = replace(STILL, moving=0.15, light_stops=-0.9)
    assert [n for n, _, _ in opened([FIRST, lit, STILL])] == ["dark"]


def test_a_camera_that_comes_to_rest_is_no_movement() -> None:
    leftover = replace(STILL, moving=0.15)
    assert [n for n, _, _ in opened([FIRST, turned(6), leftover, STILL])] == ["pan"]
    assert [n for n, _, _ in opened([FIRST, turned(6), STILL, leftover])] == ["pan", "motion"]


def test_a_camera_that_may_be_turning_still_is_no_movement() -> None:
    # A third of the picture follows: too little for a shift, too much for a camera at rest.
    leftover = replace(STILL, moving=0.15, agreement=0.45)
    assert opened([FIRST, turned(0.4), leftover, STILL]) == []
    assert [n for n, _, _ in opened([FIRST, STILL, leftover, STILL])] == ["motion"]
    assert [n for n, _, _ in opened([FIRST, turned(0.4), replace(leftover, moving=0.4)])] == [
        "motion"
    ]


def test_however_fast_the_camera_turns_half_a_picture_that_moves_is_movement() -> None:
    seen = opened([FIRST, replace(turned(12), moving=0.3), replace(turned(12), moving=0.5), STILL])
    assert [(name, t) for name, t, _ in seen] == [("pan", 0.25), ("motion", 0.5)]


def test_colours_that_stayed_count_against_a_cut() -> None:
    # Crops of one picture: little of the texture is found again, all of the colours are.
    assert opened([FIRST, replace(STILL, found=0.15, palette=1.0)]) == []
    assert opened([FIRST, replace(STILL, found=0.15, palette=0.2)]) == [("cut", 0.25, {})]


def test_a_pan_is_over_when_the_camera_stands_though_the_window_still_holds_it() -> None:
    creeps = turned(0.5)  # 2 px a second: a tripod that settles
    decisions = decide([FIRST, turned(6), turned(6), creeps, creeps, creeps, creeps])
    assert [e.opened_s for d in decisions for e in d.opened] == [0.25]
    assert [(d.time_s, e.closed_s) for d in decisions for e in d.closed] == [(1.0, 0.75)]


@pytest.mark.parametrize(("fps", "half_s"), [(4.0, 0.5), (8.0, 0.125), (4.0, 1.25)])
def test_a_light_that_flickers_is_told_three_times(fps: float, half_s: float) -> None:
    half = round(half_s * fps)
    low = [replace(STILL, light_stops=-1.0), *[STILL] * (half - 1)]
    high = [replace(STILL, light_stops=1.0), *[STILL] * (half - 1)]
    flicker = [*low, *high] * (FLICKERS + 8)
    steady = [STILL] * round(5 * fps)
    seen = opened([FIRST, *flicker, *steady, *low, *high], fps)
    told = [(name, t) for name, t, _ in seen]
    assert told[0] == ("dark", 1 / fps)
    during = [name for name, t in told if t < len(flicker) / fps]
    assert during == ["dark", "bright"] * FLICKERS
    # Once it was steady, the next change is told again.
    assert [name for name, _ in told[len(during) :]] == ["dark", "bright"]


def test_lights_that_go_off_and_on_now_and_then_are_all_told() -> None:
    slow = [replace(STILL, light_stops=-1.0), *[STILL] * 13]
    slow += [replace(STILL, light_stops=1.0), *[STILL] * 13]
    assert len(opened([FIRST, *slow * 5])) == 10


def test_frames_between_tell_cuts_at_once_and_let_the_other_scores_stand() -> None:
    def between(motion: Motion, over_s: float) -> Motion:
        return replace(motion, over_s=over_s, is_between=True)

    moves = replace(STILL, moving=0.05, over_s=0.125)
    third = 0.125 / 3
    script = [FIRST, between(moves, third), between(moves, 2 * third), moves]
    script += [between(STILL, third), between(CUT, 2 * third), replace(CUT, over_s=0.125)]
    script += [between(CUT, third), between(STILL, 2 * third)]  # a second cut, 0.08 s later
    decisions = decide(script, 1 / third, gate=(gate := ChangeGate()))
    told = [(e.event, round(e.opened_s / third)) for d in decisions for e in d.opened]
    assert told == [("motion", 3), ("cut", 5)]
    assert [round(at.time_s / third) for at in gate.snapshot().track] == [7]
    assert [decisions[i].scores["motion"] > 0.5 for i in (2, 3, 4, 5)] == [False, True, True, False]


MOTIONS = st.builds(
    lambda found, palette, stops, moving, right, down: replace(
        STILL,
        found=found,
        palette=palette,
        light_stops=stops,
        moving=moving,
        shift_px=(right, down),
    ),
    st.floats(0, 1),
    st.floats(0, 1),
    st.floats(-2, 2),
    st.floats(0, 0.1),
    st.floats(-8, 8),
    st.floats(-8, 8),
)


def said(decision: GateDecision) -> tuple[object, ...]:
    return dict(decision.phases), dict(decision.scores), decision.opened, decision.closed


@pytest.mark.medium
@settings(deadline=None, max_examples=60)
@given(st.lists(MOTIONS, max_size=20), st.integers(0, 20), st.lists(MOTIONS, max_size=5))
def test_snapshot_reset_and_the_bounds_of_scores(
    motions: list[Motion], cut: int, other: list[Motion]
) -> None:
    nothing = np.zeros((0, 0), np.float32)

    def run(gate: ChangeGate, start: int, end: int | None) -> list[tuple[object, ...]]:
        return [
            said(gate.step(Features(i / 4, nothing, nothing.ravel(), motion, False), 0.25))
            for i, motion in enumerate(motions)
            if i >= start and (end is None or i < end)
        ]

    whole, first, second = ChangeGate(), ChangeGate(), ChangeGate()
    expected = run(whole, 0, None)
    got = run(first, 0, cut)
    second.restore(first.snapshot())
    assert got + run(second, cut, None) == expected
    decide(other, gate=(used := ChangeGate()))
    used.reset()
    assert run(used, 0, None) == expected
    for _, scores, _, _ in expected:
        assert all(0.0 <= score <= 1.0 for score in scores.values())  # type: ignore[attr-defined]


def test_the_windows_are_bounded() -> None:
    gate = ChangeGate()
    decide([FIRST, *[turned(0.1)] * 500], fps=1000.0, gate=gate)
    state = gate.snapshot()
    assert len(state.track) <= MOST_FRAMES
