"""Heads of a cognition gate: what they make of a frame's state, and of what was asked for.

All take the state of the recurrence, the query and the frame's tokens, and give one logit: whether
to speak. None of them remembers anything, so that a frame by itself has the same logit as among
others, and a query may change at any frame.

When the gate last spoke is added to the state before a head reads it (`Silence`).

The query is one vector, the mean of the embedding rows of its tokens. A head that reads several
rows of it makes them itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import silu

LINEAR, MLP, CROSS_ATTENTION, LLM = "linear", "mlp", "cross-attention", "llm"
KINDS = (LINEAR, MLP, CROSS_ATTENTION, LLM)
QUERY_ROWS, FRAME_ROWS = "query", "frame"
"""What a cross-attention reads: rows made of the query, or the frame's tokens."""
ATTENDING = 4
"""Heads of a cross-attention."""
VIEWS = 4
"""Rows that a cross-attention over the query makes of it; one more stands for no query at all."""
WIDEN = 2
"""Channels inside of an MLP, as a multiple of the gate's."""
LEAST_SIZE = 1e-3
"""Added to a query's root mean square: zeros stay zeros, also in float16."""
STEPS = 32
"""Soft steps that tell one silence from another: five in the first second, two in the third."""
START_SCALE = 0.1
"""Of the frame's row at the start: near those of the token embeddings, which are 0.02."""


@dataclass(frozen=True, slots=True)
class HeadShape:
    """Which head a gate has.

    Attributes:
        kind: of KINDS.
        narrow: of a `linear` head: numbers that the query is first narrowed to; 0: as it is.
        over: of a cross-attention: QUERY_ROWS or FRAME_ROWS.
        layers: of an `llm` head; 0 for the others.
        decoder: of an `llm` head: config of those layers, in `transformers` form.

    Raises:
        ValueError: the kind is unknown, or what it needs is missing.
    """

    kind: str = LINEAR
    over: str = QUERY_ROWS
    layers: int = 0
    decoder: Mapping[str, Any] = field(default_factory=dict)
    narrow: int = 0

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"a gate's head is {self.kind!r}, expected one of {', '.join(KINDS)}")
        if self.over not in (QUERY_ROWS, FRAME_ROWS):
            raise ValueError(f"a head reads {self.over!r}, expected {QUERY_ROWS} or {FRAME_ROWS}")
        if self.narrow < 0 or (self.narrow and self.kind != LINEAR):
            raise ValueError(
                f"a head of the kind {self.kind} narrows a query to {self.narrow}, expected 1 or "
                f"more where the kind is {LINEAR}, and 0 elsewhere"
            )
        is_llm = self.kind == LLM
        if is_llm != (self.layers > 0) or is_llm != bool(self.decoder):
            raise ValueError(
                f"a head of the kind {self.kind} has {self.layers} layers, expected some, with "
                f"the config of a decoder, exactly where the kind is {LLM}"
            )


def head_of(shape: HeadShape, width: int, query_dim: int, dim: int) -> nn.Module:
    """A head with random weights: state, query and tokens → logit.

    Args:
        shape: which one.
        width: of the state.
        query_dim: 0 where the gate reads no query.
        dim: of a token.

    Returns:
        A module of (state (…, width), query (…, query_dim) or None, tokens (…, n, dim) or None) →
        (…, 1).
    """
    if shape.kind == MLP:
        return MlpHead(width, query_dim)
    if shape.kind == CROSS_ATTENTION:
        rows = dim if shape.over == FRAME_ROWS else 0
        return CrossAttentionHead(width, query_dim, rows)
    if shape.kind == LLM:
        from .llm_head import LlmHead  # transformers takes seconds to load

        return LlmHead(shape, width, query_dim)
    return LinearHead(width, query_dim, shape.narrow)


class Asking(nn.Module):
    """A linear map of the query whatever its scale: some tables' rows are .02, others' 1.

    No query is zeros before and after.

    Args:
        query_dim: of the query.
        width: of what comes out.
        narrow: numbers in between, which make it small; 0 for one map.
    """

    def __init__(self, query_dim: int, width: int, narrow: int = 0) -> None:
        super().__init__()
        self.narrow = nn.Linear(query_dim, narrow, bias=False) if narrow else None
        self.map = nn.Linear(narrow or query_dim, width, bias=False)

    def forward(self, query: Tensor) -> Tensor:
        size = query.square().mean(-1, keepdim=True).sqrt()
        query = query / (size + LEAST_SIZE)
        asked: Tensor = self.map(query if self.narrow is None else self.narrow(query))
        return asked


class Silence(nn.Module):
    """How long ago the gate last spoke, as something that is added to a state; at first nothing.

    Soft steps along the scale, evenly spread, each of which weighs for itself: a single number
    would have to be bent first before a head could hear that three seconds are over.

    Args:
        width: of the state.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.steps = nn.Linear(1, STEPS)
        self.told = nn.Linear(STEPS, width, bias=False)
        with torch.no_grad():
            self.steps.weight.fill_(2.0 * STEPS)
            self.steps.bias.copy_(-2.0 * (torch.arange(STEPS) + 0.5))
            self.told.weight.zero_()

    def forward(self, spoken: Tensor) -> Tensor:
        """(…, 1) in [0, 1] → (…, width)."""
        told: Tensor = self.told(torch.sigmoid(self.steps(spoken)))
        return told


class LinearHead(nn.Module):
    """Linear in the state, whose numbers the query weighs: the least that a query can act upon."""

    def __init__(self, width: int, query_dim: int, narrow: int = 0) -> None:
        super().__init__()
        self.ask = Asking(query_dim, width, narrow) if query_dim else None
        self.told = nn.Linear(width, 1)

    def forward(self, state: Tensor, query: Tensor | None, tokens: Tensor | None) -> Tensor:
        if self.ask is not None and query is not None:
            state = state * (1.0 + self.ask(query))
        logit: Tensor = self.told(state)
        return logit


class MlpHead(nn.Module):
    """Two hidden layers over the state and the query."""

    def __init__(self, width: int, query_dim: int) -> None:
        super().__init__()
        inside = WIDEN * width
        self.read = nn.Linear(width, inside)
        self.ask = Asking(query_dim, inside) if query_dim else None
        self.join = nn.Linear(inside, inside)
        self.told = nn.Linear(inside, 1)

    def forward(self, state: Tensor, query: Tensor | None, tokens: Tensor | None) -> Tensor:
        x = self.read(state)
        if self.ask is not None and query is not None:
            x = x + self.ask(query)
        logit: Tensor = self.told(silu(self.join(silu(x))))
        return logit


class CrossAttentionHead(nn.Module):
    """The state looks into rows, then two layers as in a transformer.

    Args:
        width: of the state.
        query_dim: 0 for none.
        dim: of the frame's tokens, which are the rows; 0: rows made of the query are.
    """

    def __init__(self, width: int, query_dim: int, dim: int) -> None:
        super().__init__()
        self.over_frame = dim > 0
        self.ask = Asking(query_dim, width) if query_dim else None
        if self.over_frame:
            self.row_norm: nn.Module = nn.LayerNorm(dim)
        else:
            self.views = Asking(query_dim, VIEWS * width)
            self.nothing = nn.Parameter(torch.randn(1, width) / width**0.5)
            self.row_norm = nn.Identity()
        self.norm = nn.LayerNorm(width)
        self.look = nn.Linear(width, width)
        self.keys, self.values = (nn.Linear(dim or width, width) for _ in range(2))
        self.bring = nn.Linear(width, width)
        self.inside = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, WIDEN * width), nn.SiLU(),
            nn.Linear(WIDEN * width, width), nn.LayerNorm(width),
        )  # fmt: skip
        self.told = nn.Linear(width, 1)

    def forward(self, state: Tensor, query: Tensor | None, tokens: Tensor | None) -> Tensor:
        x = state
        if self.ask is not None and query is not None:
            x = x + self.ask(query)
        rows = self._rows(state, query, tokens)
        heads = (ATTENDING, x.shape[-1] // ATTENDING)
        look = self.look(self.norm(x)).unflatten(-1, heads)[..., None, :]
        keys, values = (part(rows).unflatten(-1, heads).transpose(-3, -2)
                        for part in (self.keys, self.values))  # fmt: skip
        weights = torch.softmax(look @ keys.transpose(-1, -2) / heads[1] ** 0.5, -1)
        x = x + self.bring((weights @ values).flatten(-3))
        logit: Tensor = self.told(x + self.inside(x))
        return logit

    def _rows(self, state: Tensor, query: Tensor | None, tokens: Tensor | None) -> Tensor:
        """(…, rows, channels)."""
        if self.over_frame:
            assert tokens is not None
            normed: Tensor = self.row_norm(tokens)
            return normed
        assert query is not None
        views = self.views(query).unflatten(-1, (VIEWS, -1))
        views = views.expand(*state.shape[:-1], -1, -1)
        nothing = self.nothing.expand(*state.shape[:-1], -1, -1)
        return torch.cat([nothing, views], dim=-2)
