"""How large keys and values of a decoder become in calibration: the scales of an int8 cache."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import nn

from ..runtime.values import Float32
from .decoder_calls import Stretch
from .hessians import batches

LARGEST = 127.0
LEAST = 1e-6
"""Of a scale: a number that was always zero keeps one."""


class CacheScales(NamedTuple):
    """Of one layer, (kv_heads, head_dim) float32 each; both numbers of a rotated pair are equal."""

    key: Float32
    value: Float32


def cache_scales(decoder: nn.Module, prompts: Sequence[Stretch]) -> tuple[CacheScales, ...]:
    """Scales of each layer, so that nothing that was read in calibration is cut off.

    A pair of a key is as long at every position: its scale is of the longest one.

    Args:
        decoder: full precision, in eval mode; the first half of a head pairs with the second.
        prompts: what it reads.

    Cost: one pass of the decoder over the prompts.
    """
    peaks: list[list[tuple[Float32, Float32]]] = []
    with torch.inference_mode():
        for embeds, places in batches(prompts):
            cache = decoder(
                inputs_embeds=embeds, position_ids=places, use_cache=True, logits_to_keep=1
            ).past_key_values
            peaks.append([_peaks(one.keys.numpy(), one.values.numpy()) for one in cache.layers])
    return tuple(
        CacheScales(_scale([one[0] for one in layer]), _scale([one[1] for one in layer]))
        for layer in zip(*peaks, strict=True)
    )


def _scale(peaks: Sequence[Float32]) -> Float32:
    scale: Float32 = np.maximum(np.max(peaks, axis=0) / LARGEST, LEAST).astype(np.float32)
    return scale


def _peaks(keys: Float32, values: Float32) -> tuple[Float32, Float32]:
    """(kv_heads, head_dim): length of the longest pair, and largest magnitude of a value."""
    half = keys.shape[-1] // 2
    lengths = np.hypot(keys[..., :half], keys[..., half:]).max(axis=(0, 2))
    return np.concatenate([lengths, lengths], axis=-1), np.abs(values).max(axis=(0, 2))
