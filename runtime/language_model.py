"""The language model on the device: embeds in, logits of the last position out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol, overload

import numpy as np
from numpy.typing import NDArray

from .arena import Arena
from .engine import NOTHING, Arrays, Engine
from .errors import EngineNotFinite, EngineUnusable, InputMismatch
from .frame_positions import positions_of
from .token_rows import TokenRows
from .values import Float32

Int64 = NDArray[np.int64]
PAST, PRESENT = "past_key_values.", "present."
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
        self._embeds = np.zeros((1, chunk_tokens, rows.width), np.float32)
        self._is_finite = np.zeros(self._embeds.shape[1:], np.bool_)
        self._mask = np.ones((1, arena.capacity), np.int64)
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

        Cost: a new binding of all inputs; no weight is copied.
        """
        before, self._adapter = self._adapter, adapter
        is_bound = False
        try:
            self._bind(self._engine)
            is_bound = True
        finally:
            if not is_bound:
                self._adapter = before

    def replace_engine(self, engine: Engine) -> bool:
        """Go on with another engine of the same decoder.

        Returns:
            Whether the cache was kept; a cache of another dtype is a new, empty arena.

        Raises:
            EngineUnusable, InputMismatch: as for a new LanguageModel; the old engine stays.
        """
        old, dtype = self.arena, _cache_dtype(engine)
        if dtype != old.dtype:
            self.arena = old.like(dtype)
        is_bound = False
        try:
            self._bind(engine)
            is_bound = True
        finally:
            if not is_bound:
                self.arena = old
        return self.arena is old

    def _bind(self, engine: Engine) -> None:
        """Bind a call on our arrays; nothing of ours changes where that fails."""
        logits = _empty_logits(engine)
        positions = _position_array(engine, self.arena, self._chunk_tokens)
        past = {PAST + name: view for name, view in self.arena.tensors().items()}
        present = {PRESENT + name: view for name, view in self.arena.tensors().items()}
        inputs: dict[str, NDArray[Any]] = {
            "inputs_embeds": self._embeds, "attention_mask": self._mask, **past, **self._adapter
        }  # fmt: skip
        if positions is not None:
            inputs["position_ids"] = positions
        self._call = engine.bind(inputs, {"logits": logits, **present})
        self._engine, self._positions, self._logits = engine, positions, logits
        self._is_sound = np.zeros(logits.shape, np.bool_)
        self.vocabulary: int = logits.shape[-1]

    def _check(self, embeds: Float32, positions: Int64 | None) -> None:
        width = self._row.shape[1]
        if embeds.ndim != 2 or embeds.shape[1] != width or embeds.dtype != np.float32:
            raise InputMismatch(
                f"embeds: got {embeds.dtype.name} {list(embeds.shape)}, "
                f"expected float32 [tokens, {width}]"
            )
        if not len(embeds):
            raise ValueError("got no embeds, expected at least one row")
        if self._positions is not None:
            return
        if positions is not None or self.arena.next_position != self.arena.length:
            raise ValueError("this decoder takes a slot's place for its position, got others")

    def _run(self, embeds: Float32, positions: Int64 | None) -> None:
        """One chunk through the decoder, and into the cache if its logits are numbers."""
        count, arena = len(embeds), self.arena
        chunk = self._embeds[:, :count]
        chunk[0] = embeds
        if not np.isfinite(chunk[0], out=self._is_finite[:count]).all():
            raise EngineNotFinite("embeds: got NaN or infinity, expected numbers")
        mask = self._mask[:, : arena.length + count]
        inputs: dict[str, NDArray[Any]] = {"inputs_embeds": chunk, "attention_mask": mask}
        if self._positions is not None:
            inputs["position_ids"] = self._position_ids(count, positions)
        self._call.run(inputs)
        if not np.isfinite(self._logits, out=self._is_sound).all():
            raise EngineNotFinite(
                f"logits: got NaN or infinity after {arena.length + count} tokens, expected numbers"
            )
        arena.advance(count, positions)

    def _position_ids(self, count: int, positions: Int64 | None) -> Int64:
        whole = self._positions
        assert whole is not None
        ids = whole.reshape(-1)[: whole.size // self._chunk_tokens * count]
        ids = ids.reshape(*whole.shape[:-1], count)
        if positions is None:
            first = self.arena.next_position
            ids[...] = np.arange(first, first + count)
        else:
            ids[...] = positions[:, None] if ids.ndim == 3 else positions
        return ids


def _cache_dtype(engine: Engine) -> str:
    for spec in engine.inputs:
        if spec.name.startswith(PAST):
            return spec.dtype
    raise EngineUnusable(
        f"got the inputs {', '.join(spec.name for spec in engine.inputs)}, "
        f"expected {PAST}* of a decoder",
        hint="export the bundle again",
    )


def _empty_logits(engine: Engine) -> Float32:
    for spec in engine.outputs:
        shape = spec.shape
        if (spec.name, spec.dtype, shape[1:2]) == ("logits", "float32", (1,)):
            size = shape[-1]
            if len(shape) == 3 and isinstance(size, int):
                return np.zeros((1, 1, size), np.float32)
    told = ", ".join(f"{spec.name} {spec.dtype} {list(spec.shape)}" for spec in engine.outputs[:1])
    raise EngineUnusable(
        f"got the outputs {told}, …, expected logits float32 of the last position alone",
        hint="export the bundle again",
    )


def _position_array(engine: Engine, arena: Arena, tokens: int) -> Int64 | None:
    """What `position_ids` is bound to, [axes, 1, tokens] or [1, tokens]; None without them."""
    for spec in engine.inputs:
        if spec.name == "position_ids":
            axes = len(arena.positions)
            return np.zeros((axes, 1, tokens) if len(spec.shape) == 3 else (1, tokens), np.int64)
    return None
