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


class RoomyCache(dict[str, NDArray[Any]]):
    """A cache of constant size, of which the first `held` positions are in use."""

    held = 0


def empty_cache(engine: Engine, room: int) -> dict[str, NDArray[Any]]:
    """A cache without positions, for each key and value.

    One of float32 grows from (1, kv_heads, 0, head_dim). Others have all their room from the
    beginning: onnxruntime converts them in between, and plans with one size for past and present.

    Args:
        engine: of a decoder.
        room: positions that there must be room for.
    """
    caches = RoomyCache()
    for spec in engine.inputs:
        if spec.name.startswith(PAST):
            heads = spec.shape[1]
            assert isinstance(heads, int)
            size = 0 if spec.dtype == "float32" else room
            caches[spec.name] = np.zeros((1, heads, size, head_dim_of(engine)), spec.dtype)
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
    mask = np.ones((1, held_positions(cache) + embeds.shape[1]), np.int64)
    return {"inputs_embeds": embeds, "attention_mask": mask, **cache}


def held_positions(cache: Cache) -> int:
    """How many positions are in use."""
    if isinstance(cache, RoomyCache):
        return cache.held
    return int(next(iter(cache.values())).shape[2])


def cache_after(outputs: Mapping[str, NDArray[Any]], held: int) -> RoomyCache:
    """The cache that a call leaves, named as the next call takes it; `held` positions of it."""
    after = RoomyCache(
        {
            PAST + name.removeprefix(PRESENT): array
            for name, array in outputs.items()
            if name.startswith(PRESENT)
        }
    )
    after.held = held
    return after


def next_logits(engine: Engine, embeds: Float32, cache: Cache) -> tuple[Float32, Cache]:
    """Logits after the last of these positions, and the cache with them.

    Args:
        embeds: (1, positions, hidden) float32.
        cache: of the positions before; `empty_cache` at the beginning.

    Returns:
        (vocabulary,) float32, and the cache.
    """
    outputs = engine.run(decoder_inputs(embeds, cache))
    after = cache_after(outputs, held_positions(cache) + embeds.shape[1])
    return outputs["logits"][0, -1].astype(np.float32), after
