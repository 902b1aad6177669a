"""The tensors of a decoder as the language model binds them: cache, mask, positions, logits."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .arena import Arena
from .engine import Engine
from .errors import EngineUnusable
from .values import Float32

Int64 = NDArray[np.int64]
PAST, PRESENT = "past_key_values.", "present."
"""Begin the names of the cache, as it goes in and as it comes out."""


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


def empty_logits(engine: Engine) -> Float32:
    """What `logits` is bound to, (1, 1, vocabulary) float32.

    Raises:
        EngineUnusable: it gives other logits than those of the last position.
    """
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


def position_array(engine: Engine, arena: Arena, tokens: int) -> Int64 | None:
    """What `position_ids` is bound to, [axes, 1, tokens] or [1, tokens]; None without them."""
    for spec in engine.inputs:
        if spec.name == "position_ids":
            axes = len(arena.positions)
            return np.zeros((axes, 1, tokens) if len(spec.shape) == 3 else (1, tokens), np.int64)
    return None
