"""Calls of a decoder's engine, one position or one prefix at a time, with its cache in and out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..runtime.engine import Engine
from ..runtime.values import Float32

Cache = Mapping[str, NDArray[Any]]
Int64 = NDArray[np.int64]
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


@dataclass(frozen=True, slots=True, eq=False)
class Stretch:
    """Embeds that a decoder reads one after the other.

    Attributes:
        embeds: (tokens, hidden) float32.
        positions: (axes, tokens) int64 for a decoder that takes them; None for one that counts.
    """

    embeds: Float32
    positions: Int64 | None = None

    def __len__(self) -> int:
        return len(self.embeds)

    def part(self, first: int | None, end: int | None) -> Stretch:
        """Some of it, as a slice takes them."""
        at = slice(first, end)
        positions = None if self.positions is None else self.positions[:, at]
        return Stretch(self.embeds[at], positions)

    def after(self, row: Float32, step: int) -> Stretch:
        """The token, (1, hidden), that stands `step` tokens of text behind it.

        Where rows are wider than an embedding, the rest of a text's is zero.
        """
        more = self.embeds.shape[1] - row.shape[1]
        row = np.pad(row, ((0, 0), (0, more))) if more else row
        if self.positions is None:
            return Stretch(row)
        place = self.positions.max() + 1 + step
        return Stretch(row, np.full((len(self.positions), 1), place, np.int64))


def decoder_inputs(stretch: Stretch, cache: Cache) -> dict[str, NDArray[Any]]:
    """All inputs of one call.

    Args:
        stretch: what it reads.
        cache: of the tokens before.
    """
    mask = np.ones((1, held_positions(cache) + len(stretch)), np.int64)
    inputs: dict[str, NDArray[Any]] = {
        "inputs_embeds": stretch.embeds[None], "attention_mask": mask, **cache
    }  # fmt: skip
    if stretch.positions is not None:
        inputs["position_ids"] = stretch.positions[:, None]
    return inputs


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


def next_logits(engine: Engine, stretch: Stretch, cache: Cache) -> tuple[Float32, Cache]:
    """Logits after the last of these tokens, and the cache with them.

    Args:
        stretch: what it reads.
        cache: of the tokens before; `empty_cache` at the beginning.

    Returns:
        (vocabulary,) float32, and the cache.
    """
    outputs = engine.run(decoder_inputs(stretch, cache))
    after = cache_after(outputs, held_positions(cache) + len(stretch))
    return outputs["logits"][0, -1].astype(np.float32), after
