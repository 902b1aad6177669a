"""A decoder in plain PyTorch that keeps its keys unturned and attends over exactly the kept tokens.

It shares nothing with the engine but the weights: every step turns all keys anew by where they
stand, so that no error of an eviction can carry over. Slow, and meant to be.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

from edgestream.runtime.values import Float32


class TorchReference:
    """A decoder of Llama, Qwen2 or Mistral type, batch 1, one axis of positions.

    Args:
        decoder: a causal language model, float32.

    Attributes:
        length: tokens that are kept.
    """

    def __init__(self, decoder: PreTrainedModel) -> None:
        config = decoder.config
        self.length = 0
        self._decoder = decoder
        self._heads, self._kv_heads = config.num_attention_heads, config.num_key_value_heads
        self._head_dim = getattr(config, "head_dim", None) or config.hidden_size // self._heads
        theta = config.rope_parameters["rope_theta"]
        pairs = torch.arange(self._head_dim // 2, dtype=torch.float64)
        self._frequencies = theta ** (-pairs / (self._head_dim // 2))
        empty = torch.zeros(self._kv_heads, 0, self._head_dim)
        self._keys = [empty] * config.num_hidden_layers
        self._values = [empty] * config.num_hidden_layers

    @torch.inference_mode()
    def append(self, embeds: Float32) -> Float32:
        """Logits of the last position, (vocabulary,), after these embeds, (tokens, hidden)."""
        x = torch.from_numpy(np.ascontiguousarray(embeds))
        places = torch.arange(self.length + len(embeds))
        for index, layer in enumerate(self._decoder.model.layers):
            x = x + self._attention(index, layer, layer.input_layernorm(x), places)
            x = x + layer.mlp(layer.post_attention_layernorm(x))
        self.length = len(places)
        logits: Float32 = self._decoder.lm_head(self._decoder.model.norm(x[-1:]))[0].numpy()
        return logits

    def keep(self, slots: Sequence[int]) -> None:
        """Forget all but these tokens; they close up."""
        chosen = torch.as_tensor(np.asarray(slots))
        self._keys = [keys[:, chosen] for keys in self._keys]
        self._values = [values[:, chosen] for values in self._values]
        self.length = len(chosen)

    def _attention(self, index: int, layer: torch.nn.Module, x: Tensor, places: Tensor) -> Tensor:
        part, count = layer.self_attn, len(x)
        query = self._in_heads(part.q_proj(x))
        self._keys[index] = torch.cat([self._keys[index], self._in_heads(part.k_proj(x))], 1)
        self._values[index] = torch.cat([self._values[index], self._in_heads(part.v_proj(x))], 1)
        new = places[-count:]
        groups = self._heads // self._kv_heads
        keys = self._turned(self._keys[index], places).repeat_interleave(groups, 0)
        values = self._values[index].repeat_interleave(groups, 0)
        scores = self._turned(query, new) @ keys.transpose(1, 2) / self._head_dim**0.5
        scores = scores.masked_fill(places[None] > new[:, None], float("-inf"))
        mixed = scores.softmax(-1) @ values
        out: Tensor = part.o_proj(mixed.transpose(0, 1).reshape(count, -1))
        return out

    def _in_heads(self, x: Tensor) -> Tensor:
        """(tokens, heads x head_dim) -> (heads, tokens, head_dim)."""
        return x.view(len(x), -1, self._head_dim).transpose(0, 1)

    def _turned(self, x: Tensor, places: Tensor) -> Tensor:
        angles = places.double()[:, None] * self._frequencies
        cos, sin = angles.cos().float(), angles.sin().float()
        first, second = x.chunk(2, -1)
        return torch.cat([first * cos - second * sin, second * cos + first * sin], -1)
