"""One run of a decoder on the arena that it fills, wherever the arena's numbers lie."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from .arena import Arena
from .attention_mask import AttentionMask
from .engine import NOTHING, Arrays, Engine, mirror_of
from .errors import EngineUnusable
from .held import HeldArray, HeldCall, HoldingEngine, holding
from .held_block import HeldBlock
from .manifest import TensorSpec
from .values import Float32

Int64 = NDArray[np.int64]
PAST, PRESENT = "past_key_values.", "present."
USED, TOTAL = "seqlens_k", "total_sequence_length"
"""Inputs of a decoder that is told how many slots are in use and how many there are."""


class DecoderCall(Protocol):
    """A decoder bound to an arena.

    Attributes:
        vocabulary: number of logits.
        takes_positions: it has the input `position_ids`.
    """

    vocabulary: int
    takes_positions: bool

    def run(self, embeds: Float32, positions: Int64 | None) -> Float32:
        """Read (tokens, width) embeds behind what the arena holds; the caller advances it.

        Returns:
            (1, 1, vocabulary) of the last position; the next run may write over it.
        """


def decoder_call(
    engine: Engine, arena: Arena, width: int, chunk_tokens: int, adapter: Arrays = NOTHING
) -> DecoderCall:
    """The call that fits where the arena's numbers lie.

    Args:
        width: of one embed.
        chunk_tokens: most tokens of one run.
        adapter: all optional inputs of the graph; empty for none.

    Raises:
        EngineUnusable: the graph is no decoder of this kind, or takes no adapters.
        InputMismatch: its cache has another shape or dtype than the arena.
    """
    if isinstance(arena.block, HeldBlock):
        if adapter:
            raise EngineUnusable(
                "got an adapter, expected none: the decoder on this device takes none",
                hint="engine.provider=cpu, or export with the adapter merged (--adapter)",
            )
        return HeldDecoderCall(engine, arena, arena.block, width, chunk_tokens)
    return HostDecoderCall(engine, arena, width, chunk_tokens, adapter)


def holds_its_cache(engine: Engine) -> bool:
    """Whether a decoder is made for a cache that stays where it runs."""
    return {USED, TOTAL} <= {spec.name for spec in engine.inputs}


class HostDecoderCall:
    """Bound to numpy arrays, whose lengths change from run to run.

    An engine whose memory is elsewhere may keep the cache there: the arena then has its mirror.
    """

    def __init__(
        self, engine: Engine, arena: Arena, width: int, chunk_tokens: int, adapter: Arrays
    ) -> None:
        self._arena, self._chunk_tokens = arena, chunk_tokens
        self._logits = np.zeros(_logits_size(engine), np.float32)
        self.vocabulary = self._logits.shape[-1]
        self._embeds = np.zeros((1, chunk_tokens, width), np.float32)
        self._mask = AttentionMask(engine, arena.capacity)
        past = {PAST + name: view for name, view in arena.tensors().items()}
        present = {PRESENT + name: view for name, view in arena.tensors().items()}
        inputs: dict[str, NDArray[Any]] = {
            "inputs_embeds": self._embeds, "attention_mask": self._mask.whole, **past, **adapter
        }  # fmt: skip
        self._positions = _position_array(engine, arena, chunk_tokens)
        self.takes_positions = self._positions is not None
        if self._positions is not None:
            inputs["position_ids"] = self._positions
        self._call = engine.bind(inputs, {"logits": self._logits, **present})
        arena.mirror = mirror_of(self._call)

    def run(self, embeds: Float32, positions: Int64 | None) -> Float32:
        """Read embeds behind what the arena holds."""
        count, arena = len(embeds), self._arena
        chunk = self._embeds[:, :count]
        chunk[0] = embeds
        mask = self._mask.of(arena.length + count)
        inputs: dict[str, NDArray[Any]] = {"inputs_embeds": chunk, "attention_mask": mask}
        if self._positions is not None:
            ids = _part(self._positions, count, self._chunk_tokens)
            _fill(ids, arena, count, positions)
            inputs["position_ids"] = ids
        self._call.run(inputs)
        return self._logits


class HeldDecoderCall:
    """Bound to arrays that the engine holds, one call for each number of tokens.

    Every array has a constant size and place: the graph is told by a number how many slots are in
    use. So the calls that come again and again, of one token and of a whole chunk, can be replayed.

    State: the calls that were made so far.
    """

    def __init__(
        self,
        engine: Engine,
        arena: Arena,
        block: HeldBlock,
        width: int,
        chunk_tokens: int,
    ) -> None:
        self._engine: HoldingEngine = holding(engine)
        self._arena, self._block, self._width = arena, block, width
        self._chunk_tokens = chunk_tokens
        if not holds_its_cache(engine):
            raise EngineUnusable(
                f"got a decoder without the inputs {USED} and {TOTAL}, expected both, since its "
                "cache stays where it runs",
                hint="export the bundle again",
            )
        size = _logits_size(engine)
        self.vocabulary = size[-1]
        self._logits = self._engine.hold(np.zeros(size, np.float32))
        self._used = self._engine.hold(np.zeros(1, np.int32))
        self._total = np.array([arena.capacity], np.int32)
        positions = _position_array(engine, arena, chunk_tokens)
        self.takes_positions, self._positions = positions is not None, positions
        self._calls: dict[int, _Sized] = {}
        for count in {1, chunk_tokens}:  # before anything waits for them
            self._calls[count] = self._sized(count, replays=True)

    def run(self, embeds: Float32, positions: Int64 | None) -> Float32:
        """Read embeds behind what the arena holds."""
        count, arena = len(embeds), self._arena
        call = self._calls.get(count)
        if call is None:
            call = self._calls[count] = self._sized(count, replays=False)
        call.embeds.write(np.ascontiguousarray(embeds[None]))
        self._used.write(np.array([arena.length + count - 1], np.int32))
        if self._positions is not None and call.positions is not None:
            ids = _part(self._positions, count, self._chunk_tokens)
            _fill(ids, arena, count, positions)
            call.positions.write(ids)
        self._block.written(arena.length + count)
        call.call.run()
        return self._logits.read()

    def _sized(self, count: int, *, replays: bool) -> _Sized:
        engine, cache = self._engine, self._block.tensors()
        embeds = engine.hold(np.zeros((1, count, self._width), np.float32))
        inputs = {"inputs_embeds": embeds, USED: self._used}
        inputs |= {PAST + name: array for name, array in cache.items()}
        ids: HeldArray | None = None
        if self._positions is not None:
            ids = engine.hold(_part(self._positions, count, self._chunk_tokens))
            inputs["position_ids"] = ids
        outputs = {PRESENT + name: array for name, array in cache.items()}
        call = engine.bind_held(
            inputs, {"logits": self._logits, **outputs}, host={TOTAL: self._total}, replays=replays
        )
        return _Sized(call, embeds, ids)


class _Sized:
    """A call for one number of tokens, and what is written into before it runs."""

    __slots__ = ("call", "embeds", "positions")

    def __init__(self, call: HeldCall, embeds: HeldArray, positions: HeldArray | None) -> None:
        self.call, self.embeds, self.positions = call, embeds, positions


def cache_dtype(engine: Engine) -> str:
    """Element type of a decoder's cache.

    Raises:
        EngineUnusable: it has none.
    """
    for spec in engine.inputs:
        if spec.name.startswith(PAST):
            return spec.dtype
    raise EngineUnusable(
        f"got the inputs {', '.join(spec.name for spec in engine.inputs)}, "
        f"expected {PAST}* of a decoder",
        hint="export the bundle again",
    )


def _logits_size(engine: Engine) -> tuple[int, int, int]:
    for spec in engine.outputs:
        shape = spec.shape
        if (spec.name, spec.dtype, shape[1:2]) == ("logits", "float32", (1,)):
            size = shape[-1]
            if len(shape) == 3 and isinstance(size, int):
                return 1, 1, size
    told = ", ".join(f"{spec.name} {spec.dtype} {list(spec.shape)}" for spec in engine.outputs[:1])
    raise EngineUnusable(
        f"got the outputs {told}, …, expected logits float32 of the last position alone",
        hint="export the bundle again",
    )


def _position_array(engine: Engine, arena: Arena, tokens: int) -> Int64 | None:
    """What `position_ids` is bound to, [axes, 1, tokens] or [1, tokens]; None without them."""
    spec: TensorSpec
    for spec in engine.inputs:
        if spec.name == "position_ids":
            axes = len(arena.positions)
            return np.zeros((axes, 1, tokens) if len(spec.shape) == 3 else (1, tokens), np.int64)
    return None


def _part(whole: Int64, count: int, tokens: int) -> Int64:
    """Room for the positions of `count` tokens, in one piece of `whole`."""
    ids = whole.reshape(-1)[: whole.size // tokens * count]
    return ids.reshape(*whole.shape[:-1], count)


def _fill(ids: Int64, arena: Arena, count: int, positions: Int64 | None) -> None:
    if positions is None:
        first = arena.next_position
        ids[...] = np.arange(first, first + count)
    else:
        ids[...] = positions[:, None] if ids.ndim == 3 else positions
