"""Queries about rendered clips: what a gate learns from them, frame by frame or clip by clip."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from gate_world import ASKS, PHRASINGS, SeenClips
from numpy.typing import NDArray
from torch import Tensor

from edgestream.evaluation.world import EVENT_TYPES
from edgestream.models.cognition_gate import FRAME_READS, CognitionGate
from edgestream.models.family import Checkpoint
from edgestream.training.gate_loss import GateLoss
from edgestream.training.gate_stage import GATE, GateStage, told_of
from edgestream.training.gate_streams import GateBatch, query_reader
from edgestream.training.team import Team

KINDS = len(EVENT_TYPES)
NO_QUERY = 0.05
"""Share of queries that are left out."""
FRAMES_AT_ONCE, CLIPS_AT_ONCE = 512, 4
"""Of a batch: frames for a head, which sees each by itself; clips for an extractor, each of them
with all queries."""
Scores = NDArray[np.float32]
Numbers = NDArray[np.int64]


def queries_of(checkpoint: Checkpoint) -> Scores:
    """(14, phrasings, query_dim), in the order of EVENT_TYPES."""
    read = query_reader(checkpoint)
    return np.stack([[read(one.format(ASKS[kind])) for one in PHRASINGS] for kind in EVENT_TYPES])


@dataclass(frozen=True, slots=True)
class HeadStage:
    """A head on the states of an extractor that is frozen; see `training_loop.Stage`.

    A quarter of a batch are frames at which what is asked for begins, a quarter are those at which
    something else does, and half are any.

    Attributes:
        inner: the product's own stage: its weights, optimiser and checkpoint.
        clips, queries: to learn from.
        loss: how frames are weighed.
        taught: (N, 14, T) probabilities of a teacher; None without one.
        seed: of what is drawn.
    """

    inner: GateStage
    clips: SeenClips
    queries: Scores
    loss: GateLoss
    taught: Scores | None = None
    seed: int = 1
    name: str = GATE
    along: tuple[float, float] = (0.0, 1.0)

    def losses(self, step: int, progress: float) -> tuple[dict[str, Tensor], dict[str, float]]:
        """Of one batch of frames."""
        rng = np.random.default_rng([self.seed, step])
        clip, frame, kind = self._drawn(rng)
        phrasing = rng.integers(0, len(PHRASINGS), len(clip))
        asked = self.queries[kind, phrasing] * (rng.random(len(clip)) >= NO_QUERY)[:, None]
        speaks = torch.from_numpy(self.clips.events[clip, frame, kind].astype(np.float32))
        logits = head_logits(self.inner.gate, self.clips, clip, frame, asked.astype(np.float32))
        taught = None
        if self.taught is not None:  # where the query is left out, the teacher says nothing of it
            is_asked = torch.from_numpy(asked.any(-1))
            taught = torch.from_numpy(self.taught[clip, kind, frame])
            taught = torch.where(is_asked, taught, torch.sigmoid(logits.detach()))
        sums = self.loss.sums(logits, speaks, torch.ones_like(speaks), taught)
        return {name: above / below for name, (above, below) in sums.items()}, {}

    def tensors(self) -> dict[str, Tensor]:
        """The whole gate."""
        return self.inner.tensors()

    def _drawn(self, rng: np.random.Generator) -> tuple[Numbers, Numbers, Numbers]:
        """(clip, frame, kind) of each."""
        begins = np.argwhere(self.clips.events)
        quarter = FRAMES_AT_ONCE // 4
        right, wrong = (begins[rng.integers(0, len(begins), quarter)] for _ in range(2))
        wrong[:, 2] = (wrong[:, 2] + rng.integers(1, KINDS, quarter)) % KINDS
        sizes = np.array(self.clips.events.shape)
        some = rng.integers(0, sizes, (FRAMES_AT_ONCE - 2 * quarter, 3))
        clip, frame, kind = np.concatenate([right, wrong, some]).T
        return clip, frame, kind


def head_logits(
    gate: CognitionGate, clips: SeenClips, clip: Numbers, frame: Numbers, asked: Scores
) -> Tensor:
    """(n,) of some frames, from the states that the extractor had at them."""
    assert gate.speak is not None
    state, tokens = (torch.from_numpy(part[clip, frame].astype(np.float32))
                     for part in (clips.states, clips.tokens))  # fmt: skip
    logits: Tensor = gate.speak(state, torch.from_numpy(asked), tokens)[..., 0]
    return logits


@dataclass(frozen=True, slots=True)
class ClipBatches:
    """What an extractor learns from: whole clips, each with every query.

    Attributes:
        clips, queries: to learn from.
        taught: (N, 14, T) probabilities of a teacher.
        seed: of what is drawn.
    """

    clips: SeenClips
    queries: Scores
    taught: Scores
    seed: int = 1

    def batch(self, step: int) -> GateBatch:
        """A matter of the seed and the step alone."""
        rng = np.random.default_rng([self.seed, step])
        which = np.repeat(rng.integers(0, len(self.clips.events), CLIPS_AT_ONCE), KINDS)
        kinds = np.tile(np.arange(KINDS), CLIPS_AT_ONCE)
        asked = self.queries[kinds, rng.integers(0, len(PHRASINGS), len(kinds))]
        taught = torch.from_numpy(self.taught[which, kinds])
        return clip_batch(self.clips, which, asked, kinds, taught)


def clip_batch(
    clips: SeenClips, which: Numbers, asked: Scores, kinds: Numbers, taught: Tensor | None = None
) -> GateBatch:
    """Clips, each with a query and the truth of the kind that it asks for."""
    seen = {name: torch.from_numpy(getattr(clips, name)[which].astype(np.float32))
            for name in FRAME_READS}  # fmt: skip
    frames = clips.events.shape[1]
    speaks = clips.events[which, :, kinds].astype(np.float32)
    query = torch.from_numpy(asked)[:, None].expand(-1, frames, -1)
    learned = torch.ones(len(which), frames)
    return GateBatch(seen, torch.from_numpy(clips.dt_s[which]), query, torch.from_numpy(speaks),
                     learned, taught)  # fmt: skip


@torch.inference_mode()
def scores_of(gate: CognitionGate, clips: SeenClips, queries: Scores, *, on_states: bool) -> Scores:
    """(N, 14, T): of the first phrasing of each query.

    Args:
        gate: whose scores they are.
        clips: N of them.
        queries: of `queries_of`.
        on_states: the gate has the base's extractor, whose states are known.
    """
    gate.eval()
    found = []
    frames = clips.events.shape[1]
    for first in range(0, len(clips.events), 4):
        which = np.arange(first, min(first + 4, len(clips.events)))
        rows, kinds = np.repeat(which, KINDS), np.tile(np.arange(KINDS), len(which))
        asked = queries[kinds, 0]
        if on_states:
            clip, frame = np.repeat(rows, frames), np.tile(np.arange(frames), len(rows))
            logits = head_logits(gate, clips, clip, frame, np.repeat(asked, frames, 0))
        else:
            logits = told_of(gate, clip_batch(clips, rows, asked, kinds)).logits[..., 0]
        found.append(torch.sigmoid(logits).reshape(len(which), KINDS, frames).numpy())
    return np.concatenate(found)


def stage_of(
    gate: CognitionGate,
    clips: SeenClips,
    queries: Scores,
    loss: GateLoss,
    taught: Scores | None = None,
) -> HeadStage:
    """The stage of a head; it draws its batches by itself."""

    def none(step: int) -> GateBatch:
        raise AssertionError("a HeadStage reads frames")

    return HeadStage(GateStage(GATE, gate, none, loss, Team()), clips, queries, loss, taught)
