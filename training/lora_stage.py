"""The stage `lora`: rows of dialogues through the adapted model, a batch in several portions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .live_loss import LiveLoss, LiveTerms, label_counts
from .live_rows import LiveRow, RowWriter
from .lora_data import LiveStream, Piece, row_of, shown_frames
from .lora_model import LoraModel
from .packed_prompts import UNLABELLED, PackedBatch, batch_of_rows
from .rehearsal import Rehearsal
from .team import Team
from .two_optimisers import MuonAndAdamW


@dataclass(frozen=True, slots=True, eq=False)
class RowBatch:
    """Rows side by side, with what their frames show.

    Attributes:
        rows: as they were written.
        batch: of them; `frame` of its places counts `tokens`.
        tokens, states: of `shown_frames`.
        labels, kinds: (labels,) int64: token ids, and WORD or the state, in the order of the batch.
    """

    rows: tuple[LiveRow, ...]
    batch: PackedBatch
    tokens: Tensor
    states: Tensor | None
    labels: Tensor
    kinds: Tensor


def row_batch(
    pieces: Sequence[Piece], streams: Sequence[LiveStream], writer: RowWriter, device: str
) -> RowBatch:
    """Some pieces of streams, ready to be read."""
    rows = tuple(row_of(piece, streams, writer) for piece in pieces)
    batch = batch_of_rows(rows).to(device)
    features = [streams[piece.stream].features for piece in pieces]
    places, tokens, states = shown_frames(rows, features, batch.places, device)
    batch = PackedBatch(batch.ids, batch.positions, batch.labels, batch.mask, places)
    kinds = torch.zeros_like(batch.labels)
    for at, row in enumerate(rows):
        kinds[at, : len(row.states)] = torch.tensor(row.states)
    is_learned = batch.labels != UNLABELLED
    return RowBatch(rows, batch, tokens, states, batch.labels[is_learned], kinds[is_learned])


class LoraStage:
    """See `training_loop.Stage`.

    Args:
        model: its adapters and connector are trained.
        streams: that the batches are of.
        batches: of `batches_of`, one a step.
        writer: of the layout.
        loss: how its parts are weighed.
        team: each process reads its share of a batch.
        portions: that a process reads its share in, one after another.
        seed: of what is dropped out.
        in_bf16: products are computed in bfloat16.
        rehearsal: what is taught along; None for nothing.

    Attributes:
        steps: that were taken, counted from the beginning of the run.
    """

    name = "lora"
    along = (0.0, 1.0)

    def __init__(
        self,
        model: LoraModel,
        streams: Sequence[LiveStream],
        batches: Sequence[tuple[Piece, ...]],
        writer: RowWriter,
        loss: LiveLoss,
        team: Team,
        *,
        portions: int = 1,
        seed: int = 0,
        in_bf16: bool = False,
        rehearsal: Rehearsal | None = None,
    ) -> None:
        self.model, self.loss, self.team = model, loss, team
        self._streams, self._batches, self._writer = streams, batches, writer
        self._portions, self._seed, self._in_bf16 = portions, seed, in_bf16
        self._rehearsal = rehearsal
        self.steps = 0

    def losses(self, step: int, progress: float) -> tuple[dict[str, Tensor], dict[str, float]]:
        """Of one batch; portions but the last one are taken back through the model here.

        So only one portion's activations are held at a time.
        """
        self.model.train()
        self.steps = step + 1  # once this loss is taken back
        torch.manual_seed((self._seed * 1_000_003 + step) * 1_009 + self.team.rank)
        mine = self._batches[step][self.team.rank :: self.team.size]
        count = -(-len(mine) // min(self._portions, len(mine)))
        portions = [
            row_batch(mine[at : at + count], self._streams, self._writer, self.model.device)
            for at in range(0, len(mine), count)
        ]
        counts = self._counts(portions)
        before = torch.zeros(2, device=counts.device)
        for portion in portions[:-1]:
            terms = self._terms(portion, counts)
            (terms.stream + terms.words).backward()  # type: ignore[no-untyped-call]
            before += torch.stack([terms.stream.detach(), terms.words.detach()])
        last = self._terms(portions[-1], counts)
        tokens = sum(len(row.ids) for portion in portions for row in portion.rows)
        given = {"stream": last.stream + before[0], "words": last.words + before[1]}
        facts = {"tokens": float(tokens)}
        if self._rehearsal is not None:
            known, shares = self._rehearsal.losses(step)
            given, facts = {**given, **known}, {**facts, **shares}
        return given, facts

    def tensors(self) -> dict[str, Tensor]:
        """The weights that are trained; the base stays in its checkpoint."""
        return {f"lora.{name}": one.detach() for name, one in self.model.trained.items()}

    def optimiser(self) -> MuonAndAdamW:
        """AdamW for all: a pair of matrices is no matrix to be orthogonalised."""
        return MuonAndAdamW(self.model.trained, set())

    def _counts(self, portions: Sequence[RowBatch]) -> Tensor:
        """Labels of the whole batch by kind, over all processes."""
        own = torch.stack([label_counts(portion.kinds) for portion in portions]).sum(0)
        return self.team.average_([], own) * self.team.size

    def _terms(self, portion: RowBatch, counts: Tensor) -> LiveTerms:
        terms = live_terms(self.model, portion, self.loss, counts, in_bf16=self._in_bf16)
        # The loop takes the mean over processes of what is here a part of a sum.
        return LiveTerms(terms.stream * self.team.size, terms.words * self.team.size)


def live_terms(
    model: LoraModel, portion: RowBatch, loss: LiveLoss, counts: Tensor, *, in_bf16: bool = False
) -> LiveTerms:
    """The loss of some rows, as parts of a batch with these counts of labels."""
    return loss.terms(logits_of(model, portion, in_bf16), portion.labels, portion.kinds, counts)


def logits_of(model: LoraModel, portion: RowBatch, in_bf16: bool = False) -> Tensor:
    """(labels, vocabulary) of some rows."""
    with torch.autocast(model.device.split(":")[0], torch.bfloat16, enabled=in_bf16):
        return model.logits(portion.batch, portion.tokens, portion.states)
