"""The table of the reference assistant: perfect and silent systems, bounds, differences."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from edgestream.evaluation.reference_against import MICRO, lines_against
from edgestream.evaluation.reference_runs import Watched, told_event
from edgestream.evaluation.reference_scores import Figure
from edgestream.evaluation.reference_table import (
    MUST,
    MUST_NOT,
    Line,
    differences,
    table,
    tallies_of,
    truth_and_words,
)
from edgestream.evaluation.world import EVENT_TYPES, frozen_clips
from edgestream.evaluation.world_scores import ClipPrediction

NOBODY = ClipPrediction((), ())


@pytest.fixture(scope="module")
def clips():
    return [clip for _, clip in frozen_clips(60, pixels=False)]


def perfect(clip):
    spoken = tuple(frame for frame, told in enumerate(clip.narration) if told)
    return Watched(
        ClipPrediction(spoken, clip.events),
        {frame: " ".join(clip.narration[frame]) for frame in spoken},
        tuple(question.answer for question in clip.questions),
        np.zeros((len(clip.narration), 15), np.float32),
    )


def silent(clip):
    scores = np.zeros((len(clip.narration), 15), np.float32)
    return Watched(NOBODY, {}, ("",) * len(clip.questions), scores)


def lines_of(clips, make, last=silent):
    watched = {mode: [make(clip) for clip in clips] for mode in ("own_text", "true_text")}
    watched["last_frames"] = [last(clip) for clip in clips]
    tallies = tallies_of(clips, watched)
    lines = table(clips, tallies, [NOBODY] * len(clips), {"count": "Two."})
    return {line.figure.name: line for line in lines}, tallies


@pytest.mark.medium
def test_who_is_always_right_passes_every_line(clips):
    lines, _ = lines_of(clips, perfect)
    assert set(MUST) | set(MUST_NOT) <= set(lines)
    for name, line in lines.items():
        assert line.passed in (True, None), name
        least = 0.0 if "minus" in name or name in MUST_NOT else 1.0
        # Somebody counts at the very frame as an event of the same type; both are told once.
        assert line.figure.value is not None and line.figure.value >= 0.97 * least, name
    assert lines["questions_long_own_text_minus_last_frames"].figure.value == pytest.approx(1.0)
    assert lines["false_speech_per_100"].figure.value == 0.0
    assert lines["questions_own_text"].beside["last_16_frames"] == 0.0


@pytest.mark.medium
def test_who_says_nothing_passes_few(clips):
    lines, _ = lines_of(clips, silent)
    assert lines["speak_f1"].passed is False and lines["false_speech_per_100"].passed is True
    assert lines["abstention_precision"].passed is None  # nobody abstained: nothing to measure
    told = lines["false_speech_per_100"].as_json()
    assert told["must_is"] == "at most" and told["must"] == 2.0


@pytest.mark.medium
def test_the_difference_of_two_systems_is_of_the_same_clips(clips):
    _, one = lines_of(clips, perfect)
    _, other = lines_of(clips, silent)
    assert all(line.figure.value == 0.0 and line.passed for line in differences(one, one))
    worse = {line.figure.name: line for line in differences(other, one)}
    assert worse["event_f1_micro_minus_full_precision"].passed is False
    lost = worse["questions_own_text_minus_full_precision"]
    assert lost.figure.value == pytest.approx(-1.0) and lost.passed is False


@pytest.mark.medium
def test_an_assistant_is_held_against_another_one_on_every_line(clips):
    table_lines, one = lines_of(clips, perfect)
    _, other = lines_of(clips, silent)
    same = lines_against(one, one)
    assert [line.figure.name for line in same] == [f"{name}_minus_against" for name in table_lines]
    assert all(line.figure.value in (0.0, None) and line.passed is not False for line in same)
    worse = {line.figure.name: line for line in lines_against(other, one)}
    for name in (*MICRO, "event_f1_cut", "questions_recent_own_text"):
        assert worse[f"{name}_minus_against"].passed is False, name
    # Both terms of what memory adds are counted: nobody who is silent is ahead of himself.
    memory = worse["questions_long_own_text_minus_last_frames_minus_against"].figure
    assert memory.value == pytest.approx(-1.0) and memory.ci95 == pytest.approx((-1.0, -1.0))
    assert worse["false_speech_per_100_minus_against"].passed is None


def test_a_difference_is_held_against_the_lower_end_of_its_interval():
    wide = Figure("answers", 0.0, "1", 9, (-0.03, 0.03))
    assert Line(wide).passed is None and Line(wide, 0.0).passed is True
    assert Line(wide, lowest=-0.02).passed is False and Line(wide, lowest=-0.04).passed is True
    assert Line(wide, 0.01, lowest=-0.04).passed is False
    assert Line(wide, lowest=-0.02).as_json()["must_lowest"] == -0.02


def test_a_picture_is_told_what_is_true_and_what_was_said(clips):
    clip = clips[0]
    right = perfect(clip)
    assert all(true == said for _, true, said in truth_and_words(clip, right))
    wrong = replace(right, said={39: "The scene changes."})
    rows = truth_and_words(clip, wrong)
    assert rows[-1][0] == 39 and rows[-1][2] == "The scene changes."


@pytest.mark.parametrize("kind", EVENT_TYPES)
def test_an_event_without_what_it_needs_has_no_sentence(kind):
    assert told_event(3, kind, {}).kind == kind
    whole = told_event(3, kind, {"direction": "left", "side": "left", "size": "small"})
    assert whole.sentence.endswith(".")
