"""How far keys drift when they are turned as often as the arena allows, per dtype of the cache."""

from __future__ import annotations

from typing import Any

import numpy as np
from bounded_context import language_model, opened_engines
from numpy.typing import NDArray
from painted_recording import PaintedStream

from edgestream.runtime.arena import Arena, ArenaSnapshot
from edgestream.runtime.bundle import Bundle
from edgestream.runtime.errors import EngineUnusable
from edgestream.runtime.manifest_values import Positions
from edgestream.runtime.values import Float32

CAPACITY, FRONT = 512, 32
"""The last FRONT slots come to the front."""
STEPS = (1, 48)
"""Slots that leave at a time: one, the worst case; a block, as it is done."""


def drift_rows(bundle: Bundle, stream: PaintedStream) -> list[dict[str, Any]]:
    """One row per way to keep the cache.

    `key error` is the largest difference of a key to one turn in float64, of the largest number in
    that key. Logits of one more token are compared with those over exactly turned keys.
    """
    full = filled_arena(bundle, stream)
    exact = turned_exactly(full, _positions(bundle), CAPACITY - FRONT)
    reader = language_model(bundle, CAPACITY)
    wanted = _logits(reader, exact)
    rows = []
    for name, dtype, has_graph in (
        ("float32, evict graph", "float32", True),
        ("float32, numpy", "float32", False),
        ("float16, numpy", "float16", False),
    ):
        arena = _empty(bundle, dtype, has_graph)
        for slots in STEPS:
            kept = moved(arena, full, slots)
            logits = _logits(reader, kept)
            rows.append(
                {
                    "cache": name,
                    "turns of a key": (CAPACITY - FRONT) // slots,
                    "slots a turn": slots,
                    "key error": _key_error(kept, exact),
                    "logit error": float(np.abs(logits - wanted).max()),
                    "cosine": round(_cosine(logits, wanted), 7),
                    "argmax": bool(logits.argmax() == wanted.argmax()),
                }
            )
    rows.append({"cache": _int8(bundle)})
    return rows


def filled_arena(bundle: Bundle, stream: PaintedStream) -> ArenaSnapshot:
    """The cache of the decoder after CAPACITY slots of a stream."""
    model = language_model(bundle, CAPACITY)
    for episode in stream.episodes():
        for stretch in episode:
            embeds = stream.embeds(stretch)[: CAPACITY - model.arena.length]
            if not len(embeds):
                return model.arena.snapshot()
            model.append(embeds)
    raise AssertionError("a stream has no end")


def moved(arena: Arena, full: ArenaSnapshot, slots: int) -> NDArray[Any]:
    """The last FRONT slots after all others were evicted from the front, so many at a time."""
    arena.restore(ArenaSnapshot(full.values.astype(arena.dtype), full.positions))
    while arena.length > FRONT:
        arena.evict(np.arange(slots, arena.length))
    return arena.snapshot().values[:, :, :, -FRONT:]


def turned_exactly(full: ArenaSnapshot, positions: Positions, shift: int) -> NDArray[np.float64]:
    """The last FRONT slots with their keys turned back by `shift` positions at once, float64."""
    values = full.values[:, :, :, -FRONT:].astype(np.float64)
    half = values.shape[-1] // 2
    angle = shift * positions.theta ** (-np.arange(half) / half)
    first, second = values[:, 0, ..., :half].copy(), values[:, 0, ..., half:].copy()
    values[:, 0, ..., :half] = first * np.cos(angle) + second * np.sin(angle)
    values[:, 0, ..., half:] = second * np.cos(angle) - first * np.sin(angle)
    return values


def _empty(bundle: Bundle, dtype: str, has_graph: bool) -> Arena:
    arena = language_model(bundle, CAPACITY).arena
    turn = opened_engines(bundle)["evict"] if has_graph else None
    return Arena(arena.shape, _positions(bundle), dtype=dtype, turn=turn)


def _positions(bundle: Bundle) -> Positions:
    assert bundle.manifest.positions is not None
    return bundle.manifest.positions


def _key_error(kept: NDArray[Any], exact: NDArray[np.float64]) -> float:
    keys, right = kept[:, 0].astype(np.float64), exact[:, 0]
    return float((np.abs(keys - right).max(-1) / np.abs(right).max(-1)).max())


def _logits(reader: Any, values: NDArray[Any]) -> Float32:
    reader.arena.restore(ArenaSnapshot(values.astype(np.float32), np.arange(FRONT)[None]))
    return np.array(reader.step(2))


def _cosine(one: Float32, other: Float32) -> float:
    first, second = one.astype(np.float64), other.astype(np.float64)
    return float(first @ second / np.linalg.norm(first) / np.linalg.norm(second))


def _int8(bundle: Bundle) -> str:
    try:
        _empty(bundle, "int8", False)
    except EngineUnusable:
        return "int8: refused"
    return "int8: NOT refused"
