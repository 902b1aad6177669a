"""Captions become dialogues: what is said was seen by then, and the same seed says the same."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgestream.training.captions import Caption, Captioned, in_order
from edgestream.training.dialogues import Turn, read_dialogues, write_dialogues
from edgestream.training.synthesis import (
    BEFORE,
    KINDS,
    LAST,
    NARRATE,
    NOTHING,
    NOW,
    SO_FAR,
    TELL_WHEN,
    by_templates,
)

VIDEO = Path("/videos/a.mp4")
THREE = Captioned(
    "a",
    (Caption(2.0, 4.0, "A man comes in."), Caption(5.0, 5.0, "The lamp goes on."),
     Caption(6.0, 9.0, "He sits down.")),
)  # fmt: skip


def written(kind, captioned=THREE, **how):
    return [list(one.turns) for one in by_templates([(VIDEO, captioned)], [kind], **how)]


def test_captions_are_said_where_they_end_or_where_they_begin():
    ends = [Turn(4.0, "assistant", "A man comes in."), Turn(5.0, "assistant", "The lamp goes on."),
            Turn(9.0, "assistant", "He sits down.")]  # fmt: skip
    assert written("unasked") == [ends]
    begins = [turn.time_s for turn in written("unasked", at_start=True)[0]]
    assert begins == [2.0, 5.0, 6.0]
    ((asked, *said),) = written("narrate")
    assert asked.time_s == 0.0 and asked.text in NARRATE and said == ends


def test_one_thing_is_told_when_it_happens_and_nothing_else():
    repeated = Captioned("a", (*THREE.captions, Caption(12.0, 12.0, "The lamp goes on.")))
    for seed in range(20):
        ((asked, *said),) = written("when", repeated, seed=seed)
        wanted = said[0].text
        assert asked.text in [one.format(wanted.rstrip(".")) for one in TELL_WHEN]
        same = [one for one in repeated.captions if one.text == wanted]
        assert [turn.time_s for turn in said] == [one.to_s for one in same]
        assert asked.time_s <= same[0].from_s - 1.0
    assert written("when", Captioned("a", (Caption(0.5, 3.0, "It rains."),))) == []


words = st.text("abc ", min_size=1, max_size=6).map(lambda text: f"{text.strip()}!")


@st.composite
def captions(draw):
    some = []
    for _ in range(draw(st.integers(1, 6))):
        from_s, length_s = draw(st.floats(0, 30)), draw(st.sampled_from([0.0, 2.0, 7.5]))
        some.append(Caption(from_s, from_s + length_s, draw(words)))
    return Captioned("a", in_order(some))


@pytest.mark.medium
@given(captions(), st.integers(0, 5), st.booleans())
def test_an_answer_tells_what_was_said_by_then(captioned, seed, at_start):
    moments = [(one.from_s if at_start else one.to_s, one) for one in captioned.captions]
    for turns in written("ask", captioned, seed=seed, at_start=at_start):
        for question, answer in zip(turns[::2], turns[1::2], strict=True):
            assert question.time_s == answer.time_s
            known = [one.text for time_s, one in sorted(moments, key=lambda pair: pair[0])
                     if time_s <= question.time_s]  # fmt: skip
            if question.text in NOW:
                assert answer.text in [one.text for _, one in moments
                                       if one.from_s <= question.time_s < one.to_s]  # fmt: skip
            elif question.text in SO_FAR:
                assert answer.text == (" ".join(known[-4:]) if known else NOTHING)
            elif question.text in LAST:
                assert answer.text == known[-1]
            else:
                assert question.text in BEFORE and answer.text == known[-2]


@pytest.mark.medium
@given(captions(), st.integers(0, 3))
def test_the_same_seed_writes_the_same_wherever_a_video_stands(captioned, seed):
    alone = list(by_templates([(VIDEO, captioned)], seed=seed))
    after = list(by_templates([(VIDEO, THREE), (VIDEO, captioned)], seed=seed))
    assert after[len(after) - len(alone) :] == alone
    times = [[turn.time_s for turn in one.turns] for one in alone]
    assert times == [sorted(one) for one in times]


def test_what_is_written_can_be_read(tmp_path):
    made = list(by_templates([(tmp_path / "a.mp4", THREE)]))
    assert [one.id for one in made] == [f"a:{kind}" for kind in KINDS]
    write_dialogues(tmp_path / "all.jsonl", made)
    found = read_dialogues(tmp_path / "all.jsonl", check_videos=False)
    assert [one.turns for one in found] == [one.turns for one in made]


@pytest.mark.parametrize("kind", ["ask", "when"])
def test_another_seed_draws_other_moments(kind):
    assert len({str(written(kind, seed=seed)) for seed in range(6)}) > 3
