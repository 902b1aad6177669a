"""Calls of a decoder's engine, one position or one prefix at a time, with its cache in and out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..runtime.engine import Engine
from ..runtime.values import Float32

Cache = Mapping[str, NDArray[Any]]
PAST, PRESENT = "past_key_values.", "present."


def empty_cache(engine: Engine) -> dict[str, NDArray[Any]]:
    """A cache without positions: (1, kv_heads, 0, head_dim) for each key and value.

    The builder's graph does not name its head size, so it is read off its outputs' first run; a
    cache of no positions has no head to get wrong, and ONNX Runtime takes any size there.
    """
    caches: dict[str, NDArray[Any]] = {}
    for spec in engine.inputs:
        if spec.name.startswith(PAST):
            heads = spec.shape[1]
            assert isinstance(heads, int)
            caches[spec.name] = np.zeros((1, heads, 0, head_dim_of(engine)), spec.dtype)
    return caches


def head_dim_of(engine: Engine) -> int:
    """Size of one head of the cache."""
    spec = next(spec for spec in engine.inputs if spec.name.startswith(PAST))
    size = spec.shape[3]
    assert isinstance(size, int), "the decoder's writer fixes the head size of the cache"
    return size


def decoder_inputs(embeds: Float32, cache: Cache) -> dict[str, NDArray[Any]]:
    """All inputs of one call.

    Args:
        embeds: (1, positions, hidden) float32.
        cache: of the positions before.
    """
    held = next(iter(cache.values())).shape[2]
    mask = np.ones((1, held + embeds.shape[1]), np.int64)
    return {"inputs_embeds": embeds, "attention_mask": mask, **cache}


def cache_after(outputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """The cache that a call leaves, named as the next call takes it."""
    return {
        PAST + name.removeprefix(PRESENT): array
        for name, array in outputs.items()
        if name.startswith(PRESENT)
    }


def next_logits(engine: Engine, embeds: Float32, cache: Cache) -> tuple[Float32, Cache]:
    """Logits after the last of these positions, and the cache with them.

    Args:
        embeds: (1, positions, hidden) float32.
        cache: of the positions before; `empty_cache` at the beginning.

    Returns:
        (vocabulary,) float32, and the cache.
    """
    outputs = engine.run(decoder_inputs(embeds, cache))
    return outputs["logits"][0, -1].astype(np.float32), cache_after(outputs)
