"""Scores: perfect where all is right, else as counted by hand; intervals hold their value."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from edgestream.evaluation.reference_baselines import (
    MotionRule,
    answers_by_majority,
    growth_of,
    majority_answers,
    majority_event,
    rule_prediction,
    shakes,
)
from edgestream.evaluation.reference_scores import Ratio, tally_of
from edgestream.evaluation.world import Clip, WorldEvent, WorldRules, render_clip
from edgestream.evaluation.world_scores import (
    ClipPrediction,
    events_in,
    same_answer,
    score_events,
    score_questions,
    score_sentences,
    sentences_in,
)
from edgestream.runtime.motion_value import Motion


@pytest.fixture(scope="module")
def clips() -> list[Clip]:
    return [render_clip(seed, 40, WorldRules(unseen=0.4), pixels=False) for seed in range(40)]


def spoken(clip: Clip) -> tuple[int, ...]:
    return tuple(frame for frame, told in enumerate(clip.narration) if told)


def test_the_truth_scores_one(clips: list[Clip]) -> None:
    perfect = [ClipPrediction(spoken(clip), clip.events) for clip in clips]
    for figure in score_events(clips, perfect).figures():
        want = 0.0 if figure.name == "false_speech_per_100" else 1.0
        assert figure.value == want and figure.ci95 == (want, want), figure
    said = [dict(enumerate(" ".join(told) for told in clip.narration)) for clip in clips]
    assert all(figure.value == 1.0 for figure in score_sentences(clips, said).figures())
    asked = [clip.questions for clip in clips]
    answers = [[question.answer for question in questions] for questions in asked]
    for figure in score_questions(asked, answers).figures():
        assert figure.value == (0.0 if "minus" in figure.name else 1.0), figure


def test_a_frame_off_still_counts_and_two_do_not(clips: list[Clip]) -> None:
    for off, least, most in ((1, 0.97, 1.0), (2, 0.0, 0.1)):
        moved = [
            ClipPrediction((), tuple(replace(e, frame=e.frame + off) for e in clip.events))
            for clip in clips
        ]
        value = score_events(clips, moved).figure("event_f1_micro").value
        # Two of a type in a row: the nearest pair matches first, and may leave two too far apart.
        assert value is not None and least <= value <= most


def test_silence_finds_nothing_and_says_nothing_false(clips: list[Clip]) -> None:
    tally = score_events(clips, [ClipPrediction((), ())] * len(clips))
    assert tally.figure("speak_f1").value == 0.0 == tally.figure("event_f1_micro").value
    assert tally.figure("false_speech_per_100").value == 0.0
    assert tally.figure("event_precision_cut").value is None
    assert tally.figure("pan_direction").ci95 is None


def test_figures_counted_by_hand(clips: list[Clip]) -> None:
    clip = replace(
        clips[0],
        events=(
            WorldEvent(5, "pan", direction="left"),
            WorldEvent(9, "enter", "red", "left", "right", "small"),
            WorldEvent(20, "cut"),
        ),
        narration=tuple(("x",) if frame in (0, 5, 9, 20) else () for frame in range(40)),
    )
    said = ClipPrediction(
        (0, 4, 9, 30, 31),
        (
            WorldEvent(4, "pan", direction="right"),
            WorldEvent(5, "pan", direction="left"),  # nearer, so this one matches
            WorldEvent(9, "enter", "blue", "left", "right", "small"),
            WorldEvent(23, "cut"),
        ),
    )
    tally = score_events([clip], [said])
    value = {figure.name: figure.value for figure in tally.figures()}
    assert value["speak_f1"] == pytest.approx(2 * 2 / (3 + 4))
    assert value["false_speech_per_100"] == pytest.approx(100 * 2 / 39)
    assert value["event_f1_micro"] == pytest.approx(2 * 2 / (3 + 4))
    assert value["event_precision_pan"] == 0.5 and value["event_recall_pan"] == 1.0
    assert (value["pan_direction"], value["enter_side"], value["mover_colour"]) == (1, 1, 0)
    assert value["event_f1_cut"] == 0.0


def test_an_interval_holds_the_value_and_a_system_does_not_differ_from_itself(
    clips: list[Clip],
) -> None:
    asked = [clip.questions for clip in clips]
    majority = majority_answers(clips)
    answers = [answers_by_majority(questions, majority) for questions in asked]
    tally = score_questions(asked, answers)
    for figure in tally.figures():
        if figure.value is not None and figure.n > 30:
            assert figure.ci95 and figure.ci95[0] <= figure.value <= figure.ci95[1]
            assert figure.as_json()["ci95"] == list(figure.ci95)
    none = tally.minus(tally, "questions")
    assert none.value == 0.0 and none.ci95 == (0.0, 0.0)
    perfect = score_questions(asked, [[q.answer for q in questions] for questions in asked])
    better = perfect.minus(tally, "questions_long")
    assert better.ci95 and better.value and better.ci95[0] > 0.1 < better.value
    with pytest.raises(ValueError, match="same ones"):
        tally.minus(score_questions(asked[:3], answers[:3]), "questions")


def test_a_ratio_may_be_taken_off_another() -> None:
    rows = [{"a": 3.0, "b": 4.0, "c": 1.0, "d": 2.0}, {"b": 0.0}]
    less = Ratio({"c": 1.0}, {"d": 1.0})
    tally = tally_of(rows, {"x": Ratio({"a": 1.0}, {"b": 1.0}, less=less)})
    assert tally.figure("x").value == pytest.approx(0.25)
    with pytest.raises(ValueError, match="no clip"):
        tally_of([], {})


def test_texts_are_taken_apart() -> None:
    text = "The scene changes . Two objects : red and blue . Nonsense"
    assert sentences_in(text) == ["The scene changes.", "Two objects: red and blue.", "Nonsense"]
    events = events_in(7, text + ". Something enters from the top.")
    assert [(e.frame, e.kind, e.side) for e in events] == [(7, "cut", None), (7, "enter", "top")]
    assert events_in(3, "") == ()
    assert same_answer(" on the Left ", "On the left.") and not same_answer("Red.", "Blue.")


def test_majority_is_what_is_most_frequent(clips: list[Clip]) -> None:
    counts = np.sum([clip.labels.events.sum(0) for clip in clips], axis=0)
    event = majority_event(clips)
    assert counts.max() == sum(e.kind == event.kind for clip in clips for e in clip.events)
    assert event.sentence and set(majority_answers(clips)) <= {
        question.topic for clip in clips for question in clip.questions
    }


def motion_of(u: np.ndarray, v: np.ndarray) -> Motion:
    maps = np.zeros((6, 7, 7), np.float32)
    maps[0], maps[1] = u, v
    return Motion(maps)


def test_the_rule_knows_a_zoom_from_a_pan() -> None:
    y, x = np.mgrid[-3:4, -3:4].astype(np.float32)
    assert growth_of(motion_of(1.6 * x, 1.6 * y)) == pytest.approx(0.1)
    assert growth_of(motion_of(-1.6 * x, -1.6 * y)) == pytest.approx(-0.1)
    assert growth_of(motion_of(np.full((7, 7), 5.0), np.zeros((7, 7)))) == 0.0
    assert growth_of(motion_of(np.zeros((7, 7)), np.zeros((7, 7)))) == 0.0


def test_the_rule_knows_a_shake() -> None:
    assert shakes([(6, 0), (-6, 1), (6, 0)]) and not shakes([(6, 0), (6, 1), (6, 0)])
    assert not shakes([(6, 0), (-6, 0)]) and not shakes([(6, 0), (-1, 0), (6, 0)])


def test_the_rule_needs_pixels(clips: list[Clip]) -> None:
    with pytest.raises(ValueError, match="pixels=True"):
        rule_prediction(clips[0])
    black = np.zeros((112, 112, 3), np.uint8)
    rule = MotionRule()
    assert rule.step(0, 0.0, black) == []
    assert [e.kind for e in rule.step(1, 0.25, black + 90)] == ["fade_in"]
    assert [e.kind for e in rule.step(2, 0.5, black)] == ["fade_out"]


@pytest.mark.slow
def test_the_rule_is_better_than_silence() -> None:
    clips = [render_clip(seed, 40) for seed in range(24)]
    tally = score_events(clips, [rule_prediction(clip) for clip in clips])
    micro = tally.figure("event_f1_micro").value
    assert micro is not None and micro > 0.4
    assert (tally.figure("event_f1_fade_in").value or 0) > 0.9
