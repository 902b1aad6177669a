"""Thresholds: the fast openings are those of the device's phases, and the best ones are found."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgestream.evaluation.world import ATTRIBUTES, EVENT_TYPES, render_clip
from edgestream.models.gate_files import GateMeaning
from edgestream.models.reference_checkpoint import uncalibrated
from edgestream.runtime.learned_phases import LearnedPhases, LearnedRules
from edgestream.runtime.phases import PhaseRules
from edgestream.training.gate_thresholds import calibrated, openings_of, spoken_frames
from edgestream.training.gate_traces import GateTraces, predictions_of
from edgestream.training.reference_parts import parts_of

from .tiny import tiny_config

LEVELS = st.lists(st.sampled_from([0.0, 0.3, 0.45, 0.6, 0.9]), min_size=3, max_size=14)


@pytest.mark.medium
@settings(max_examples=60, deadline=None)
@given(cut=LEVELS, pan=LEVELS, speak=LEVELS, ratio=st.sampled_from([0.4, 0.8]))
def test_fast_openings_are_those_of_the_phases(cut, pan, speak, ratio):
    frames = min(len(cut), len(pan), len(speak))
    scores = np.array([speak[:frames], cut[:frames], pan[:frames]], np.float32).T[None]
    rules = PhaseRules(0.5, 0.5 * ratio)
    phases = LearnedPhases(LearnedRules({"cut": rules, "pan": rules}, rules))
    opened = {
        kind: openings_of(scores, at, kind, 0.5, ratio)[0] for at, kind in enumerate(("cut", "pan"))
    }
    spoken = spoken_frames(scores[..., 0], (opened["cut"] | opened["pan"])[None], 0.5, ratio)[0]
    for frame, row in enumerate(scores[0]):
        named = dict(zip(("speak", "cut", "pan"), map(float, row), strict=True))
        decision = phases.step(0.25 * frame, named)
        there = {event.event for event in decision.opened}
        assert ("cut" in there, "pan" in there) == (opened["cut"][frame], opened["pan"][frame])
        assert bool(decision.opened and decision.speaks) == spoken[frame]


def perfect_traces() -> GateTraces:
    """Scores of .9 where something happens and .2 elsewhere; the right attributes."""
    clips = tuple(render_clip(seed, 30, pixels=False) for seed in range(2**30, 2**30 + 12))
    truth = np.stack([
        np.concatenate([clip.labels.speak[:, None], clip.labels.events], axis=1) for clip in clips
    ])  # fmt: skip
    told = {}
    for name, values in ATTRIBUTES.items():
        index = np.stack([clip.labels.attributes[name] for clip in clips])
        told[name] = (index[..., None] == np.arange(len(values))).astype(np.float32)
    return GateTraces(clips, np.where(truth, 0.9, 0.2).astype(np.float32), told)


@pytest.mark.medium
def test_the_best_thresholds_of_a_perfect_gate_make_no_fault():
    parts, traces = parts_of(0, tiny_config()), perfect_traces()
    meaning = calibrated(traces, uncalibrated(parts.model.config), {"clips": 12})
    assert isinstance(meaning, GateMeaning) and meaning.calibrated_on == {"clips": 12}
    assert set(meaning.thresholds) == {"speak", *EVENT_TYPES}
    assert all(0.2 < meaning.thresholds[kind] <= 0.9 for kind in EVENT_TYPES)
    for clip, said in zip(traces.clips, predictions_of(traces, parts.model, meaning), strict=True):
        true = {event.frame for event in clip.events if event.frame >= 2}
        # The same type at two frames in a row opens once.
        assert {event.frame for event in said.events if event.frame >= 2} <= true
        assert set(said.spoken) <= set(np.flatnonzero(clip.labels.speak).tolist())
