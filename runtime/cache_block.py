"""Where the numbers of a decoder's cache lie: one block in the computer's memory, or elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from .cache_moves import CacheMover
from .engine import CacheMirror, Engine
from .errors import EngineError
from .manifest import CacheShape, Positions

Int64 = NDArray[np.int64]


class CacheBlock(Protocol):
    """Keys and values of all layers; `Arena` knows which slots are in use and where they stand.

    Attributes:
        dtype: name of the element type.
        n_bytes: of everything it holds, scratch included; never changes.
    """

    dtype: str
    n_bytes: int

    def tensors(self) -> Mapping[str, Any]:
        """`<layer>.key` and `<layer>.value` → (1, kv_heads, capacity, head_dim), not copied."""

    def clear(self, first: int, end: int) -> None:
        """Slots from `first` up to `end` are zero."""

    def move(self, first: int, slots: Int64, shift: Int64) -> None:
        """Bring slots to `first` and on, and turn their keys back; see `CacheMover.move`."""

    def read(self, length: int) -> NDArray[Any]:
        """A copy of the first slots, [layers, 2, kv_heads, length, head_dim]."""

    def write(self, values: NDArray[Any]) -> None:
        """Put such a copy back; what lies beyond it stays."""

    def like(self, dtype: str) -> CacheBlock:
        """An empty one of the same shape with another dtype."""


class HostBlock:
    """A block of numpy.

    It may stand for a cache that lives on a device: then it is as old as the last `fetch`, what is
    done to it is done there too, and both have zeros where slots were let go.

    Args:
        shape: layers, heads, capacity in slots.
        positions: how they turn keys.
        dtype: float32, float16 or int8.
        turn: the evict graph's engine, float32 alone; numpy does the same without one.
    """

    def __init__(
        self, shape: CacheShape, positions: Positions, dtype: str, turn: Engine | None
    ) -> None:
        self._shape, self._positions, self._turn = shape, positions, turn
        self._mover = CacheMover(shape, positions, turn if dtype == "float32" else None)
        self.dtype = dtype
        size = (shape.layers, 2, shape.kv_heads, shape.capacity, shape.head_dim)
        self._numbers = np.zeros(size, dtype)
        self.mirror: CacheMirror | None = None
        self.n_bytes = self._numbers.nbytes + self._mover.n_bytes

    def tensors(self) -> dict[str, NDArray[Any]]:
        """Views of every layer's keys and values."""
        return {
            f"{layer}.{name}": self._numbers[layer, index][None]
            for layer in range(self._shape.layers)
            for index, name in enumerate(("key", "value"))
        }

    def fetch(self, length: int) -> None:
        """Bring the first slots here from the device; those beyond are zero.

        Raises:
            EngineFailed, DeviceMemoryExhausted: the device is gone, and what was in it.
        """
        if self.mirror is not None:
            self.mirror.pull()
            self._numbers[:, :, :, length:] = 0

    def clear(self, first: int, end: int) -> None:
        """Slots from `first` up to `end` are zero."""
        self._numbers[:, :, :, first:end] = 0
        if self.mirror is not None and first < end:
            with suppress(EngineError):  # whoever runs on the device next hears of it
                self.mirror.clear(first, end)

    def move(self, first: int, slots: Int64, shift: Int64) -> None:
        """Bring slots to `first` and on; only slots that move are touched."""
        self._mover.move(self._numbers, first, slots, shift)
        if self.mirror is not None:
            self.mirror.push()

    def read(self, length: int) -> NDArray[Any]:
        """A copy of the first slots."""
        used: NDArray[Any] = self._numbers[:, :, :, :length].copy()
        return used

    def write(self, values: NDArray[Any]) -> None:
        """Put such a copy back."""
        self._numbers[:, :, :, : values.shape[3]] = values
        if self.mirror is not None:
            self.mirror.push()

    def like(self, dtype: str) -> HostBlock:
        """An empty one of the same shape with another dtype."""
        return HostBlock(self._shape, self._positions, dtype, self._turn)
