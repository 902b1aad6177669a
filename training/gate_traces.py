"""What a gate says of held-out clips, decided as on the device, and scored."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ..evaluation.reference_runs import told_events
from ..evaluation.reference_scores import Tally
from ..evaluation.world import (
    ATTRIBUTES,
    EVENT_TYPES,
    Clip,
    WorldEvent,
    WorldRules,
    render_clip,
)
from ..evaluation.world_scores import ClipPrediction, score_events
from ..models.gate_files import GateMeaning, gate_facts
from ..models.reference_model import ReferenceModel
from ..runtime.learned_phases import LearnedPhases, learned_rules
from .reference_recipe import TRAINING_SEEDS
from .vision_batches import VisionBatch, rendered_batch
from .vision_stage import gate_outputs

Scores = NDArray[np.float32]
CLIPS_AT_ONCE = 4
HELD_OUT_RULES = replace(WorldRules(), first_look=500_000, looks=96)
"""Backgrounds and things that no training clip and no frozen clip shows."""


@dataclass(frozen=True, slots=True, eq=False)
class GateTraces:
    """Scores of N clips of T frames, and the truth.

    Attributes:
        clips: without pixels.
        scores: (N, T, 15) in [0, 1], `speak` first.
        attributes: name → (N, T, values) probabilities.
        dt_s: between frames, seconds.
    """

    clips: tuple[Clip, ...]
    scores: Scores
    attributes: Mapping[str, Scores]
    dt_s: float = 0.25


def held_out_seeds(first: int, count: int) -> range:
    """Seeds of clips for choosing thresholds: of neither training nor the frozen set."""
    return range(TRAINING_SEEDS + first, TRAINING_SEEDS + first + count)


def traces_of(
    model: ReferenceModel,
    seeds: Sequence[int],
    frames: int,
    rendered: dict[int, VisionBatch] | None = None,
) -> GateTraces:
    """Run vision and gate over the clips of some seeds.

    Args:
        model: vision and gate are read.
        seeds: of the clips.
        frames: of each.
        rendered: keeps the pictures for the next time, 40 kB a frame; None to render them anew.

    Cost: about 3 ms a frame, half of it to render.
    """
    clips, scores = [], []
    attributes: dict[str, list[Scores]] = {name: [] for name in ATTRIBUTES}
    device = str(next(model.parameters()).device)
    for at in range(0, len(seeds), CLIPS_AT_ONCE):
        some = seeds[at : at + CLIPS_AT_ONCE]
        batch = (rendered or {}).get(some[0]) or rendered_batch(some, frames, HELD_OUT_RULES)
        if rendered is not None:
            rendered[some[0]] = batch
        told = gate_outputs(model, batch.to(device))
        scores.append(told[0].cpu().numpy())
        for name, values in told[1].items():
            attributes[name].append(values.cpu().numpy())
        clips += [render_clip(seed, frames, HELD_OUT_RULES, pixels=False) for seed in some]
    joined = {name: np.concatenate(parts) for name, parts in attributes.items()}
    return GateTraces(tuple(clips), np.concatenate(scores), joined)


def predictions_of(
    traces: GateTraces, model: ReferenceModel, meaning: GateMeaning
) -> Iterator[ClipPrediction]:
    """What the device's own phases make of the traces, clip by clip."""
    phases = LearnedPhases(learned_rules(gate_facts(model.gate, meaning), has_speak=True))
    for number in range(len(traces.clips)):
        phases.reset()
        spoken: list[int] = []
        events: list[WorldEvent] = []
        for frame, row in enumerate(traces.scores[number]):
            scores = dict(zip(("speak", *meaning.events), map(float, row), strict=True))
            told = {
                name: dict(zip(ATTRIBUTES[name], map(float, values[number, frame]), strict=True))
                for name, values in traces.attributes.items()
            }
            decision = phases.step(frame * traces.dt_s, scores, told)
            if decision.opened and decision.speaks:
                spoken.append(frame)
            events += told_events(frame, decision.opened)
        yield ClipPrediction(tuple(spoken), tuple(events))


def scored(traces: GateTraces, model: ReferenceModel, meaning: GateMeaning) -> Tally:
    """Scores of speech and events of the traces."""
    return score_events(traces.clips, list(predictions_of(traces, model, meaning)))


def figures(tally: Tally) -> dict[str, float]:
    """The few figures that a curve shows."""
    names = {
        "speak_f1": "speak_f1",
        "false_per_100": "false_speech_per_100",
        "micro": "event_f1_micro",
        **{kind: f"event_f1_{kind}" for kind in EVENT_TYPES},
        "pan_dir": "pan_direction",
        "enter_side": "enter_side",
        "mover_colour": "mover_colour",
    }
    found = {name: tally.figure(ratio).value for name, ratio in names.items()}
    return {name: float(value) for name, value in found.items() if value is not None}
