"""Prompts with their answers, packed into one row: what they begin with in common is read once.

A row is a tree of tokens. Each token sees those on its way to the root and no others, and its
position is its depth: so every prompt reads as it would alone, in the layout of the device.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..models.reference_layout import EMBEDS_ID

UNLABELLED = -100
_ROWS = 64
"""More than rows of one frame: a frame and a row make one key."""


@dataclass(frozen=True, slots=True)
class Example:
    """A prompt and what is to be learned behind it.

    Attributes:
        ids: of the prompt; EMBEDS_ID where embeds go.
        frames: of those places, the frame of each run of embeds, in their order.
        answer: token ids, the stop token last.
        kind: under which its success is counted.
    """

    ids: tuple[int, ...]
    frames: tuple[int, ...]
    answer: tuple[int, ...]
    kind: str = ""


@dataclass(slots=True, eq=False)
class PackedRow:
    """A tree of n tokens.

    Attributes:
        ids: token of each; 0 where an embed goes.
        parents: number of the token before it; -1 for a first one.
        depths: its position.
        labels: the token that follows, to be learned, or UNLABELLED.
        places: (token, frame, row of the frame) of each embed.
        answers: (kind, numbers of the tokens whose labels are the answer) of each example.
    """

    ids: list[int] = field(default_factory=list)
    parents: list[int] = field(default_factory=list)
    depths: list[int] = field(default_factory=list)
    labels: list[int] = field(default_factory=list)
    places: list[tuple[int, int, int]] = field(default_factory=list)
    answers: list[tuple[str, list[int]]] = field(default_factory=list)

    def mask(self) -> NDArray[np.bool_]:
        """(n, n): whether a token (row) sees another (column)."""
        seen = np.zeros((len(self.ids), len(self.ids)), np.bool_)
        for at, parent in enumerate(self.parents):
            if parent >= 0:
                seen[at] = seen[parent]
            seen[at, at] = True
        return seen


def packed(examples: Sequence[Example], tokens_per_frame: int) -> PackedRow:
    """The row of some examples.

    Where two prompts are the same, the later answer is learned.

    Cost: one look-up for each token of each example.
    """
    row = PackedRow()
    children: list[dict[int, int]] = []
    roots: dict[int, int] = {}

    def child(parent: int, key: int, token: int) -> int:
        below = children[parent] if parent >= 0 else roots
        at = below.get(key)
        if at is None:
            at = below[key] = len(row.ids)
            children.append({})
            row.ids.append(token)
            row.parents.append(parent)
            row.depths.append(row.depths[parent] + 1 if parent >= 0 else 0)
            row.labels.append(UNLABELLED)
            if key < 0:
                row.places.append((at, *divmod(-1 - key, _ROWS)))
        return at

    for example in examples:
        at = -1
        for key in _keys(example, tokens_per_frame):
            at = child(at, key, max(key, 0))
        learned = []
        for number, token in enumerate(example.answer):
            row.labels[at] = token
            learned.append(at)
            if number + 1 < len(example.answer):
                at = child(at, token, token)
        row.answers.append((example.kind, learned))
    return row


def _keys(example: Example, tokens_per_frame: int) -> list[int]:
    """Token ids; where an embed goes, a number below 0 for its frame and row."""
    keys, number = [], 0
    for token in example.ids:
        if token == EMBEDS_ID:
            frame, row = example.frames[number // tokens_per_frame], number % tokens_per_frame
            keys.append(-1 - (frame * _ROWS + row))
            number += 1
        else:
            keys.append(token)
    return keys


@dataclass(frozen=True, slots=True, eq=False)
class PackedBatch:
    """Rows of equal length; B of them, of n tokens.

    Attributes:
        ids, positions, labels: (B, n) int64.
        mask: (B, 1, n, n) float32: 0 where a token is seen, else very low.
        places: (embeds, 4) int64: row of the batch, token, frame, row of the frame.
    """

    ids: Tensor
    positions: Tensor
    labels: Tensor
    mask: Tensor
    places: Tensor

    def to(self, device: str) -> PackedBatch:
        """The same on a device."""
        parts = (self.ids, self.positions, self.labels, self.mask, self.places)
        return PackedBatch(*(part.to(device) for part in parts))


def batch_of_rows(rows: Sequence[PackedRow]) -> PackedBatch:
    """Some rows side by side; what a shorter one lacks sees itself alone."""
    length = max(len(row.ids) for row in rows)
    ids, positions = (np.zeros((len(rows), length), np.int64) for _ in range(2))
    labels = np.full((len(rows), length), UNLABELLED, np.int64)
    seen = np.zeros((len(rows), length, length), np.bool_)
    seen[:, np.arange(length), np.arange(length)] = True
    places: list[tuple[int, int, int, int]] = []
    for at, row in enumerate(rows):
        count = len(row.ids)
        ids[at, :count], positions[at, :count] = row.ids, row.depths
        labels[at, :count] = row.labels
        seen[at, :count, :count] = row.mask()
        places += [(at, *place) for place in row.places]
    mask = np.where(seen, np.float32(0), np.finfo(np.float32).min)
    return PackedBatch(
        torch.from_numpy(ids),
        torch.from_numpy(positions),
        torch.from_numpy(labels),
        torch.from_numpy(mask)[:, None],
        torch.tensor(places, dtype=torch.int64).reshape(-1, 4),
    )
