"""A gate that hears when it last spoke: what it is taught with, how it is left to itself, and why.

The made-up task: a mark is seen every second or two, and is worth a word unless the last word is
less than three seconds old. A frame alone does not say which mark is.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from edgestream.models.cognition_gate import CognitionGate, GateShape
from edgestream.models.gate_heads import HeadShape
from edgestream.runtime.last_spoke import spoken_of
from edgestream.runtime.learned_phases import LearnedPhases, LearnedRules
from edgestream.runtime.phases import PhaseRules
from edgestream.training.features import VideoFeatures
from edgestream.training.gate_examiner import GateExaminer
from edgestream.training.gate_free_run import free_scores, run_at
from edgestream.training.gate_loss import GateLoss
from edgestream.training.gate_stage import EXTRACTOR, GATE, GateStage, trained_names
from edgestream.training.gate_streams import GateRow, GateStream, batch_of, batches_of, rows_of
from edgestream.training.gate_thresholds import GRID, spoken_frames
from edgestream.training.team import Team

FPS, DIM, REST_S = 4, 4, 3.0
HEARS = ("summary", "spoken")


def marked(seed: int, frames: int = 160, first: int = 0) -> GateStream:
    """Marks, and a word at each of them that comes three seconds after the last word or later."""
    rng = np.random.default_rng(seed)
    summary, times_s = 0.1 * rng.normal(size=(frames, DIM)), np.arange(frames) / FPS
    marks = np.cumsum(rng.integers(4, 8, frames))
    marks, speaks, last_s = marks[marks < frames], np.zeros(frames, np.bool_), -np.inf
    summary[marks, 0] = 2.0
    for at in marks[marks >= first]:
        if times_s[at] - last_s >= REST_S:
            speaks[at], last_s = True, times_s[at]
    nothing = np.zeros((frames, 1), np.float16)
    seen = VideoFeatures(times_s, nothing, summary.astype(np.float16), None, None,
                         np.zeros(frames, np.bool_))  # fmt: skip
    count = frames - first
    return GateStream(seen, first, speaks[first:], np.ones(count, np.bool_),
                      np.zeros(count, np.int64), np.zeros((1, 0), np.float32), ("",))  # fmt: skip


def gate_of(reads=HEARS, head="mlp", seed: int = 0) -> CognitionGate:
    shape = GateShape(dim=DIM, tokens=1, events=0, width=16, layers=1, reads=reads,
                      head=HeadShape(head))  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return CognitionGate(shape)


def examiner(streams: int = 8) -> GateExaminer:
    held = tuple(marked(100 + seed) for seed in range(streams))
    return GateExaminer(held, GateLoss(), 1 / FPS)


def f1_of(gate: CognitionGate, steps: int = 120) -> float:
    """On streams that it was not trained on, after some steps of its head."""
    streams = [marked(seed) for seed in range(12)]
    batches = batches_of(streams, epochs=60, rows=4, most_frames=80, seed=0)
    stage = GateStage(
        GATE, gate, lambda step: batch_of(batches[step], streams, gate.shape.reads, 1 / FPS),
        GateLoss(), Team(),
    )  # fmt: skip
    optimiser = stage.optimiser()
    for step in range(steps):
        terms, _ = stage.losses(step, 0.0)
        optimiser.clear()
        torch.stack(list(terms.values())).sum().backward()
        optimiser.step(1e-2)
    return examiner().figures(gate)["f1"]


@pytest.mark.medium
@pytest.mark.parametrize("head", ["linear", "mlp"])
def test_what_only_the_last_word_says_is_learned_where_it_is_heard(head):
    assert f1_of(gate_of(head=head)) > 0.95
    assert f1_of(gate_of(("summary",), head)) < 0.7


def test_a_batch_says_when_the_dialogue_last_spoke():
    """Of the whole dialogue, also where a row begins in its middle; of a frame before it alone."""
    stream = marked(3, first=7)
    rows = rows_of([stream], 60)
    batch = batch_of(rows, [stream], HEARS, 1 / FPS)
    for row, told in zip(rows, batch.spoken, strict=True):
        for at in range(row.begin, row.end):
            before = np.flatnonzero(stream.speaks[:at])
            since_s = (at - before[-1]) / FPS if len(before) else np.inf
            assert told[at - row.begin].item() == spoken_of(since_s).item()
    assert len(rows) == 3 and batch.spoken.dtype == torch.float32
    assert batch_of(rows, [stream], ("summary",), 1 / FPS).spoken is None


def whole(stream: GateStream):
    return batch_of([GateRow(0, 0, 0, len(stream.speaks))], [stream], HEARS, 1 / FPS)


def listening(seed: int = 1) -> CognitionGate:
    """Not trained, but not deaf: it would rather be silent after a word."""
    made = gate_of(seed=seed).eval()
    with torch.no_grad():
        made.since.told.weight.normal_(std=1.0, generator=torch.Generator().manual_seed(seed))
        made.speak.told.weight.mul_(8.0)
    return made


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_left_to_itself_it_is_the_gate_of_the_device(seed):
    """Frame by frame with `LearnedPhases`, at each threshold, as the runtime does it."""
    gate, stream = listening(seed), marked(seed, frames=60)
    found, spoke_at = free_scores(gate, whole(stream), stream.times_s, 0.8), set()
    for above in GRID[::4]:
        phases = LearnedPhases(LearnedRules({}, PhaseRules(above, 0.8 * above)))
        state, spoke_s, told = gate.first_state(), -np.inf, []
        for at, time_s in enumerate(stream.times_s):
            summary = torch.from_numpy(stream.features.summary[at].astype(np.float32))[None]
            spoken = torch.from_numpy(spoken_of(time_s - spoke_s)).reshape(1, 1)
            with torch.no_grad():
                out = gate(summary, spoken, torch.full((1, 1), 1 / FPS), *state)
            state, score = out[-2:], out[0].item()
            assert run_at(found, above)[at] == pytest.approx(score, abs=1e-5)
            if phases.step(time_s, {"speak": float(run_at(found, above)[at])}).speaks:
                spoke_s, told = time_s, [*told, at]
        row = run_at(found, above)[None]
        spoken_at = spoken_frames(row, np.zeros_like(row, np.bool_), above, 0.8)[0]
        assert np.flatnonzero(spoken_at).tolist() == told
        spoke_at.add(tuple(told))
    assert len(spoke_at) > 1


def test_what_the_dialogue_says_does_not_help_one_that_is_left_to_itself():
    """Two dialogues over the same frames: the same scores, and another loss."""
    gate, stream = listening(), marked(5)
    silent = replace(stream, speaks=np.zeros_like(stream.speaks))
    one, other = (GateExaminer((made,), GateLoss(), 1 / FPS) for made in (stream, silent))
    assert np.array_equal(one.scores(gate)[0], other.scores(gate)[0])
    assert one.scores(gate)[0].shape == (len(GRID), 160)
    assert one.loss_of(gate) != other.loss_of(gate)


def test_a_gate_that_does_not_hear_it_has_one_row_of_scores():
    (scores,) = examiner(1).scores(gate_of(("summary",)))
    assert scores.shape == (160,) and np.array_equal(run_at(scores, GRID[3]), scores)


def test_what_hears_is_trained_with_the_head():
    gate = gate_of()
    names = dict(gate.named_parameters())
    trained = trained_names(GATE, names, has_head=True)
    assert {name.split(".")[0] for name in trained} == {"speak", "since"}
    assert set(trained_names(EXTRACTOR, names, has_head=True)) == set(names)
