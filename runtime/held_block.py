"""A decoder's cache in the memory of the engine that fills it, evicted where it lies."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .engine import Engine
from .errors import EngineUnusable
from .held import HeldArray, HeldCall, holding
from .manifest import CacheShape, Positions
from .rotary import Rotary

Int64 = NDArray[np.int64]
TURN_INPUTS = {"key", "value", "keep", "stays", "cos", "sin"}


class HeldBlock:
    """Keys and values that an engine holds; see `CacheBlock`.

    To move slots, to clear them and to forget them is one graph: slot j becomes slot keep[j], its
    key turned, or zero. It goes over the whole cache in place, which costs a device less than
    knowing what it may leave out.

    State: from where on every slot is known to be zero.

    Args:
        shape: layers, heads, capacity in slots.
        positions: how they turn keys.
        turn: the evict graph of the provider; it holds the arrays.

    Raises:
        EngineUnusable: the graph is another one, or its engine cannot hold arrays.
        DeviceMemoryExhausted: the cache has no room.
    """

    def __init__(self, shape: CacheShape, positions: Positions, turn: Engine) -> None:
        engine, names = holding(turn), {spec.name for spec in turn.inputs}
        if names != TURN_INPUTS:
            raise EngineUnusable(
                f"the evict graph takes {', '.join(sorted(names))}, expected "
                f"{', '.join(sorted(TURN_INPUTS))}",
                hint="export the bundle again",
            )
        self.dtype = next(spec.dtype for spec in turn.inputs if spec.name == "key")
        self._shape, self._facts, self._turn = shape, positions, turn
        self._rotary = Rotary(positions, shape.head_dim)
        size = (1, shape.kv_heads, shape.capacity, shape.head_dim)
        self._layers = [
            {name: engine.hold(np.zeros(size, self.dtype)) for name in ("key", "value")}
            for _ in range(shape.layers)
        ]
        table = np.zeros((shape.capacity, shape.head_dim // 2), np.float32)
        self._told = {
            "keep": engine.hold(np.arange(shape.capacity)),
            "stays": engine.hold(np.zeros((shape.capacity, 1), np.bool_)),
            "cos": engine.hold(table),
            "sin": engine.hold(table),
        }
        self._calls: list[HeldCall] = [
            engine.bind_held(
                {**layer, **self._told},
                {"kept_key": layer["key"], "kept_value": layer["value"]},
            )
            for layer in self._layers
        ]
        held = [*self._told.values(), *(one for layer in self._layers for one in layer.values())]
        self.n_bytes = sum(one.n_bytes for one in held)
        self._zero_from = 0

    def tensors(self) -> dict[str, HeldArray]:
        """Every layer's keys and values, where they lie."""
        return {
            f"{number}.{name}": array
            for number, layer in enumerate(self._layers)
            for name, array in layer.items()
        }

    def written(self, end: int) -> None:
        """A decoder has written slots up to `end`."""
        self._zero_from = max(self._zero_from, end)

    def clear(self, first: int, end: int) -> None:
        """Slots from `first` up to `end` are zero; so are those behind, which nobody uses."""
        if first < min(end, self._zero_from):
            self.move(first, np.zeros(0, np.int64), np.zeros((self._facts.axes, 0), np.int64))

    def move(self, first: int, slots: Int64, shift: Int64) -> None:
        """Bring slots to `first` and on, and turn their keys back; what lies behind is zero."""
        kept, capacity = first + len(slots), self._shape.capacity
        keep = np.zeros(capacity, np.int64)
        keep[:first], keep[first:kept] = np.arange(first), slots
        cos = np.ones((capacity, self._shape.head_dim // 2), np.float32)
        sin = np.zeros_like(cos)
        if len(slots):
            shifts, which = np.unique(shift, axis=1, return_inverse=True)
            tables, rows = self._rotary.tables(shifts), which.reshape(-1)
            cos[first:kept], sin[first:kept] = tables[0][rows], tables[1][rows]
        stays = np.arange(capacity)[:, None] < kept
        for name, array in (("keep", keep), ("stays", stays), ("cos", cos), ("sin", sin)):
            self._told[name].write(array)
        for call in self._calls:
            call.run()
        self._zero_from = kept

    def read(self, length: int) -> NDArray[Any]:
        """A copy of the first slots, in the computer's memory."""
        layers = [[layer[name].read()[0] for name in ("key", "value")] for layer in self._layers]
        used: NDArray[Any] = np.array(layers)[:, :, :, :length].copy()
        return used

    def write(self, values: NDArray[Any]) -> None:
        """Put such a copy back; what lies behind is zero."""
        rest = self._shape.capacity - values.shape[3]
        whole = np.pad(values, ((0, 0), (0, 0), (0, 0), (0, rest), (0, 0)))
        for layer, (key, value) in zip(self._layers, whole, strict=True):
            layer["key"].write(key[None])
            layer["value"].write(value[None])
        self._zero_from = values.shape[3]

    def like(self, dtype: str) -> HeldBlock:
        """An empty one; of its own dtype alone, which is the graph's.

        Raises:
            EngineUnusable: another one was wanted.
        """
        if dtype != self.dtype:
            raise EngineUnusable(
                f"got a cache of {dtype}, expected {self.dtype} as the evict graph has it",
                hint="export the bundle again",
            )
        return HeldBlock(self._shape, self._facts, self._turn)
