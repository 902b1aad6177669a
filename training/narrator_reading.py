"""The narrator reads packed rows in training, and says sentences of its own for them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import cross_entropy, kl_div

from ..models.reference_model import ReferenceModel
from .packed_prompts import UNLABELLED, Example, PackedBatch, PackedRow, batch_of_rows, packed

FrameParts = Callable[[Sequence[tuple[int, int]]], tuple[Tensor, Tensor]]
"""(row of the batch, frame) pairs → tokens (n, 10, dim) and states (n, width) float32."""
MOST_SAID = 32
"""Tokens of a sentence of its own, at most."""


@dataclass(frozen=True, slots=True)
class Read:
    """What came of a batch.

    Attributes:
        loss: mean over the tokens to be learned, of the cross-entropy, or of the divergence from
            a teacher, nats.
        right: kind → share of answers of which every token was the most likely.
        tokens: that were read, without those that fill up.
    """

    loss: Tensor
    right: dict[str, float]
    tokens: int


def embedded(model: ReferenceModel, batch: PackedBatch, parts: FrameParts | None) -> Tensor:
    """(B, n, hidden): words and frames, in their places."""
    embeds: Tensor = model.narrator.get_input_embeddings()(batch.ids)
    if not len(batch.places):
        return embeds
    assert parts is not None, "rows with frames need them"
    pairs, which = torch.unique(batch.places[:, [0, 2]], dim=0, return_inverse=True)
    tokens, states = parts([(int(row), int(frame)) for row, frame in pairs])
    shown = model.connector(tokens, states)
    embeds = embeds.clone()
    embeds[batch.places[:, 0], batch.places[:, 1]] = shown[which, batch.places[:, 3]]
    return embeds


def logits_of(model: ReferenceModel, batch: PackedBatch, parts: FrameParts | None) -> Tensor:
    """(labelled tokens, vocabulary): in the order of the batch."""
    hidden = model.narrator.model(
        inputs_embeds=embedded(model, batch, parts),
        attention_mask=batch.mask,
        position_ids=batch.positions,
        use_cache=False,
    ).last_hidden_state
    logits: Tensor = model.narrator.lm_head(hidden[batch.labels != UNLABELLED])
    return logits


def read(
    model: ReferenceModel,
    rows: Sequence[PackedRow],
    parts: FrameParts | None,
    device: str,
    teacher: ReferenceModel | None = None,
    first_token: float = 1.0,
) -> Read:
    """Loss and success of some rows.

    Args:
        model: its narrator and connector are read.
        rows: of one batch.
        parts: what frames show; None for rows without any.
        device: of the model, and of the teacher.
        teacher: the model is to say what this one says, as surely as it does; None: what is true.
        first_token: of an answer, what it weighs beside each of the others, where there is a
            teacher.
    """
    batch = batch_of_rows(rows).to(device)
    logits = logits_of(model, batch, parts)
    labels = batch.labels[batch.labels != UNLABELLED]
    loss = cross_entropy(logits, labels)
    if teacher is not None:
        with torch.no_grad():
            taught = logits_of(teacher, batch, parts).log_softmax(-1)
        every = kl_div(logits.log_softmax(-1), taught, reduction="none", log_target=True).sum(-1)
        weights = _weights(rows, batch.labels, first_token)
        loss = (every * weights).sum() / weights.sum()
    good = torch.zeros_like(batch.labels, dtype=torch.bool)
    good[batch.labels != UNLABELLED] = logits.detach().argmax(-1) == labels
    return Read(
        loss,
        _right(rows, good.cpu().numpy()),
        sum(len(row.ids) for row in rows),
    )


def _weights(rows: Sequence[PackedRow], labels: Tensor, first_token: float) -> Tensor:
    """(labelled tokens,) float32, in the order of the batch."""
    weights = torch.ones_like(labels, dtype=torch.float32)
    for number, row in enumerate(rows):
        firsts = [tokens[0] for _, tokens in row.answers if tokens]
        weights[number, firsts] = first_token
    return weights[labels != UNLABELLED]


def _right(rows: Sequence[PackedRow], good: NDArray[np.bool_]) -> dict[str, float]:
    found: dict[str, list[bool]] = {}
    for row, marks in zip(rows, good, strict=True):
        for kind, tokens in row.answers:
            found.setdefault(kind, []).append(bool(marks[tokens].all()))
    return {kind: float(np.mean(marks)) for kind, marks in found.items()}


@torch.no_grad()
def said(
    model: ReferenceModel,
    prompts: Sequence[Example],
    parts: FrameParts,
    stop_id: int,
    device: str,
) -> list[tuple[int, ...]]:
    """What the narrator says behind prompts of one length, the most likely token each time.

    Args:
        model: its narrator and connector are read.
        prompts: their answers are not read; all equally long.
        parts: the row of the batch is the number of the prompt.
        stop_id: ends a sentence.
        device: of the model.

    Returns:
        Token ids without the stop token, for each prompt.
    """
    rows = [_chain(prompt, model.config.tokens_per_frame) for prompt in prompts]
    batch = batch_of_rows(rows).to(device)
    out = model.narrator.model(inputs_embeds=embedded(model, batch, parts), use_cache=True)
    found = np.full((len(prompts), MOST_SAID), stop_id, np.int64)
    is_over = np.zeros(len(prompts), np.bool_)
    for step in range(MOST_SAID):
        best = model.narrator.lm_head(out.last_hidden_state[:, -1]).argmax(-1)
        found[:, step] = np.where(is_over, stop_id, best.cpu().numpy())
        is_over |= found[:, step] == stop_id
        if is_over.all():
            break
        out = model.narrator.model(
            input_ids=best[:, None], past_key_values=out.past_key_values, use_cache=True
        )
    return [tuple(int(token) for token in line[: _end(line, stop_id)]) for line in found]


def _end(line: NDArray[np.int64], stop_id: int) -> int:
    ends = np.flatnonzero(line == stop_id)
    return int(ends[0]) if len(ends) else len(line)


def _chain(prompt: Example, tokens_per_frame: int) -> PackedRow:
    return packed([Example(prompt.ids, prompt.frames, (), prompt.kind)], tokens_per_frame)
