"""A decoder whose cache has a fixed length, read one stretch after another, for proofs."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..calibration.decoder_calls import PAST, Stretch, cache_after
from ..runtime.engine import Engine
from ..runtime.values import Float32


class StaticDecoder:
    """An engine and its cache.

    Args:
        engine: of a decoder whose attention_mask is as long as its cache.

    Attributes:
        capacity: slots of the cache.
    """

    def __init__(self, engine: Engine) -> None:
        mask = next(spec for spec in engine.inputs if spec.name == "attention_mask")
        assert isinstance(mask.shape[1], int), "the writer fixes the length of the cache"
        self.capacity: int = mask.shape[1]
        self._engine, self._held = engine, 0
        self._cache: dict[str, NDArray[Any]] = {
            spec.name: np.zeros(tuple(map(int, spec.shape)), spec.dtype)
            for spec in engine.inputs
            if spec.name.startswith(PAST)
        }

    def inputs(self, stretch: Stretch) -> dict[str, NDArray[Any]]:
        """All inputs of the call that reads these tokens next."""
        mask = np.zeros((1, self.capacity), np.int64)
        mask[:, : self._held + len(stretch)] = 1
        inputs: dict[str, NDArray[Any]] = {
            "inputs_embeds": stretch.embeds[None], "attention_mask": mask, **self._cache
        }  # fmt: skip
        if stretch.positions is not None:
            inputs["position_ids"] = stretch.positions[:, None]
        return inputs

    def logits(self, stretch: Stretch) -> Float32:
        """(vocabulary,) after the last of these tokens, which are in the cache then."""
        outputs = self._engine.run(self.inputs(stretch))
        self._held += len(stretch)
        self._cache = cache_after(outputs, self._held)
        last: Float32 = outputs["logits"][0, -1]
        return last

    def share_cache(self) -> None:
        """Give every layer the keys and values of the first: one pair of arrays for a file."""
        layers = {name.split(".")[1] for name in self._cache}
        first = min(layers, key=int)
        self._cache = {
            name: self._cache[name.replace(f".{name.split('.')[1]}.", f".{first}.")]
            for name in self._cache
        }
