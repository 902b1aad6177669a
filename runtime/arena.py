"""The decoder's cache: one block of constant size, bound as past and as present at once.

How to think about it: slots fill from the front, and each slot knows its position. To evict is to
gather the kept slots to the front and to turn each moved key from its old position to its new one.
Values have no position. What was computed while evicted tokens were still visible stays as it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .cache_block import CacheBlock, HostBlock
from .engine import CacheMirror, Engine
from .errors import ContextTooSmall, EngineUnusable
from .frame_positions import Grid
from .manifest import CacheShape, Positions

DTYPES = ("float32", "float16", "int8")
Int64 = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Mark:
    """A place to return to: how many slots were in use, and how often slots had been moved."""

    length: int
    moves: int


@dataclass(frozen=True, slots=True, eq=False)
class ArenaSnapshot:
    """What an arena held.

    Attributes:
        values: [layers, 2, kv_heads, length, head_dim].
        positions: [axes, length].
    """

    values: NDArray[Any]
    positions: Int64


class Arena:
    """The slots of a decoder's cache.

    The law: every slot from `length` on is zero, unless it is reserved and being written.

    Args:
        shape: layers, heads, capacity in slots.
        positions: how they turn keys.
        dtype: float32, float16 or int8. Of int8 it holds codes; their scales are in the decoder's
            graph, the same one for both numbers of a rotated pair, so that codes turn as keys do.
        turn: the evict graph's engine; float32 alone. Without one, or where the arena has another
            dtype, numpy does the same.
        block: where the numbers lie; None for this computer's memory, of `dtype`. Another one has
            its own dtype and turns keys itself.

    Attributes:
        shape: as given.
        dtype: name of the element type.
        capacity: slots.
        block: the numbers.
        n_bytes: of everything it holds, scratch included; never changes. What a `mirror` stands
            for is as much again, without the scratch.

    Raises:
        EngineUnusable: the dtype is another one.
        ValueError: the shape or the mRoPE sections make no sense.
    """

    def __init__(
        self,
        shape: CacheShape,
        positions: Positions,
        *,
        dtype: str = "float32",
        turn: Engine | None = None,
        block: CacheBlock | None = None,
    ) -> None:
        if dtype not in DTYPES:
            raise EngineUnusable(
                f"got a cache of {dtype}, expected {', '.join(DTYPES)}: keys are turned when "
                "slots are evicted, which others cannot be",
                hint="export the decoder with a cache of float32",
            )
        self.block = block or HostBlock(shape, positions, dtype, turn)
        self.shape, self.dtype, self.capacity = shape, self.block.dtype, shape.capacity
        self._facts = positions
        self._positions = np.zeros((positions.axes, shape.capacity), np.int64)
        self._length = self._reserved = self._moves = 0

    @property
    def length(self) -> int:
        """Slots in use."""
        return self._length

    @property
    def n_bytes(self) -> int:
        """Bytes of the block, the positions and the scratch."""
        return self.block.n_bytes + self._positions.nbytes

    @property
    def frame_grid(self) -> Grid | None:
        """Rows and columns of one frame's tokens; None where they go on by one."""
        return self._facts.frame_grid

    @property
    def positions(self) -> Int64:
        """Position of each slot, [axes, capacity]; zero for those not in use. A read-only view."""
        view: Int64 = self._positions.view()
        view.flags.writeable = False
        return view

    @property
    def next_position(self) -> int:
        """One more than the greatest position on any axis."""
        return int(self._positions[:, : self._length].max(initial=-1)) + 1

    def tensors(self) -> Mapping[str, Any]:
        """`<layer>.key` and `<layer>.value` → (1, kv_heads, capacity, head_dim), not copied."""
        return self.block.tensors()

    def like(self, dtype: str) -> Arena:
        """An empty arena of the same shape with another dtype."""
        return Arena(self.shape, self._facts, dtype=dtype, block=self.block.like(dtype))

    def reserve(self, count: int) -> None:
        """Make sure that an engine may write `count` more slots now.

        Raises:
            ContextTooSmall: there is no room.
        """
        if self._length + count > self.capacity:
            raise ContextTooSmall(
                f"got {count} tokens more, expected at most {self.capacity - self._length}: "
                f"{self._length} of {self.capacity} slots are in use",
                hint="ask a shorter question, show fewer frames, or use a larger cache",
            )
        self._reserved = max(self._reserved, self._length + count)

    def advance(self, count: int, positions: Int64 | None = None) -> None:
        """An engine has written `count` more slots.

        Args:
            positions: [axes, count]; None goes on by one on every axis.
        """
        if not 0 <= count <= self.capacity - self._length:
            raise ValueError(f"got {count} slots more in {self._length} of {self.capacity}")
        end = self._length + count
        if positions is None:
            first = self.next_position
            self._positions[:, self._length : end] = np.arange(first, first + count)
        else:
            self._positions[:, self._length : end] = positions
        self._length = end
        self._reserved = max(self._reserved, end)

    def evict(self, keep: ArrayLike, new_positions: ArrayLike | None = None) -> None:
        """Keep some slots, in their order, and let the others go.

        Args:
            keep: slots, increasing.
            new_positions: [axes, kept]; None closes the gaps that the others leave, on every axis:
                with one axis the new position is the new slot.

        Raises:
            EngineFailed, DeviceMemoryExhausted: the evict graph broke off; the arena is then empty.
            ValueError: `keep` is not increasing, or names a slot that is not in use.

        Cost: one gather of every moved slot; slots before the first one that moves are not touched.
        """
        slots = self._checked(np.asarray(keep, np.int64))
        old = self._positions[:, slots]
        if new_positions is None:
            new = _without_gaps(self._positions[:, : self._length], old)
        else:
            new = np.broadcast_to(np.asarray(new_positions, np.int64), old.shape)
        moves = (slots != np.arange(len(slots))) | (old != new).any(axis=0)
        first = int(moves.argmax()) if moves.any() else len(slots)
        if first < len(slots):
            self._move(first, slots[first:], (old - new)[:, first:])
        self._positions[:, : len(slots)] = new
        self._moves += 1
        self._shorten(len(slots))

    def mark(self) -> Mark:
        """Where to return to with `rewind`."""
        return Mark(self._length, self._moves)

    def rewind(self, mark: Mark) -> None:
        """Forget what was written or reserved since; the arena is then bit by bit as it was.

        Raises:
            ValueError: slots were moved since, or the arena was emptied.
        """
        if mark.moves != self._moves or mark.length > self._length:
            raise ValueError(f"{mark} is of another time: slots were moved or emptied since")
        self._shorten(mark.length)

    def reset(self) -> None:
        """Empty it."""
        self._moves += 1
        self._shorten(0)

    @property
    def mirror(self) -> CacheMirror | None:
        """The cache on a device that this computer's memory stands for; None without one."""
        return self.block.mirror if isinstance(self.block, HostBlock) else None

    @mirror.setter
    def mirror(self, mirror: CacheMirror | None) -> None:
        if isinstance(self.block, HostBlock):
            self.block.mirror = mirror

    def fetch(self) -> None:
        """Bring this computer's memory up to date with the device that it stands for, if any.

        Raises:
            EngineFailed, DeviceMemoryExhausted: the device is gone, and what was in it.
        """
        if isinstance(self.block, HostBlock):
            self.block.fetch(self._length)

    def snapshot(self) -> ArenaSnapshot:
        """A copy of what is in use."""
        used = slice(self._length)
        self.fetch()
        return ArenaSnapshot(self.block.read(self._length), self._positions[:, used].copy())

    def restore(self, state: ArenaSnapshot) -> None:
        """Hold what a snapshot of an arena of this shape and dtype held.

        Raises:
            ValueError: it is of another shape or dtype, or longer than the capacity.
        """
        length = state.values.shape[3]
        size = (self.shape.layers, 2, self.shape.kv_heads, self.capacity, self.shape.head_dim)
        fits = state.values.shape == (*size[:3], min(length, self.capacity), size[4])
        if not fits or state.values.dtype != np.dtype(self.dtype):
            raise ValueError(
                f"got a snapshot {state.values.dtype} {state.values.shape}, "
                f"expected {self.dtype} {size} or shorter"
            )
        self.reset()
        self.block.write(state.values)
        self._positions[:, :length] = state.positions
        self._length = self._reserved = length

    def _shorten(self, length: int) -> None:
        """Zero whatever may have been written after `length`."""
        end = max(self._length, self._reserved)
        self._positions[:, length:end] = 0
        self._length = self._reserved = length
        self.block.clear(length, end)

    def _move(self, first: int, slots: Int64, shift: Int64) -> None:
        is_done = False
        try:
            self.fetch()
            self.block.move(first, slots, shift)
            is_done = True
        finally:
            if not is_done:  # some layers are moved, some not: nothing in it fits together
                self.reset()

    def _checked(self, keep: Int64) -> Int64:
        is_increasing = keep.ndim == 1 and bool((np.diff(keep) > 0).all())
        if not is_increasing or (len(keep) and not 0 <= keep[0] <= keep[-1] < self._length):
            raise ValueError(f"got the slots {keep}, expected increasing ones below {self._length}")
        return keep


def _without_gaps(used: Int64, kept: Int64) -> Int64:
    """The kept positions, each less by how many positions before it nobody has any more.

    Gaps that were there before stay, so that a layout which leaves some keeps its distances.
    """
    gone = np.setdiff1d(used, kept)
    new: Int64 = kept - np.searchsorted(gone, kept)
    return new
