"""Every event is where it can first be decided: recomputed naively from what is where."""

from __future__ import annotations

from itertools import islice, pairwise, product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgestream.evaluation.world import EVENT_TYPES, WorldRules, read_sentence, render_clip
from edgestream.evaluation.world.simulate import (
    FrameState,
    Item,
    bar_px_of,
    hard_negative_of,
    states,
)

SEEDS = st.integers(0, 2**31 - 1)
RULES = WorldRules()
NO_QUESTIONS = WorldRules(questions=0)


def clip_of(seed: int, frames: int = 40) -> list[FrameState]:
    return list(islice(states(seed, RULES), frames))


def mover(state: FrameState, colour: str | None) -> Item | None:
    return next((i for i in state.items if i.thing.colour == colour), None)


def inside_px(item: Item, bar_px: int) -> tuple[float, float]:
    across = min(item.right, 112) - max(item.left, 0)
    down = min(item.bottom, 112 - bar_px) - max(item.top, bar_px)
    return across, down


@pytest.mark.medium
@given(SEEDS)
def test_light_and_black(seed: int) -> None:
    clip = clip_of(seed)
    for t, state in enumerate(clip):
        kinds = {event.kind for event in state.events}
        if "dark" in kinds:
            assert state.light < 0.68 * max(s.light for s in clip[max(t - 4, 0) : t])
        if "bright" in kinds:
            assert state.light > 1.12 * min(s.light for s in clip[max(t - 4, 0) : t])
        assert ("fade_out" in kinds) == (state.fade == 0 and t > 0 and clip[t - 1].fade > 0)
        assert ("fade_in" in kinds) == (state.fade > 0 and t > 0 and clip[t - 1].fade == 0)
        if state.fade == 0:
            assert not kinds - {"fade_out"}, "nothing can be seen in the black"


@pytest.mark.medium
@given(SEEDS)
def test_a_pan_is_told_when_the_picture_went_so_far(seed: int) -> None:
    if hard_negative_of(seed, RULES) == "sway":
        return  # steps of the hand come on top
    clip = clip_of(seed)
    signs = {"left": (-1, 0), "right": (1, 0), "up": (0, -1), "down": (0, 1)}
    for t, state in enumerate(clip):
        for event in state.events:
            if event.kind == "pan":
                x, y = signs[str(event.direction)]
                began = max(k for k in range(t) if not clip[k].camera_moves)
                before = clip[began : t + 1]
                steps = [(x * (b.x - a.x) + y * (b.y - a.y)) * b.zoom for a, b in pairwise(before)]
                assert min(steps[-2:]) > 0 and sum(steps) >= 0.05 * 112 - 1e-6
                assert state.camera_moves and clip[t - 1].camera_moves
            if event.kind == "zoom":
                before = clip[t - 1].zoom
                assert (state.zoom > before) == (event.direction == "in")


@pytest.mark.medium
@given(SEEDS)
def test_what_comes_and_goes_is_told_where_it_shows(seed: int) -> None:
    clip, bar_px = clip_of(seed), bar_px_of(seed, RULES)
    for t, state in enumerate(clip):
        for event in state.events:
            if event.colour is None:
                continue  # one of several such things
            now, before = mover(state, event.colour), mover(clip[t - 1], event.colour)
            if event.kind == "enter":
                assert now and now.is_moving
                across, down = now.right - now.left, now.bottom - now.top
                need = min(6.0, 0.6 * min(across, down))
                axis = 0 if event.side in ("left", "right") else 1
                assert inside_px(now, bar_px)[axis] > need - 1e-6, "it shows"
                if before and hard_negative_of(seed, RULES) != "sway":
                    assert inside_px(before, bar_px)[axis] < need, "and did not before"
            elif event.kind == "leave":
                assert before and not now, "it was there and is gone"
            elif event.kind == "start":
                assert before and not before.is_moving
                # One in thousands (seed 115, frame 7) starts so fast that it is out of sight.
                if now:
                    assert now.is_moving and now.shown > 0.3
            elif event.kind == "stop":
                assert now and before and not now.is_moving and not before.is_moving
                assert mover(clip[t - 2], event.colour).is_moving  # type: ignore[union-attr]
                assert now.shown >= 0.5
            elif event.kind == "meet":
                assert now and now.is_moving
                others = [i for i in state.items if i is not now]
                assert any(
                    i.left < now.right + 1
                    and now.left < i.right + 1
                    and i.top < now.bottom + 1
                    and now.top < i.bottom + 1
                    for i in others
                )


@pytest.mark.medium
@given(SEEDS)
def test_a_shake_goes_to_and_fro(seed: int) -> None:
    clip = clip_of(seed)
    for t, state in enumerate(clip):
        if "shake" in {event.kind for event in state.events}:
            moves = np.array(
                [
                    ((b.x - a.x) * b.zoom, (b.y - a.y) * b.zoom)
                    for a, b in pairwise(clip[t - 3 : t + 1])
                ]
            )
            assert moves[0] @ moves[1] < 0 and moves[1] @ moves[2] < 0
            assert np.linalg.norm(moves[1:], axis=1).min() > 3


def first_of(seed: int) -> str | None:
    events = render_clip(seed, 10, NO_QUESTIONS, pixels=False).events
    return events[0].kind if events else None


def test_every_event_can_come_first() -> None:
    """No type waits for another: zooms out come without zooms in, light without dark."""
    missing = set(EVENT_TYPES)
    for seed in range(3000):
        missing -= {first_of(seed)}
        if not missing:
            return
    raise AssertionError(f"never first: {missing}")


@pytest.mark.slow
def test_every_event_can_follow_every_other() -> None:
    seen = set()
    for seed in range(2500):
        events = render_clip(seed, 60, NO_QUESTIONS, pixels=False).events
        seen |= {(a.kind, b.kind) for a, b in pairwise(events)}
    # Only black ends in a fade in; a picture goes black when all is at rest; a camera mostly turns
    # when all is at rest, and what rests does not stop.
    possible = set(product(EVENT_TYPES, EVENT_TYPES))
    possible -= set(product(("fade_out",), EVENT_TYPES)) | set(product(EVENT_TYPES, ("fade_in",)))
    possible -= set(product(("enter", "start", "meet"), ("fade_out",)))
    possible -= set(product(("fade_in", "pan", "zoom", "shake"), ("leave", "stop", "meet")))
    assert not possible - seen
    assert {b for a, b in seen if a == "fade_out"} == {"fade_in"}


@pytest.mark.medium
def test_types_are_about_equally_frequent() -> None:
    counts = np.sum(
        [
            render_clip(seed, 40, NO_QUESTIONS, pixels=False).labels.events.sum(0)
            for seed in range(300)
        ],
        axis=0,
    )
    shares = counts / counts.sum()
    assert shares.min() > 0.05 and shares.max() < 0.1
    assert 11 < 100 * counts.sum() / (300 * 40) < 15


@pytest.mark.medium
@given(SEEDS)
def test_a_scene_is_told_from_left_to_right(seed: int) -> None:
    for state in clip_of(seed):
        read = read_sentence(state.narration[-1]) if state.narration else None
        if read and read.kind == "scene":
            where = {i.thing.colour: i.left + i.right for i in state.items}
            middles = [where[colour] for colour in read.colours]
            assert middles == sorted(middles)
