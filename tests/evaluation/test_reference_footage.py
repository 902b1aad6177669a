"""The table of real footage: who is right about everything passes, who guesses does not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from edgestream.evaluation.footage import Footage, footage_from_source
from edgestream.evaluation.reference_footage import (
    DONE,
    examples,
    false_of_a_fixed_camera,
    footage_lines,
)
from edgestream.evaluation.reference_runs import Watched
from edgestream.evaluation.world import WorldEvent, event_sentence
from edgestream.evaluation.world_scores import ClipPrediction
from edgestream.runtime.errors import SourceMissing
from edgestream.runtime.scripted_scenes import SCENES, paint_scene

FPS = 4.0


@pytest.fixture(scope="module")
def made():
    pictures = [paint_scene(name, 5, 200).astype(np.uint8) for name in SCENES]
    footage = [
        Footage(name, (0.0, 5.0), (picture, picture))
        for name, picture in zip(SCENES, pictures, strict=True)
    ]
    return list(examples(footage, count=4, fps=FPS))


def watched(frames, events):
    said = {event.frame: event.sentence for event in events}
    prediction = ClipPrediction(tuple(said), tuple(events))
    return Watched(prediction, said, (), np.zeros((len(frames), 15), np.float32))


def event_at(frame, kind, way=None):
    return WorldEvent(frame, kind, direction=way, sentence=event_sentence(kind, direction=way))


def truth_told(example, late=0, way=None):
    _, frames, truth = example
    if truth is None:
        return watched(frames, [])
    told = way or truth.attributes.get("direction")
    told = told if "direction" in truth.attributes else None
    return watched(frames, [event_at(round(truth.from_s * FPS) + late, truth.event, told)])


def table(made, make):
    lines = footage_lines([(example, make(example)) for example in made], FPS)
    return {line.figure.name: line for line in lines}


@pytest.mark.medium
def test_there_is_some_of_everything(made):
    assert [kind for kind, _, _ in made].count("still") == 4
    assert {kind for kind, _, _ in made} == {*DONE, "still"}
    assert all(pixels.shape == (112, 112, 3) for _, frames, _ in made for _, pixels in frames)


@pytest.mark.medium
def test_who_tells_the_truth_passes(made):
    lines = table(made, truth_told)
    assert all(line.passed is not False for line in lines.values())
    assert all(lines[kind + part].figure.value == 1.0 for kind in DONE for part in ("", "_told"))
    assert lines["pan_direction"].figure.n == 4 and lines["zoom_direction"].figure.n == 8
    assert lines["false_on_stills"].figure.value == 0.0
    assert set(lines["cut"].beside) == {"rule"}


@pytest.mark.medium
def test_one_frame_late_is_in_time_and_two_are_not(made):
    assert table(made, lambda one: truth_told(one, late=1))["moved"].passed is True
    late = table(made, lambda one: truth_told(one, late=2))
    assert all(late[kind].figure.value == 0.0 and late[kind].passed is False for kind in DONE)


@pytest.mark.medium
def test_a_wrong_way_and_a_word_on_a_still_are_counted(made):
    lines = table(made, lambda one: truth_told(one, way="left"))
    assert lines["moved"].figure.value == 1.0 and lines["pan_direction"].figure.value == 0.25
    loud = table(made, lambda one: watched(one[1], [event_at(3, "cut"), event_at(9, "blur")]))
    assert loud["false_on_stills"].figure.value == 2.0 and loud["false_on_stills"].passed is False


def test_camera_and_scene_sentences_of_a_fixed_camera():
    seen = watched([None] * 20, [event_at(3, "cut"), event_at(9, "pan", "left")])
    assert false_of_a_fixed_camera(seen) == (2, 2)
    enters = WorldEvent(5, "enter", side="left", sentence=event_sentence("enter", side="left"))
    assert false_of_a_fixed_camera(replace(seen, said={5: enters.sentence})) == (2, 0)


@pytest.mark.medium
def test_footage_of_a_source():
    footage = footage_from_source("test:cuts", fps=2.0, most=5)
    assert footage.times_s == (0.0, 0.5, 1.0, 1.5, 2.0) and len(footage.pictures) == 5
    with pytest.raises(SourceMissing):
        footage_from_source("/no/such/file.mp4", fps=2.0)
