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
            caches[spec.name] = np.zeros((1, heads, 0, head_dim_of(engine)), np.float32)
    return caches


def head_dim_of(engine: Engine) -> int:
    """Size of one head of the cache."""
    spec = next(spec for spec in engine.inputs if spec.name.startswith(PAST))
    size = spec.shape[3]
    assert isinstance(size, int), "the decoder's writer fixes the head size of the cache"
    return size


def decoder_inputs(engine: Engine, embeds: Float32, cache: Cache) -> dict[str, NDArray[Any]]:
    """All inputs of one call; positions go on by one on every axis.

    Args:
        engine: of the decoder.
        embeds: (1, positions, hidden) float32; zeros follow where the decoder reads wider rows.
        cache: of the positions before.
    """
    held, count = next(iter(cache.values())).shape[2], embeds.shape[1]
    inputs = {"attention_mask": np.ones((1, held + count), np.int64), **cache}
    for spec in engine.inputs:
        if spec.name == "inputs_embeds":
            assert isinstance(spec.shape[-1], int)
            more = spec.shape[-1] - embeds.shape[-1]
            inputs[spec.name] = np.pad(embeds, ((0, 0), (0, 0), (0, more))) if more else embeds
        elif spec.name == "position_ids":
            axes = spec.shape[0] if len(spec.shape) == 3 else 1
            assert isinstance(axes, int)
            ids = np.broadcast_to(np.arange(held, held + count), (axes, 1, count))
            inputs[spec.name] = np.ascontiguousarray(ids if len(spec.shape) == 3 else ids[0])
    return inputs


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
    outputs = engine.run(decoder_inputs(engine, embeds, cache))
    return outputs["logits"][0, -1].astype(np.float32), cache_after(outputs)
