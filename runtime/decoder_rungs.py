"""The decoder of a bundle on this device, and the next rung of the ladder when it breaks off."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from .arena import Arena
from .decoder_call import holds_its_cache
from .engine import Engine
from .engines.ladder import Refusal, Rung
from .engines.lane import Lanes
from .engines.trt_phases import most_of
from .errors import BundleError, EngineError, EngineUnusable, SettingsInvalid
from .held_block import HeldBlock
from .language_model import LanguageModel
from .manifest import CacheShape, Manifest, Positions
from .records import Record, warning
from .token_rows import TokenRows


def _no_turn(provider: str) -> Engine:
    raise EngineUnusable(f"got no evict graph for {provider}, expected one beside its decoder")


@dataclass(slots=True)
class DecoderRungs:
    """Opens the best decoder that runs here, and another one when that fails in use.

    State: which rung is in use, which variants failed, what caches are made of.

    Attributes:
        open: the ids of variants that failed → the highest rung that is left.
        refused: hears of a variant that cannot be used here, and why.
        turn_of: provider → the evict graph for caches that stay where it runs.
    """

    open: Callable[[tuple[str, ...]], Rung]
    refused: Callable[[Refusal], None] = lambda refusal: None
    turn_of: Callable[[str], Engine] = _no_turn
    _failed: tuple[str, ...] = ()
    _rung: Rung | None = None
    _made_of: tuple[CacheShape, Positions, Engine | None] | None = None

    def model(
        self,
        manifest: Manifest,
        rows: TokenRows,
        lane: Lanes,
        turn: Engine | None,
        *,
        cache_slots: int = 0,
        chunk_tokens: int = 16,
    ) -> LanguageModel:
        """The language model on the highest rung that stands.

        Args:
            manifest: its cache and positions.
            rows: the embedding table.
            lane: who runs when.
            turn: the evict graph for a cache in the computer's memory.
            cache_slots: fewer than the bundle says; 0: as it says.
            chunk_tokens: read in one go.

        Raises:
            EngineUnusable: no rung stands.
            SettingsInvalid: more slots than the bundle was made for.
        """
        shape, positions = manifest.cache, manifest.positions
        if shape is None or positions is None:
            raise EngineUnusable("the bundle says nothing of its cache", hint="export it again")
        if cache_slots > shape.capacity:
            raise SettingsInvalid(
                f"context.cache_slots is {cache_slots}, expected at most the {shape.capacity} that "
                "the bundle was made for",
                hint=f"export it with --capacity {cache_slots}",
            )
        shape = replace(shape, capacity=cache_slots or shape.capacity)
        self._made_of = shape, positions, turn
        rung: Rung = self.open(self._failed)
        while True:
            try:
                arena = self._arena(rung)
                chunk = min(chunk_tokens, most_of(rung.variant, "tokens") or chunk_tokens)
                model = LanguageModel(rung.engine, arena, rows, lane, chunk_tokens=chunk)
            except EngineError as fault:
                left = self._below(rung, fault)
                if left is None:
                    raise fault from None
                rung = left
                continue
            self._rung = rung
            return model

    def next_rung(
        self,
        model: LanguageModel,
        fault: EngineError,
        reset: Callable[[], None],
        tell: Callable[[Record], None],
    ) -> bool:
        """Go on with another decoder; False where there is none, and this one goes on.

        Args:
            model: whose engine broke off.
            fault: how.
            reset: called where the cache could not be kept.
            tell: hears which decoder it is now.
        """
        before = self._rung
        rung = None if before is None else self._below(before, fault)
        while rung is not None:
            try:
                is_elsewhere = isinstance(model.arena.block, HeldBlock)
                is_apart = is_elsewhere or holds_its_cache(rung.engine)
                arena = self._arena(rung) if is_apart else None
                is_kept = model.replace_engine(rung.engine, arena)
            except EngineError as refusal:
                rung = self._below(rung, refusal)
                continue
            if not is_kept:
                reset()
            self._rung = rung
            if before is not None:  # its weights need not lie beside the new ones
                before.engine.__exit__(None, None, None)
            tell(warning("next-rung", f"the decoder goes on as {rung.variant.id}"))
            return True
        return False

    def _arena(self, rung: Rung) -> Arena:
        """An empty cache where the rung wants it."""
        assert self._made_of is not None, "a model comes first"
        shape, positions, turn = self._made_of
        if holds_its_cache(rung.engine):
            block = HeldBlock(shape, positions, self.turn_of(rung.variant.provider))
            return Arena(shape, positions, dtype=block.dtype, block=block)
        return Arena(shape, positions, dtype=rung.variant.kv_dtype or "float32", turn=turn)

    def _below(self, rung: Rung, fault: EngineError) -> Rung | None:
        """The next rung; where there is none, this one may be well again the next time."""
        variant = rung.variant
        try:
            below = self.open((*self._failed, variant.id))
        except (EngineUnusable, BundleError):
            return None
        self.refused(Refusal("decoder", variant.id, variant.provider, fault.message))
        self._failed = (*self._failed, variant.id)
        return below
