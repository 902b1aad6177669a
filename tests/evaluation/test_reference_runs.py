"""The reference assistant watches clips: what was seen once is seen by every mode alike."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from edgestream.evaluation.reference_runs import MODES, eyes_of, watcher
from edgestream.evaluation.world import frozen_clips
from edgestream.runtime.bundle import open_bundle

BUNDLE = Path(__file__).parents[2] / "assets" / "reference"


@pytest.mark.slow
def test_what_one_watcher_saw_another_watches_as_if_it_saw_it_itself():
    clips, bundle, sights = [clip for _, clip in frozen_clips(2)], open_bundle(BUNDLE), None
    for mode in MODES:
        with watcher(bundle, mode) as one:
            alone = [one.watch(clip) for clip in clips]
            if sights is None:
                frames = [list(zip(clip.time_s, clip.pixels, strict=True)) for clip in clips]
                sights = [one.look(each) for each in frames]
                continue
            told = [one.watch(clip, each) for clip, each in zip(clips, sights, strict=True)]
        for mine, theirs in zip(alone, told, strict=True):
            assert mine.said == theirs.said and mine.answers == theirs.answers
            assert mine.gate == theirs.gate and any(mine.answers)
            np.testing.assert_array_equal(mine.scores, theirs.scores)


def test_eyes_are_vision_and_gate_and_what_they_are_told():
    bundle = open_bundle(BUNDLE, check="manifest")

    def changed(**facts):
        return dataclasses.replace(bundle, manifest=dataclasses.replace(bundle.manifest, **facts))

    def with_file(name):
        files = dict(bundle.manifest.files)
        files[name] = dataclasses.replace(files[name], sha256="0" * 64)
        return changed(files=files)

    mine = eyes_of(bundle)
    assert eyes_of(with_file("connector.onnx")) == eyes_of(changed(name="other")) == mine
    others = [with_file("vision.onnx"), with_file("gate.onnx"), changed(gate=None)]
    assert mine not in map(eyes_of, others)
