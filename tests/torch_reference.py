"""A decoder in plain PyTorch that keeps its keys unturned and attends over exactly the kept tokens.

It shares nothing with the engine but the weights: every step turns all keys anew by where they
stand, so that no error of an eviction can carry over. Slow, and meant to be.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from edgestream.runtime.manifest_values import Positions
from edgestream.runtime.values import Float32


class TorchReference:
    """A decoder of canonical parameter names, batch 1, one axis of positions or three.

    Norms of queries and keys, biases, and rows that are wider than the decoder (what is added
    after its first layers) are used where they are there.

    Args:
        decoder: a causal language model, float32.
        positions: of the bundle; None for one axis and the decoder's own theta.

    Attributes:
        length: tokens that are kept.
        places: (axes, length) int64, where each of them stands.
    """

    def __init__(self, decoder: Any, positions: Positions | None = None) -> None:
        config = decoder.config
        self._decoder, self._hidden = decoder, config.hidden_size
        self._heads, self._kv_heads = config.num_attention_heads, config.num_key_value_heads
        self._head_dim = getattr(config, "head_dim", None) or self._hidden // self._heads
        theta = positions.theta if positions else config.rope_parameters["rope_theta"]
        pairs = torch.arange(self._head_dim // 2, dtype=torch.float64)
        self._frequencies = theta ** (-pairs / (self._head_dim // 2))
        self._axis = _axis_of_pairs(positions, len(pairs))
        self.places = np.zeros((positions.axes if positions else 1, 0), np.int64)
        empty = torch.zeros(self._kv_heads, 0, self._head_dim)
        self._keys = [empty] * config.num_hidden_layers
        self._values = [empty] * config.num_hidden_layers

    @property
    def length(self) -> int:
        return self.places.shape[1]

    @torch.inference_mode()
    def append(self, embeds: Float32, places: np.ndarray | None = None) -> Float32:
        """Logits of the last position, (vocabulary,), after these embeds, (tokens, width).

        `places` is (axes, tokens); without it they go on by one on every axis.
        """
        rows = torch.from_numpy(np.ascontiguousarray(embeds))
        if places is None:
            first = self.places.max(initial=-1) + 1
            places = np.broadcast_to(
                np.arange(first, first + len(rows)), (len(self.places), len(rows))
            )
        self.places = np.concatenate([self.places, places], axis=1)
        x, *added = rows.split(self._hidden, dim=1)
        for index, layer in enumerate(self._decoder.model.layers):
            x = x + self._attention(index, layer, layer.input_layernorm(x))
            x = x + layer.mlp(layer.post_attention_layernorm(x))
            if index < len(added):
                x = x + added[index]
        logits: Float32 = self._decoder.lm_head(self._decoder.model.norm(x[-1:]))[0].numpy()
        return logits

    def keep(self, slots: Sequence[int], places: np.ndarray | None = None) -> None:
        """Forget all but these tokens; they go to `places`, or close up on every axis."""
        chosen = torch.as_tensor(np.asarray(slots))
        self._keys = [keys[:, chosen] for keys in self._keys]
        self._values = [values[:, chosen] for values in self._values]
        self.places = closed_up(self.places, np.asarray(slots)) if places is None else places

    def _attention(self, index: int, layer: Any, x: Tensor) -> Tensor:
        part, count = layer.self_attn, len(x)
        query, key = (
            self._in_heads(project(x), getattr(part, norm, None))
            for project, norm in ((part.q_proj, "q_norm"), (part.k_proj, "k_norm"))
        )
        self._keys[index] = torch.cat([self._keys[index], key], 1)
        self._values[index] = torch.cat([self._values[index], self._in_heads(part.v_proj(x))], 1)
        every = torch.from_numpy(self.places)
        groups = self._heads // self._kv_heads
        keys = self._turned(self._keys[index], every).repeat_interleave(groups, 0)
        values = self._values[index].repeat_interleave(groups, 0)
        scores = self._turned(query, every[:, -count:]) @ keys.transpose(1, 2) / self._head_dim**0.5
        order = torch.arange(every.shape[1])
        scores = scores.masked_fill(order[None] > order[-count:, None], float("-inf"))
        mixed = scores.softmax(-1) @ values
        out: Tensor = part.o_proj(mixed.transpose(0, 1).reshape(count, -1))
        return out

    def _in_heads(self, x: Tensor, norm: Any = None) -> Tensor:
        """(tokens, heads x head_dim) -> (heads, tokens, head_dim)."""
        split = x.view(len(x), -1, self._head_dim)
        return (split if norm is None else norm(split)).transpose(0, 1)

    def _turned(self, x: Tensor, places: Tensor) -> Tensor:
        angles = places.double()[self._axis].T * self._frequencies
        cos, sin = angles.cos().float(), angles.sin().float()
        first, second = x.chunk(2, -1)
        return torch.cat([first * cos - second * sin, second * cos + first * sin], -1)


def closed_up(places: np.ndarray, kept: np.ndarray) -> np.ndarray:
    """Where kept tokens stand when the positions that nobody has any more are taken out."""
    left = sorted(set(places[:, kept].ravel().tolist()))
    gone = sorted(set(places.ravel().tolist()) - set(left))
    moved = {place: place - sum(one < place for one in gone) for place in left}
    return np.array([[moved[place] for place in axis] for axis in places[:, kept].tolist()])


def _axis_of_pairs(positions: Positions | None, pairs: int) -> Tensor:
    """Which axis turns each pair of numbers of a head."""
    axis = torch.zeros(pairs, dtype=torch.long)
    if positions is None or positions.axes == 1:
        return axis
    sections = positions.sections or ()
    if positions.extra.get("interleaved"):
        for which in (1, 2):
            axis[which : 3 * sections[which] : 3] = which
        return axis
    return torch.repeat_interleave(torch.arange(len(sections)), torch.tensor(sections))
