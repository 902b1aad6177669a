"""The bounded cache of the runtime, on a GPU: one block of constant size, in PyTorch.

It does what `edgestream.runtime.arena.Arena` does in the computer's memory, and a test holds the
one against the other. Positions have one axis: a slot's place is its position.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import AttentionInterface
from transformers.cache_utils import Cache

from edgestream.runtime.eviction import EvictionPolicy, Span, keep_slots, kept_spans
from edgestream.runtime.manifest import Positions
from edgestream.runtime.rotary import Rotary

ATTENTION = "edgestream_bounded"
"""Name of the attention below among those of `transformers`."""


def policy_of(capacity: int) -> EvictionPolicy:
    """An eighth goes at a time; the newest quarter goes last."""
    return EvictionPolicy(recent_slots=capacity // 4, block_slots=capacity // 8, sink_slots=4)


class DeviceArena:
    """Slots of a decoder's cache on a device.

    Args:
        config: of a decoder of `transformers`.
        capacity: slots.
        device, dtype: of the block.

    Attributes:
        block: (layers, 2, 1, kv_heads, capacity, head_dim); keys, then values.
        spans: what is in it, in the order of the slots.
        evictions: so far.
    """

    def __init__(
        self, config: Any, capacity: int, device: torch.device, dtype: torch.dtype
    ) -> None:
        heads: int = config.num_attention_heads
        self.head_dim: int = getattr(config, "head_dim", None) or config.hidden_size // heads
        self.layers, self.capacity = int(config.num_hidden_layers), capacity
        size = (self.layers, 2, 1, config.num_key_value_heads, capacity, self.head_dim)
        self.block = torch.zeros(size, dtype=dtype, device=device)
        theta = float(config.rope_parameters["rope_theta"])
        self._rotary = Rotary(Positions(1, theta), self.head_dim)
        self._policy = policy_of(capacity)
        self.spans: list[Span] = []
        self.evictions = 0

    @property
    def length(self) -> int:
        """Slots in use."""
        return sum(span.slots for span in self.spans)

    def reset(self) -> None:
        """Empty it."""
        self.spans = []

    def add(self, span: Span) -> None:
        """Slots that were written behind the last one; those of a text grow its last span."""
        last = self.spans[-1] if self.spans else None
        if last is not None and last.kind == span.kind == "text":
            span = Span("text", last.slots + span.slots, last.time_s)
            self.spans.pop()
        self.spans.append(span)

    def make_room(self, need: int) -> bool:
        """Evict whole spans until so many slots are free; whether any went."""
        if self.length + need <= self.capacity:
            return False
        kept = kept_spans(self.spans, self._policy, need, self.capacity)
        self.evict(keep_slots(self.spans, kept))
        self.spans = [self.spans[index] for index in kept]
        return True

    def evict(self, keep: NDArray[np.int64]) -> None:
        """Gather the kept slots to the front and turn each moved key to its new position.

        Args:
            keep: slots, increasing.
        """
        shift = keep - np.arange(len(keep))
        moved = np.flatnonzero(shift)
        self.evictions += 1
        if not len(moved):
            return
        first = int(moved[0])
        device = self.block.device
        slots = torch.from_numpy(keep[first:]).to(device)
        cos, sin = (
            torch.from_numpy(one).to(device) for one in self._rotary.tables(shift[None, first:])
        )
        place, half = slice(first, len(keep)), self.head_dim // 2
        for keys, values in self.block:
            old = keys[:, :, slots].float()
            one, other = old[..., :half], old[..., half:]
            keys[:, :, place, :half] = (one * cos + other * sin).to(keys.dtype)
            keys[:, :, place, half:] = (other * cos - one * sin).to(keys.dtype)
            values[:, :, place] = values[:, :, slots]


class ArenaCache(Cache):
    """The block as `transformers` takes a cache: new keys go into their slots, in place.

    Args:
        arena: whose block it is.

    Attributes:
        slots: (tokens,) int64, where the tokens of the next call go. On the device: a captured
            CUDA graph reads them anew at each replay.
        limit: slots that attention looks at, a constant of a captured graph.
    """

    def __init__(self, arena: DeviceArena) -> None:
        super().__init__(layers=[])
        self._block = arena.block
        self.limit = arena.capacity
        self.slots = torch.zeros(1, dtype=torch.int64, device=arena.block.device)

    def update(
        self, key_states: Tensor, value_states: Tensor, layer_idx: int, *_: Any, **__: Any
    ) -> tuple[Tensor, Tensor]:
        """Keys and values of all slots up to `limit`, the new ones among them."""
        keys, values = self._block[layer_idx]
        keys.index_copy_(2, self.slots, key_states)
        values.index_copy_(2, self.slots, value_states)
        return keys[:, :, : self.limit], values[:, :, : self.limit]

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Never asked for: positions and mask are given."""
        raise AssertionError("positions and mask are given")


def bounded_attention(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """Attention of few queries over many slots, each key read once for all queries that share it.

    Args:
        module: the layer.
        query: (1, heads, tokens, dim).
        key, value: (1, kv_heads, slots, dim).
        attention_mask: (1, 1, tokens, slots) bool: what each token sees.
        scaling: of the scores.
    """
    assert attention_mask is not None
    heads, tokens, dim = query.shape[1:]
    groups = heads // key.shape[1]
    rows = query.reshape(1, key.shape[1], groups * tokens, dim) * (scaling or dim**-0.5)
    scores = torch.matmul(rows, key.transpose(2, 3))
    scores = scores.reshape(1, key.shape[1], groups, tokens, -1).float()
    shares = scores.masked_fill(~attention_mask[:, :, None], float("-inf")).softmax(-1)
    mixed = torch.matmul(shares.to(value.dtype).flatten(2, 3), value)
    return mixed.reshape(1, heads, tokens, dim).transpose(1, 2).contiguous(), None


AttentionInterface.register(ATTENTION, bounded_attention)
