"""The cognition gate: whether a frame is worth a word, what happened and to what.

It reads a frame's tokens, summary and motion maps, remembers through selective state spaces, and
gives scores, attributes and a summary of its state for the connector. A still frame brings the
tokens of an earlier one and motion of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import silu

from ..runtime.last_spoke import NEVER
from ..runtime.motion_input import MAP_STD
from .gate_heads import CROSS_ATTENTION, FRAME_ROWS, LINEAR, HeadShape, Silence, head_of
from .selective_state_space import SelectiveStateSpace

SIZES = ("dim", "tokens", "width", "layers", "cells")
SPEAK = "speak"
"""The first score: whether the frame is worth a word at all."""
ATTRIBUTE = "attribute_"
"""Begins the name of an attribute's output in the graph."""
FRAME_READS = ("tokens", "summary", "motion")
"""What a gate may read of a frame, in the order of its inputs."""
QUERY = "query"
"""What was asked for: the mean of the decoder's embedding rows of its tokens; zeros: nothing."""
SPOKEN = "spoken"
"""When it last spoke, as `runtime.last_spoke` has it; 1: it has not spoken yet."""
READS = (*FRAME_READS, QUERY, SPOKEN)
"""All that a gate may read, in the order of its inputs."""


@dataclass(frozen=True, slots=True)
class GateShape:
    """Sizes of a cognition gate.

    Attributes:
        dim: of a token and of the summary.
        tokens: of a frame.
        events: event types that it scores, `speak` not among them; 0: only whether to speak.
        attributes: attribute → how many values it has.
        width: channels inside, and of the state's summary.
        layers: of the recurrence.
        cells: along each side of a motion map.
        map_std: what each motion map is divided by, in its own unit.
        reads: which of `READS`, in their order; `("summary",)` for a gate beside a model that was
            made without one. Behind them `query`: it speaks of what it was asked for alone;
            `spoken`: it hears when it last spoke.
        query_dim: of the query; 0 where it does not read one.
        token_width: each token is first narrowed to so many numbers; 0: it is read as it is.
        head: what says whether to speak.

    Raises:
        ValueError: a size is too small, it reads nothing of a frame, `query_dim` and `reads` differ
            on whether it reads a query, or its head needs what it does not read.
    """

    dim: int = 128
    tokens: int = 10
    events: int = 14
    attributes: Mapping[str, int] = field(default_factory=dict)
    width: int = 128
    layers: int = 2
    cells: int = 7
    map_std: tuple[float, ...] = MAP_STD
    reads: tuple[str, ...] = FRAME_READS
    query_dim: int = 0
    token_width: int = 0
    head: HeadShape = field(default_factory=HeadShape)

    def __post_init__(self) -> None:
        sizes = {name: getattr(self, name) for name in SIZES}
        for name, size in {**sizes, **self.attributes}.items():
            if size < 1:
                raise ValueError(f"a gate's {name} is {size}, expected 1 or more")
        if min(self.events, self.token_width) < 0:
            got = f"{self.events} and {self.token_width}"
            raise ValueError(f"a gate's events and token_width are {got}, expected 0 or more")
        if not self.frame_reads or self.reads != tuple(one for one in READS if one in self.reads):
            raise ValueError(f"a gate reads {self.reads}, expected some of {READS} in this order")
        if self.reads_query != (self.query_dim > 0):
            raise ValueError(
                f"a gate reads {self.reads} with query_dim {self.query_dim}, expected the size of "
                "a query exactly where it reads one"
            )
        needs = "tokens" if self.head.over == FRAME_ROWS else QUERY
        if self.head.kind == CROSS_ATTENTION and needs not in self.reads:
            raise ValueError(f"a cross-attention over {needs} is in a gate that reads {self.reads}")

    @property
    def frame_reads(self) -> tuple[str, ...]:
        """What it reads of a frame."""
        return tuple(name for name in self.reads if name in FRAME_READS)

    @property
    def reads_query(self) -> bool:
        """Whether it is asked for something."""
        return QUERY in self.reads

    @property
    def reads_spoken(self) -> bool:
        """Whether it hears when it last spoke."""
        return SPOKEN in self.reads

    @property
    def has_plain_head(self) -> bool:
        """Whether one linear layer gives all logits, `speak` with the events."""
        return self.head.kind == LINEAR and not (self.reads_query or self.reads_spoken)


class GateSequence(NamedTuple):
    """What a gate says of each frame of some streams.

    Attributes:
        logits: (batch, frames, 1 + events): `speak` first; scores are their sigmoid.
        attributes: name → logits (batch, frames, values + 1); the last one is "none of them", which
            is what a frame without that attribute is trained on.
        state_summary: (batch, frames, width).
        conv, ssm: the state after the last frame.
    """

    logits: Tensor
    attributes: dict[str, Tensor]
    state_summary: Tensor
    conv: Tensor
    ssm: Tensor


class CognitionGate(nn.Module):
    """See the file; `forward` is one frame as the device runs it, `sequence` whole streams.

    State: conv (layers, batch, width, 2) and ssm (layers, batch, 2 · width), float32; a stream
    starts with `first_state`.

    The recurrence sees neither the query, which may change at any frame, nor when the gate last
    spoke: what the connector reads of the state is the same whatever was asked and said.

    Cost: 0.35 M parameters at the default sizes, 2/3 of them read the tokens.
    Source: StreamMind (arXiv 2503.06220): an event-preserving extractor before the language model;
        differs: the motion maps are read beside the tokens.
    """

    map_std: Tensor

    def __init__(self, shape: GateShape) -> None:
        super().__init__()
        self.shape = shape
        width = shape.width
        sizes = {
            "tokens": shape.tokens * shape.dim,
            "summary": shape.dim,
            "motion": len(shape.map_std) * shape.cells**2,
        }
        self.norm = nn.LayerNorm(shape.dim) if "tokens" in shape.reads else None
        narrow, self.narrow = shape.token_width, None
        if narrow and self.norm is not None:
            self.narrow = nn.Linear(shape.dim, narrow)
            sizes["tokens"] = shape.tokens * narrow
        self.read = nn.ModuleDict(
            {name: nn.Linear(sizes[name], width) for name in shape.frame_reads}
        )
        self.join = nn.Linear(width, width)
        self.blocks = nn.ModuleList(SelectiveStateSpace(width) for _ in range(shape.layers))
        self.last_norm = nn.LayerNorm(width)
        told = shape.events + shape.has_plain_head
        self.head = nn.Linear(width, told) if told else None
        self.speak = None
        if not shape.has_plain_head:
            self.speak = head_of(shape.head, width, shape.query_dim, shape.dim)
        self.heads = nn.ModuleDict(
            {name: nn.Linear(width, values + 1) for name, values in shape.attributes.items()}
        )
        self.since = Silence(width) if shape.reads_spoken else None
        scale = torch.tensor(shape.map_std)[:, None, None]
        self.register_buffer("map_std", scale, persistent=False)

    def first_state(self, batch: int = 1) -> tuple[Tensor, Tensor]:
        """conv and ssm before the first frame: all zero."""
        states = [block.first_state(batch) for block in self._blocks()]
        conv, ssm = zip(*states, strict=True)
        return torch.stack(conv), torch.stack(ssm)

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """One frame.

        Args:
            inputs: in the order of `input_names`. tokens (batch, tokens, dim), of an earlier frame
                where this one is still; summary (batch, dim); motion (batch, maps, cells, cells),
                `Motion.maps` in their own units; query (batch, query_dim); spoken (batch, 1) in
                [0, 1]; dt_s (batch, 1), seconds since the frame before; conv and ssm, the state.
                All float32.

        Returns:
            In the order of `output_names`: scores (batch, 1 + events) in [0, 1]; of each attribute
            (batch, values) probabilities, whose rest to 1 is "none of them"; state_summary (batch,
            width); the new conv and ssm.
        """
        *read, dt_s, conv, ssm = inputs
        given = dict(zip(self.shape.reads, read, strict=True))
        x = self._read(given)
        convs, ssms = [], []
        for index, block in enumerate(self._blocks()):
            x, new_conv, new_ssm = block.step(x, dt_s, conv[index], ssm[index])
            convs.append(new_conv)
            ssms.append(new_ssm)
        x = self.last_norm(x)
        told = [torch.softmax(head(x), -1)[..., :-1] for head in self.heads.values()]
        heard = (given.get(name) for name in (QUERY, "tokens", SPOKEN))
        scores = torch.sigmoid(self._logits(x, *heard))
        return (scores, *told, x, torch.stack(convs), torch.stack(ssms))

    def sequence(
        self,
        tokens: Tensor,
        summary: Tensor,
        motion: Tensor,
        dt_s: Tensor,
        state: tuple[Tensor, Tensor] | None = None,
        query: Tensor | None = None,
        spoken: Tensor | None = None,
    ) -> GateSequence:
        """All frames of some streams at once; the numbers are those of `forward` frame by frame.

        Args:
            tokens, summary, motion: as in `forward`, with frames as the second axis.
            dt_s: (batch, frames) float32, seconds.
            state: conv and ssm before the first frame; None at the start of the streams.
            query: (batch, query_dim), the same at all frames of a stream, or (batch, frames,
                query_dim); None for no query.
            spoken: (batch, frames) in [0, 1], where it reads that; None: it never spoke.
        """
        conv, ssm = self.first_state(len(dt_s)) if state is None else state
        x = self._read({"tokens": tokens, "summary": summary, "motion": motion})
        if query is None and self.shape.reads_query:
            query = dt_s.new_zeros(len(dt_s), self.shape.query_dim)
        if spoken is None and self.shape.reads_spoken:
            spoken = torch.full_like(dt_s, NEVER)
        convs, ssms = [], []
        for index, block in enumerate(self._blocks()):
            x, new_conv, new_ssm = block.scan(x, dt_s, conv[index], ssm[index])
            convs.append(new_conv)
            ssms.append(new_ssm)
        x = self.last_norm(x)
        told = {name: head(x) for name, head in self.heads.items()}
        asked = query[:, None] if query is not None and query.ndim == 2 else query
        logits = self._logits(x, asked, tokens, None if spoken is None else spoken[..., None])
        return GateSequence(logits, told, x, torch.stack(convs), torch.stack(ssms))

    def wish(
        self, state: Tensor, query: Tensor | None, tokens: Tensor | None, spoken: Tensor | None
    ) -> Tensor:
        """Logit of `speak`, (…, 1), of a gate with a head for it.

        What it reads: state_summary, query (…, query_dim), tokens (…, tokens, dim), spoken (…, 1).
        """
        assert self.speak is not None
        if self.since is not None and spoken is not None:
            state = state + self.since(spoken)
        logit: Tensor = self.speak(state, query, tokens)
        return logit

    def input_names(self) -> list[str]:
        """Names of what `forward` takes, in its order."""
        return [*self.shape.reads, "dt_s", "conv", "ssm"]

    def output_names(self) -> list[str]:
        """Names of what `forward` gives, in its order."""
        told = [ATTRIBUTE + name for name in self.heads]
        return ["scores", *told, "state_summary", "new_conv", "new_ssm"]

    def _blocks(self) -> list[SelectiveStateSpace]:
        return [block for block in self.blocks if isinstance(block, SelectiveStateSpace)]

    def _logits(self, x: Tensor, *heard: Tensor | None) -> Tensor:
        """(…, 1 + events) of a state (…, width); what is heard is heard by `speak` alone."""
        speak = [] if self.speak is None else [self.wish(x, *heard)]
        events = [] if self.head is None else [self.head(x)]
        return torch.cat([*speak, *events], -1)

    def _read(self, given: Mapping[str, Tensor]) -> Tensor:
        """(…, width): what is new in a frame."""
        rows = []
        for name in self.shape.frame_reads:
            part = given[name]
            if self.norm is not None and name == "tokens":
                part = self.norm(part)
                part = (part if self.narrow is None else self.narrow(part)).flatten(-2)
            elif name == "motion":
                part = (part / self.map_std).flatten(-3)
            rows.append(self.read[name](part))
        x = torch.stack(rows).sum(0)
        joined: Tensor = x + self.join(silu(x))
        return joined
