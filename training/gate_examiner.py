"""A gate on dialogues that it was not trained on: its loss, its threshold, and when it speaks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from ..evaluation.dialogue_scores import TriggerScore, score_triggers
from ..models.cognition_gate import CognitionGate
from ..runtime.phases import CLOSE_RATIO
from .gate_free_run import free_scores, run_at
from .gate_loss import GateLoss
from .gate_stage import told_of
from .gate_streams import GateRow, GateStream, batch_of
from .gate_thresholds import best_above, spoken_frames

TOLERANCE_S = 1.0
"""Between a moment of the dialogue and one at which the gate speaks; `train lora` has the same."""

Scores = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class GateExaminer:
    """Scores a gate.

    Attributes:
        streams: that it was not trained on.
        loss: as in training.
        first_dt_s: before a first frame, seconds.
        close_ratio: close_below as a share of open_above.
    """

    streams: tuple[GateStream, ...]
    loss: GateLoss
    first_dt_s: float
    close_ratio: float = CLOSE_RATIO

    @torch.no_grad()
    def loss_of(self, gate: CognitionGate) -> float:
        """The loss on all streams; the lower the better. By it the best weights are chosen.

        A gate that hears when it last spoke hears of the moments of the dialogues, as in training.
        """
        gate.eval()
        above = below = 0.0
        for stream in self.streams:
            batch = batch_of([_whole(stream)], [stream], gate.shape.reads, self.first_dt_s)
            batch = batch.to(_device(gate))
            logits = told_of(gate, batch).logits[..., 0]
            one, other = self.loss.sums(logits, batch.speaks, batch.learned)["speak"]
            above, below = above + float(one), below + float(other)
        return above / max(below, 1e-6)

    @torch.no_grad()
    def scores(self, gate: CognitionGate, *, asked: bool = True) -> list[Scores]:
        """(T,) of each stream, in [0, 1]; of a gate that hears when it last spoke `free_scores`.

        Args:
            gate: whose scores they are.
            asked: with the queries of the dialogues; else with none.
        """
        gate.eval()
        found = []
        for stream in self.streams:
            batch = batch_of([_whole(stream)], [stream], gate.shape.reads, self.first_dt_s,
                             [not asked])  # fmt: skip
            batch = batch.to(_device(gate))
            if gate.shape.reads_spoken:
                found.append(free_scores(gate, batch, stream.times_s, self.close_ratio))
                continue
            found.append(torch.sigmoid(told_of(gate, batch).logits[0, :, 0]).cpu().numpy())
        return found

    def threshold(self, scores: Sequence[Scores], of: Sequence[int] | None = None) -> float:
        """The threshold of `speak` with the best F1 on some of the streams; None: on all."""
        return best_above(lambda above: self.triggers(scores, above, of).f1)

    def triggers(
        self, scores: Sequence[Scores], above: float, of: Sequence[int] | None = None
    ) -> TriggerScore:
        """The moments at which it speaks against those of the dialogues.

        Args:
            scores: of `scores`.
            above: one of GRID.
            of: numbers of the streams; None for all.
        """
        total = TriggerScore()
        for number in range(len(self.streams)) if of is None else of:
            stream, row = self.streams[number], run_at(scores[number], above)[None]
            spoken = spoken_frames(row, np.zeros_like(row, np.bool_), above, self.close_ratio)[0]
            times_s = stream.times_s
            total += score_triggers(
                times_s[spoken].tolist(), times_s[stream.speaks].tolist(), TOLERANCE_S
            )
        return total

    def figures(self, gate: CognitionGate) -> Mapping[str, float]:
        """`loss`, and precision, recall and F1 at thresholds that the other half chose.

        Halves of the videos: of one alone there is no other half, and its own threshold is a bit
        kind. Where the gate reads a query also `f1_unasked`, with the query left out.
        """
        scores = self.scores(gate)
        total = self._crossed(scores)
        told = {"loss": self.loss_of(gate), "precision": total.precision, "recall": total.recall,
                "f1": total.f1}  # fmt: skip
        if gate.shape.reads_query:
            told["f1_unasked"] = self._crossed(self.scores(gate, asked=False)).f1
        return told

    def _crossed(self, scores: Sequence[Scores]) -> TriggerScore:
        videos = list(dict.fromkeys(id(one.features) for one in self.streams))
        halves = [
            [at for at, one in enumerate(self.streams) if id(one.features) in videos[first::2]]
            for first in range(2)
        ]
        if not halves[1]:
            return self.triggers(scores, self.threshold(scores))
        pairs = (halves, halves[::-1])
        total = TriggerScore()
        for chosen_on, scored_on in pairs:
            total += self.triggers(scores, self.threshold(scores, chosen_on), scored_on)
        return total


def _whole(stream: GateStream) -> GateRow:
    return GateRow(0, 0, 0, len(stream.speaks))


def _device(gate: CognitionGate) -> str:
    return str(next(gate.parameters()).device)
