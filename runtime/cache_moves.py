"""Moving kept slots of a decoder's cache, and turning their keys to the new positions."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .engine import Engine
from .manifest import CacheShape, Positions
from .rotary import Rotary
from .values import Float32

Int64 = NDArray[np.int64]


class CacheMover:
    """Gathers slots of a block [layers, 2, kv_heads, capacity, head_dim], layer by layer.

    Args:
        shape: of the cache.
        positions: how they turn keys.
        turn: the evict graph's engine, for a float32 block; None does the same with numpy, for
            float32, float16 and codes of int8, with float32 arithmetic.

    Attributes:
        n_bytes: of its scratch, which is all that it holds.

    Raises:
        ValueError: the size of a head is odd, or the mRoPE sections do not fit it.
    """

    def __init__(self, shape: CacheShape, positions: Positions, turn: Engine | None) -> None:
        self.turn = turn
        self._shape, self._rotary = shape, Rotary(positions, shape.head_dim)
        # One layer's old keys, new keys, and products or values in between.
        self._scratch = np.zeros((3, shape.kv_heads * shape.capacity * shape.head_dim), np.float32)
        self.n_bytes = self._scratch.nbytes

    def move(self, block: NDArray[Any], first: int, slots: Int64, shift: Int64) -> None:
        """Bring slots to `first` and on, and turn their keys back.

        Args:
            block: changed in place; where the engine breaks off, some layers are moved, some not.
            slots: where they are now, increasing, at least one.
            shift: [axes, slots], old positions less new ones.

        Raises:
            EngineFailed, DeviceMemoryExhausted: the evict graph broke off.
        """
        # Whole frames move together, so few shifts differ.
        shifts, which = np.unique(shift, axis=1, return_inverse=True)
        tables, rows = self._rotary.tables(shifts), which.reshape(-1)
        if self.turn is None:
            self._by_numpy(block, first, slots, tables[0][rows], tables[1][rows])
        else:
            self._by_engine(self.turn, block, first, slots, rows, tables)

    def _by_numpy(
        self, block: NDArray[Any], first: int, slots: Int64, cos: Float32, sin: Float32
    ) -> None:
        count, half = len(slots), self._shape.head_dim // 2
        old, new, product = (self._part(row, count) for row in range(3))
        gathered = self._part(2, count, block.dtype)
        for keys, values in block:
            np.take(keys, slots, axis=1, out=gathered, mode="clip")
            old[...] = gathered
            one, other = old[..., :half], old[..., half:]
            np.multiply(one, cos, out=new[..., :half])
            np.multiply(other, cos, out=new[..., half:])
            new[..., :half] += np.multiply(other, sin, out=product[..., :half])
            new[..., half:] -= np.multiply(one, sin, out=product[..., :half])
            if block.dtype == np.int8:  # a pair that was cut off is longer than a code can be
                np.clip(np.rint(new, out=new), -127, 127, out=new)
            keys[:, first : first + count] = new
            np.take(values, slots, axis=1, out=gathered, mode="clip")
            values[:, first : first + count] = gathered

    def _by_engine(
        self,
        turn: Engine,
        block: NDArray[Any],
        first: int,
        slots: Int64,
        rows: Int64,
        tables: tuple[Float32, Float32],
    ) -> None:
        count = len(slots)
        new_keys, new_values = self._part(0, count), self._part(1, count)
        keys, values = block[0][:, None]
        # `delta` is a row of the tables, which hold only the shifts that occur.
        call = turn.bind(
            {"key": keys, "value": values, "keep": slots, "delta": rows,
             "cos": tables[0], "sin": tables[1]},
            {"kept_key": new_keys[None], "kept_value": new_values[None]},
        )  # fmt: skip
        for keys, values in block:
            call.run({"key": keys[None], "value": values[None]})
            keys[:, first : first + count] = new_keys
            values[:, first : first + count] = new_values

    def _part(self, row: int, count: int, dtype: Any = np.float32) -> NDArray[Any]:
        """(kv_heads, count, head_dim) of scratch, in one piece."""
        size = self._shape.kv_heads, count, self._shape.head_dim
        flat: NDArray[Any] = self._scratch[row].view(dtype)
        return flat[: size[0] * size[1] * size[2]].reshape(size)
