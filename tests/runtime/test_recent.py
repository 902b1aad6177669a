"""The recent memory: bounded, in order of time, and a view that never changes."""

from __future__ import annotations

import threading
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgestream.runtime.errors import SettingsInvalid
from edgestream.runtime.motion_value import Motion
from edgestream.runtime.recent import DialogueTurn, RecentMemory, RecentView
from edgestream.runtime.router import QUIET
from edgestream.runtime.values import Features, Response

MOTION = Motion(np.zeros((6, 7, 7), np.float32))
FRAME_BYTES = 2 * 3 * 4


def features_at(time_s):
    empty = np.zeros((0, 0), np.float32)
    return Features(time_s, empty, np.zeros(0, np.float32), MOTION, False)


def embeds_of(number):
    embeds = np.full((2, 3), number, np.float32)
    embeds.flags.writeable = False
    return embeds


def filled(times_s, **bounds):
    memory = RecentMemory(**bounds)
    for number, time_s in enumerate(times_s):
        memory.step(features_at(time_s), embeds_of(number), QUIET)
    return memory


def said(text, *, at_s=1.0, question="What?", cause="question", is_final=True):
    return Response("t1", cause, text, is_final, (0.0, at_s), question=question)


def times_of(frames):
    return [time_s for time_s, _ in frames]


# Each frame: seconds since the one before, and whether its tokens are taken over.
streams = st.lists(st.tuples(st.floats(0.0, 3.0), st.booleans()), max_size=40)


@pytest.mark.medium
@given(streams, st.integers(1, 8), st.integers(1, 6))
def test_it_is_a_ring_of_the_newest_frames_within_its_bounds(stream, max_frames, max_arrays):
    memory = RecentMemory(max_frames=max_frames, max_bytes=max_arrays * FRAME_BYTES + 1)
    given_frames, views, now_s = [], [], 0.0
    for number, (passed_s, is_same) in enumerate(stream):
        now_s += passed_s
        is_same = is_same and bool(given_frames)
        embeds = given_frames[-1][1] if is_same else embeds_of(number)
        memory.step(features_at(now_s), embeds, QUIET)
        given_frames.append((now_s, embeds))
        frames = memory.view().frames
        views.append((memory.view(), frames, [array.copy() for _, array in frames]))
        kept = given_frames[len(given_frames) - len(frames) :]
        assert frames and all(
            a[0] == b[0] and a[1] is b[1] for a, b in zip(frames, kept, strict=True)
        )
        arrays = {id(array) for _, array in frames}
        assert len(frames) <= max_frames and len(arrays) <= max_arrays
        assert memory.n_bytes == memory.view().n_bytes == len(arrays) * FRAME_BYTES
        if len(frames) < len(given_frames):  # nothing goes that could have stayed
            older = {id(given_frames[-len(frames) - 1][1])}
            assert len(frames) == max_frames or len(arrays | older) > max_arrays
    for view, frames, arrays in views:
        assert view.frames is frames
        assert all(np.array_equal(a, b) for (_, a), b in zip(frames, arrays, strict=True))


@pytest.mark.medium
@given(streams, st.floats(-1.0, 60.0), st.integers(0, 6), st.sampled_from([0.0, 0.5, 1.0, 2.0]))
def test_until_takes_the_newest_frames_that_are_far_enough_apart(stream, time_s, frames, every_s):
    times_s = list(np.cumsum([passed_s for passed_s, _ in stream]))
    view = filled(times_s).view()
    taken = view.until(time_s, frames=frames, every_s=every_s)
    got = times_of(taken)
    assert len(taken) == min(len(taken), frames) and got == sorted(got)
    assert all(b - a >= every_s - 0.0021 for a, b in pairwise(got))
    early = [time for time in times_s if time <= time_s + 0.002]
    if not (frames and times_s):
        assert not taken
    elif early:
        assert got[-1] == early[-1]
        # The next older one that would have been far enough is never passed over.
        for newer, older in pairwise([*got[::-1], -1.0]):
            between = [t for t in early if older < t <= newer - every_s + 0.0019]
            assert not between or (len(got) == frames and newer == got[0]) or every_s == 0.0
    else:
        assert got[0] == times_s[0]


@pytest.mark.parametrize("fps", [2, 4, 10, 30])
def test_one_frame_a_second_of_a_regular_stream(fps):
    times_s = np.cumsum([0.0, *[1 / fps] * (12 * fps)])  # with the rounding of a sum
    view = filled([float(time_s) for time_s in times_s], max_frames=512).view()
    got = view.until(11.0, frames=5, every_s=1.0)
    assert [round(time_s, 6) for time_s in times_of(got)] == [7.0, 8.0, 9.0, 10.0, 11.0]
    assert [int(embeds[0, 0]) for _, embeds in got] == [fps * second for second in range(7, 12)]


def test_a_time_before_all_that_is_kept_gets_the_oldest_that_is():
    view = filled([n / 4 for n in range(40)], max_frames=20).view()
    assert times_of(view.until(1.0, frames=3, every_s=1.0)) == [5.0, 6.0, 7.0]


def test_a_frame_whose_time_was_added_up_is_at_its_time():
    view = filled([0.1, 0.1 + 0.2]).view()  # a little more than 0.3
    assert times_of(view.until(0.3, frames=1)) == [0.1 + 0.2]


def test_nothing_was_seen_yet():
    assert RecentMemory().view().until(3.0, frames=4) == ()


def test_embeds_that_could_still_be_written_are_copied():
    memory, embeds = RecentMemory(), np.ones((2, 3), np.float32)
    memory.step(features_at(0.0), embeds, QUIET)
    embeds[:] = 7
    kept = memory.view().frames[0][1]
    assert (kept == 1).all() and not kept.flags.writeable


def test_a_budget_below_one_frame_is_refused_with_what_it_takes():
    memory = RecentMemory(max_bytes=FRAME_BYTES - 1)
    with pytest.raises(SettingsInvalid, match=f"{FRAME_BYTES - 1} bytes.*{FRAME_BYTES} of one"):
        memory.step(features_at(0.0), embeds_of(0), QUIET)
    assert memory.n_bytes == 0 and not memory.view().frames


def test_only_questions_with_an_answer_are_dialogue():
    memory = RecentMemory()
    memory.remember(
        [
            said("A cat.", at_s=4.0, question="Who?"),
            said("A", at_s=3.0, is_final=False),
            said(" \n", at_s=3.0),
            said("A door opens.", cause="event", question=None),
        ]
    )
    assert memory.view().dialogue == (DialogueTurn(4.0, "Who?", "A cat."),)


@pytest.mark.medium
@given(st.lists(st.tuples(st.floats(0, 9), st.text(min_size=1, max_size=9)), max_size=12))
def test_dialogue_is_in_order_of_time_and_bounded(answers):
    memory = RecentMemory(max_turns=4, max_dialogue_bytes=60)
    view = memory.view()
    for at_s, text in answers:
        memory.remember([said(text, at_s=at_s)])
        dialogue = memory.view().dialogue
        assert list(dialogue) == sorted(dialogue, key=lambda turn: turn.time_s)
        assert len(dialogue) <= 4 and sum(turn.n_bytes for turn in dialogue) <= 60
    assert view.dialogue == ()
    spoken = sorted(at_s for at_s, text in answers if text.strip())
    assert bool(memory.view().dialogue) == bool(spoken)
    if spoken:
        assert memory.view().dialogue[-1].time_s == spoken[-1]


@pytest.mark.medium
@given(streams, st.integers(0, 40))
def test_a_state_put_back_goes_on_exactly_and_reset_is_fresh(stream, cut):
    times_s = [float(t) for t in np.cumsum([passed_s for passed_s, _ in stream])]
    whole = filled(times_s, max_frames=6)
    first = filled(times_s[:cut], max_frames=6)
    first.remember([said("Yes.")])
    second = RecentMemory(max_frames=6)
    second.restore(first.snapshot())
    for number, time_s in enumerate(times_s[cut:], cut):
        second.step(features_at(time_s), embeds_of(number), QUIET)
    assert times_of(second.view().frames) == times_of(whole.view().frames)
    assert second.n_bytes == whole.n_bytes and len(second.view().dialogue) == 1
    second.reset()
    assert second.n_bytes == 0 and second.view().frames == second.view().dialogue == ()


def test_a_state_of_a_larger_memory_is_cut_to_size():
    memory = RecentMemory(max_frames=3, max_bytes=2 * FRAME_BYTES)
    memory.restore(filled(range(10)).snapshot())
    assert times_of(memory.view().frames) == [8, 9] and memory.n_bytes == 2 * FRAME_BYTES


def test_a_view_may_be_taken_while_frames_come():
    memory, is_over, faults = RecentMemory(max_frames=8), threading.Event(), []

    def look():
        last_s = -1.0
        while not is_over.is_set():
            view = memory.view()
            times_s = times_of(view.frames)
            newest_s = times_s[-1] if times_s else -1.0
            numbers = [embeds[0, 0] for _, embeds in view.frames]
            if numbers != times_s or times_s != sorted(times_s) or newest_s < last_s:
                faults.append(times_s)
            last_s = newest_s

    thread = threading.Thread(target=look)
    thread.start()
    for number in range(3000):
        memory.step(features_at(float(number)), embeds_of(number), QUIET)
        if number % 100 == 0:
            memory.remember([said("Yes.", at_s=float(number))])
    is_over.set()
    thread.join(10)
    assert not faults and not thread.is_alive()
    view = memory.view()
    assert isinstance(view, RecentView) and len(view.frames) == 8 and len(view.dialogue) == 16


@pytest.mark.parametrize("bounds", [{"max_frames": 0}, {"max_turns": -1}])
def test_a_memory_for_less_than_nothing_is_refused(bounds):
    with pytest.raises(ValueError, match="max_"):
        RecentMemory(**bounds)
