"""A dialogue along the frames of its video: who speaks behind which frame, and what is learned."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgestream.runtime.errors import DialogueInvalid
from edgestream.training.dialogue_stream import Said, Watch, streamed
from edgestream.training.dialogues import Dialogue, Turn

TIMES_S = [0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 3.5]


def dialogue(*turns, **part):
    return Dialogue(Path("clip.mp4"), tuple(Turn(*turn) for turn in turns), **part)


def test_a_sentence_stands_behind_the_first_frame_at_its_time_or_after_it():
    found = streamed(dialogue((0.8, "assistant", "Now."), (2.0, "assistant", "Again.")), TIMES_S)
    assert found == (
        Watch(0, 3, 3, True), Said("assistant", "Now.", True),
        Watch(3, 2, 2, True), Said("assistant", "Again.", True),
        Watch(5, 3, 3, False),
    )  # fmt: skip


def test_a_question_stands_behind_the_last_frame_at_its_time_or_before_it():
    asked = dialogue((0.8, "user", "What?"), (0.8, "assistant", "This."))
    assert streamed(asked, TIMES_S) == (
        Watch(0, 2, 1, False), Said("user", "What?", False), Said("assistant", "This.", True),
        Watch(2, 6, 6, False),
    )  # fmt: skip


def test_an_instruction_at_the_beginning_stands_behind_one_frame_that_teaches_nothing():
    """As VideoLLM-online lays out a narration."""
    told = dialogue((0.0, "user", "Narrate."), (1.0, "assistant", "A cup."), to_s=1.0)
    assert streamed(told, TIMES_S) == (
        Watch(0, 1, 0, False), Said("user", "Narrate.", False),
        Watch(1, 2, 2, True), Said("assistant", "A cup.", True),
    )  # fmt: skip


def test_two_sentences_behind_one_frame_are_one():
    found = streamed(dialogue((0.6, "assistant", "A."), (0.9, "assistant", "B.")), TIMES_S[:3])
    assert found == (Watch(0, 3, 3, True), Said("assistant", "A. B.", True))


def test_the_moment_of_a_text_that_is_not_learned_teaches_nothing():
    wrong = dialogue((1.0, "assistant", "A cat.", False), (2.0, "assistant", "No, a ball."))
    assert streamed(wrong, TIMES_S[:5]) == (
        Watch(0, 3, 2, True), Said("assistant", "A cat.", False),
        Watch(3, 2, 2, True), Said("assistant", "No, a ball.", True),
    )  # fmt: skip


def test_a_dialogue_is_cut_before_the_stretch_that_would_go_beyond():
    long = dialogue((1.0, "assistant", "A."), (2.0, "assistant", "B."))
    whole = streamed(long, TIMES_S)
    assert streamed(long, TIMES_S, most_frames=5) == whole[:4]
    assert streamed(long, TIMES_S, most_frames=4) == whole[:2]
    assert streamed(long, TIMES_S, most_frames=8) == whole


def test_frames_that_end_before_the_dialogue_are_refused_with_its_place():
    cut = Dialogue(Path("clip.mp4"), (Turn(9.0, "assistant", "A."),), place="all.jsonl:7")
    with pytest.raises(DialogueInvalid, match=r"^all\.jsonl:7: got a turn at 9 s"):
        streamed(cut, TIMES_S)
    with pytest.raises(DialogueInvalid, match="no frame between"):
        streamed(dialogue((9.0, "assistant", "A."), from_s=8.0), TIMES_S)


roles = st.sampled_from(["user", "assistant"])
moments = st.floats(0, 3.5).map(lambda value: round(value, 2))


@pytest.mark.medium
@given(
    st.lists(st.tuples(moments, roles, st.sampled_from("abc"), st.booleans()), min_size=1),
    st.lists(st.floats(0, 4).map(lambda value: round(value, 2)), min_size=1, unique=True),
)
def test_every_frame_is_watched_once_in_order_and_every_word_said_in_order(turns, times):
    times_s = sorted([*times, 4.0])
    turns.sort(key=lambda turn: turn[0])
    steps = streamed(dialogue(*turns), times_s)
    watched = [
        step.first + at for step in steps if isinstance(step, Watch) for at in range(step.count)
    ]
    assert watched == list(range(len(times_s)))
    said = " ".join(step.text for step in steps if isinstance(step, Said))
    assert said == " ".join(turn[2] for turn in turns)
    for step, after in pairwise([*steps, None]):
        if isinstance(step, Watch):
            assert step.count > 0 and 0 <= step.learned <= step.count
            assert not isinstance(after, Watch)
            assert step.speaks == (after is not None and after.role == "assistant")
        elif isinstance(after, Said):
            assert step.role != after.role


@pytest.mark.medium
@given(moments, st.lists(st.floats(0, 4), min_size=2, unique=True))
def test_no_sentence_comes_before_what_it_is_about_was_seen(time_s, times):
    times_s = sorted([*times, 4.0])
    seen = 0
    for step in streamed(dialogue((time_s, "assistant", "A.")), times_s):
        if isinstance(step, Said):
            break
        seen += step.count
    assert times_s[seen - 1] >= time_s - 2e-3
    assert seen == 1 or times_s[seen - 2] < time_s
