"""The mask of a decoder: how its graph is told which slots of its cache a run may look at."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .engine import Engine

Int64 = NDArray[np.int64]


class AttentionMask:
    """The slots that a run may look at, as its graph wants to be told.

    Most graphs take a mask as long as what is in use. One whose cache has one length alone takes a
    mask of that length: ones for the slots in use and those that are being written, then zeros.

    Args:
        engine: of the decoder.
        capacity: of its cache, slots.

    Attributes:
        whole: (1, capacity) int64, to bind; `of` writes into it.
    """

    def __init__(self, engine: Engine, capacity: int) -> None:
        sizes = {spec.name: spec.shape[-1] for spec in engine.inputs}
        self._is_whole = isinstance(sizes.get("attention_mask"), int)
        make = np.zeros if self._is_whole else np.ones
        self.whole: Int64 = make((1, capacity), np.int64)

    def of(self, total: int) -> Int64:
        """The mask of a run after which so many slots are in use."""
        if not self._is_whole:
            return self.whole[:, :total]
        self.whole[:, :total], self.whole[:, total:] = 1, 0
        return self.whole
