"""A decoder that reads without end: whole frames and texts are evicted when room is needed."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping
from typing import Any, Literal, TypeAlias

from edgestream.runtime.arena import Arena, ArenaSnapshot
from edgestream.runtime.bundle import Bundle
from edgestream.runtime.engine import Engine, backend_for
from edgestream.runtime.engines.lane import OpenLane
from edgestream.runtime.eviction import EvictionPolicy, Span, keep_slots, kept_spans
from edgestream.runtime.language_model import LanguageModel
from edgestream.runtime.values import Float32

POLICY = EvictionPolicy(recent_slots=128, block_slots=64, sink_slots=4)


Engines: TypeAlias = Mapping[str, Engine]


def opened_engines(bundle: Bundle, threads: int = 1) -> Engines:
    """Decoder and evict graph of a bundle, so many threads each."""
    variants = {role: bundle.variant(role) for role in ("decoder", "evict")}
    return {
        role: backend_for("cpu", threads=threads).open(bundle.path(variant.file), variant)
        for role, variant in variants.items()
    }


def language_model(
    bundle: Bundle,
    capacity: int | None = None,
    *,
    lane: Any = None,
    chunk_tokens: int = 16,
    engines: Engines | None = None,
) -> LanguageModel:
    """The decoder of a bundle over an empty arena, one thread.

    Args:
        bundle: with a decoder.
        capacity: slots of the arena; None for the bundle's own.
        lane: that it works in; None for one in which nobody waits.
        chunk_tokens: that are read at a time.
        engines: opened before, to be shared; None opens them here.
    """
    facts = bundle.manifest
    assert facts.cache is not None and facts.positions is not None
    shape = dataclasses.replace(facts.cache, capacity=capacity or facts.cache.capacity)
    engines = engines or opened_engines(bundle)
    decoder = facts.part("decoder")
    kv_dtype = None if decoder is None else decoder.variants[0].kv_dtype
    arena = Arena(shape, facts.positions, dtype=kv_dtype or "float32", turn=engines["evict"])
    return LanguageModel(
        engines["decoder"],
        arena,
        bundle.token_rows(),
        lane or OpenLane(),
        chunk_tokens=chunk_tokens,
    )


class BoundedContext:
    """Spans of a stream in the arena of a decoder.

    State: the arena, one Span for each stretch that is kept, its embeds where `keeps_embeds`.

    Args:
        model: its arena is taken over, and emptied.
        policy: what is evicted.
        keeps_embeds: remember the embeds of what is kept, for a prefill of the same.
        is_turned: keys are turned when they move; False shows what happens otherwise.
    """

    def __init__(
        self,
        model: LanguageModel,
        policy: EvictionPolicy = POLICY,
        *,
        keeps_embeds: bool = False,
        is_turned: bool = True,
    ) -> None:
        self.model = model
        self._policy = policy
        self._keeps_embeds, self._is_turned = keeps_embeds, is_turned
        model.arena.reset()
        self.spans: list[Span] = []
        self.embeds: list[Float32] = []
        self.evictions = 0
        self.evict_s: list[float] = []

    def append(
        self, kind: Literal["prefix", "frame", "text"], embeds: Float32, time_s: float = 0.0
    ) -> Float32:
        """Logits behind this stretch, (vocabulary,): a view that the next call changes."""
        self.make_room(len(embeds))
        logits: Float32 = self.model.append(embeds)
        self.spans.append(Span(kind, len(embeds), time_s))
        if self._keeps_embeds:
            self.embeds.append(embeds)
        return logits

    def step(self, token_id: int) -> Float32:
        """Logits behind one token more of the last stretch; `make_room` must have been called."""
        logits: Float32 = self.model.step(token_id)
        last = self.spans[-1]
        self.spans[-1] = dataclasses.replace(last, slots=last.slots + 1)
        return logits

    def make_room(self, need: int) -> bool:
        """Evict until so many slots are free; whether anything was."""
        arena = self.model.arena
        if arena.length + need <= arena.capacity:
            return False
        begun_s = time.perf_counter()
        kept = kept_spans(self.spans, self._policy, need, arena.capacity)
        keep = keep_slots(self.spans, kept)
        if self._is_turned:
            self.model.evict(keep)
        else:
            before = arena.snapshot()
            places = before.positions[:, : len(keep)]
            arena.restore(ArenaSnapshot(before.values[:, :, :, keep], places))
        self.spans = [self.spans[index] for index in kept]
        if self._keeps_embeds:
            self.embeds = [self.embeds[index] for index in kept]
        self.evictions += 1
        self.evict_s.append(time.perf_counter() - begun_s)
        return True
