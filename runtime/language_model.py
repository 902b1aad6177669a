"""The language model on the device: embeds in, logits of the last position out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol, overload

import numpy as np
from numpy.typing import NDArray

from .arena import Arena
from .decoder_call import cache_dtype, decoder_call
from .engine import NOTHING, Arrays, Engine
from .errors import EngineError, EngineNotFinite, InputMismatch
from .frame_positions import positions_of
from .token_rows import TokenRows
from .values import Float32

Int64 = NDArray[np.int64]
CHUNK_TOKENS = 16
"""Tokens of one run. Measured: frames wait 17 ms (p99) for chunks of 16, 53 ms for 64."""


class SpeakLane(Protocol):
    """Whose turn it is on the device; see `engines/lane.py`."""

    def speak(self) -> AbstractContextManager[Any]:
        """One run of the language model takes place inside this block."""


class LanguageModel:
    """A decoder's engine and the arena that it fills.

    Args:
        engine: of the decoder: inputs_embeds, attention_mask, past_key_values.*, position_ids if
            it has them; logits of the last position, present.*.
        arena: of its shape and dtype.
        rows: the table of token embeddings.
        lane: who runs when; it is held for one chunk at a time.
        chunk_tokens: most tokens of one run, 1 or more.

    Attributes:
        arena: what is in the cache. `replace_engine` may put another one in its place.
        vocabulary: number of logits.

    Raises:
        EngineUnusable: the graph is no decoder of this kind.
        InputMismatch: its cache has another shape or dtype than the arena.
    """

    def __init__(
        self,
        engine: Engine,
        arena: Arena,
        rows: TokenRows,
        lane: SpeakLane,
        *,
        chunk_tokens: int = CHUNK_TOKENS,
    ) -> None:
        if chunk_tokens < 1:
            raise ValueError(f"a chunk has at least one token, got {chunk_tokens}")
        self.arena, self._rows, self._lane = arena, rows, lane
        self._chunk_tokens = chunk_tokens
        self._row = np.zeros((1, rows.width), np.float32)
        self._is_finite = np.zeros((chunk_tokens, rows.width), np.bool_)
        self._adapter: Arrays = NOTHING
        self._bind(engine)

    def rows(self, ids: Sequence[int]) -> Float32:
        """Embeds of tokens, (ids, width) float32.

        Raises:
            InputMismatch: an id has no row.
        """
        return self._rows(ids)

    @overload
    def append(self, embeds: Float32, *, positions: Int64 | None = None) -> Float32: ...

    @overload
    def append(
        self,
        embeds: Float32,
        *,
        positions: Int64 | None = None,
        cancelled: Callable[[], bool],
    ) -> Float32 | None: ...

    def append(
        self,
        embeds: Float32,
        *,
        positions: Int64 | None = None,
        cancelled: Callable[[], bool] | None = None,
    ) -> Float32 | None:
        """Put embeds into the cache: all of them, or none where something goes wrong.

        Args:
            embeds: (tokens, width) float32, at least one row.
            positions: [axes, tokens], for a decoder that takes them; None goes on by one.
            cancelled: polled before each chunk.

        Returns:
            Logits of the last position, (vocabulary,) float32, a view that the next call writes
            over; None where it was cancelled.

        Raises:
            ContextTooSmall: there is no room; nothing was run.
            EngineNotFinite: the embeds or the logits hold NaN or infinity.
            EngineFailed, DeviceMemoryExhausted, InputMismatch: as `BoundCall.run` says.

        Cost: one run of the decoder for each chunk.
        """
        self._check(embeds, positions)
        arena, count = self.arena, len(embeds)
        mark, is_done = arena.mark(), False
        arena.reserve(count)
        try:
            for part in self._chunks(count):
                if cancelled is not None and cancelled():
                    return None
                with self._lane.speak():
                    self._run(embeds[part], None if positions is None else positions[:, part])
            is_done = True
        finally:
            if not is_done:
                arena.rewind(mark)
        last: Float32 = self._logits[0, 0]
        return last

    def positions(self, *parts: tuple[int, bool]) -> Int64 | None:
        """Positions of texts and frames that are appended next, as `positions_of` gives them.

        None where frames have no grid: then `append` counts.
        """
        grid = self.arena.frame_grid
        return None if grid is None else positions_of(parts, grid, self.arena.next_position)

    def _chunks(self, count: int) -> Iterator[slice]:
        """Chunks of tokens, none of one token alone where that can be.

        Quantized matrices have another kernel for one row, whose rounding differs.
        """
        first = 0
        while first < count:
            size = min(self._chunk_tokens, count - first)
            if count - first - size == 1 and size > 2:
                size -= 1
            yield slice(first, first + size)
            first += size

    def step(self, token_id: int) -> Float32:
        """Put one token into the cache; as `append`, no array is made."""
        self._rows.into(token_id, self._row[0])
        return self.append(self._row)

    def evict(self, keep: Int64, new_positions: Int64 | None = None) -> None:
        """Let slots of the cache go, in the lane like any other run; see `Arena.evict`."""
        with self._lane.speak():
            self.arena.evict(keep, new_positions)

    def use(self, adapter: Arrays) -> None:
        """Compute with an adapter from now on; without any where it is empty.

        What is in the cache stays as it was computed: who swaps empties it, or means it so.

        Args:
            adapter: all optional inputs of the decoder's graph; see `adapters.Adapters`.

        Raises:
            InputMismatch: it belongs to another graph; the old one stays.
            EngineFailed: the device that has the cache is gone.

        Cost: a new binding of all inputs; no weight is copied, but a cache on a device is.
        """
        self.arena.fetch()
        before, self._adapter = self._adapter, adapter
        is_bound = False
        try:
            self._bind(self._engine)
            is_bound = True
        finally:
            if not is_bound:
                self._adapter = before

    def replace_engine(self, engine: Engine, arena: Arena | None = None) -> bool:
        """Go on with another engine of the same decoder.

        Args:
            arena: that it fills, empty; None for the one there is, or one like it where the new
                engine's cache has another dtype.

        Returns:
            Whether the cache was kept; otherwise it is a new, empty arena, or one that could not
            be brought back from the device that it was on, and is empty too.

        Raises:
            EngineUnusable, InputMismatch: as for a new LanguageModel; the old engine stays.
        """
        old, dtype, mirror = self.arena, cache_dtype(engine), self.arena.mirror
        is_kept = arena is None and dtype == old.dtype
        if is_kept:
            is_kept = _is_fetched(old)
        else:
            self.arena = old.like(dtype) if arena is None else arena
        is_bound = False
        try:
            self._bind(engine)
            is_bound = True
        finally:
            if not is_bound:
                self.arena, old.mirror = old, mirror
        return is_kept

    def _bind(self, engine: Engine) -> None:
        """Bind a call on our arrays; nothing of ours changes where that fails."""
        width, tokens = self._row.shape[1], self._chunk_tokens
        call = decoder_call(engine, self.arena, width, tokens, self._adapter)
        self._engine, self._call, self.vocabulary = engine, call, call.vocabulary
        self._logits = np.zeros((1, 1, call.vocabulary), np.float32)
        self._is_sound = np.zeros(self._logits.shape, np.bool_)

    def _check(self, embeds: Float32, positions: Int64 | None) -> None:
        width = self._row.shape[1]
        if embeds.ndim != 2 or embeds.shape[1] != width or embeds.dtype != np.float32:
            raise InputMismatch(
                f"embeds: got {embeds.dtype.name} {list(embeds.shape)}, "
                f"expected float32 [tokens, {width}]"
            )
        if not len(embeds):
            raise ValueError("got no embeds, expected at least one row")
        if self._call.takes_positions:
            return
        if positions is not None or self.arena.next_position != self.arena.length:
            raise ValueError("this decoder takes a slot's place for its position, got others")

    def _run(self, embeds: Float32, positions: Int64 | None) -> None:
        """One chunk through the decoder, and into the cache if its logits are numbers."""
        count, arena = len(embeds), self.arena
        if not np.isfinite(embeds, out=self._is_finite[:count]).all():
            raise EngineNotFinite("embeds: got NaN or infinity, expected numbers")
        self._logits = self._call.run(embeds, positions)
        if not np.isfinite(self._logits, out=self._is_sound).all():
            raise EngineNotFinite(
                f"logits: got NaN or infinity after {arena.length + count} tokens, expected numbers"
            )
        arena.advance(count, positions)


def _is_fetched(arena: Arena) -> bool:
    """Bring a cache back from its device; where that is gone, the arena is empty."""
    try:
        arena.fetch()
    except EngineError:
        arena.mirror = None
        arena.reset()
        return False
    return True
