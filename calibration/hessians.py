"""What the layers of a decoder read in calibration, as mean of x·xᵀ: what GPTQ weighs errors by."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from .decoder_calls import Stretch

BUDGET_BYTES = 1 << 30
"""Of what is held at once; a larger decoder is run again for the layers that are left."""
BATCH_ROWS = 4096


class Hessians:
    """The Hessian of each matrix of a decoder, collected when it is asked for.

    Args:
        decoder: full precision, in eval mode.
        names: of its weights, in the order in which they will be asked for; those that read the
            same may be represented by one of them.
        prompts: what it reads.
        budget_bytes: of the Hessians that are held at once.

    Cost: one pass of the decoder over the prompts for every `budget_bytes` of Hessians.
    """

    def __init__(
        self,
        decoder: nn.Module,
        names: Sequence[str],
        prompts: Sequence[Stretch],
        *,
        budget_bytes: int = BUDGET_BYTES,
    ) -> None:
        self._decoder, self._prompts, self._budget = decoder, prompts, budget_bytes
        self._layers = {name: _layer(decoder, name) for name in names}
        self._held: dict[str, NDArray[np.float64]] = {}

    def of(self, name: str) -> NDArray[np.float64]:
        """(in, in), mean of x·xᵀ over all positions of all prompts.

        Args:
            name: of the weight, one of `names`.

        Raises:
            KeyError: it is another one.
        """
        if name not in self._held:
            self._held = self._collected(self._next(name))
        return self._held[name]

    def _next(self, first: str) -> list[str]:
        """The name that is asked for, and those behind it as far as they fit."""
        names = list(self._layers)
        chosen: list[str] = []
        n_bytes = 0
        for name in names[names.index(first) :] if first in self._layers else ():
            n_bytes += 8 * self._layers[name].in_features ** 2
            if chosen and n_bytes > self._budget:
                break
            chosen.append(name)
        if not chosen:
            raise KeyError(first)
        return chosen

    def _collected(self, names: Sequence[str]) -> dict[str, NDArray[np.float64]]:
        sums = {name: np.zeros((self._layers[name].in_features,) * 2) for name in names}
        rows = dict.fromkeys(names, 0)

        def add(name: str, read: Tensor) -> None:
            flat = read.reshape(-1, read.shape[-1])
            sums[name] += (flat.T @ flat).numpy()
            rows[name] += len(flat)

        with ExitStack() as stack, torch.inference_mode():
            for name in names:
                stack.enter_context(_heard(self._layers[name], name, add))
            for embeds, places in batches(self._prompts):
                self._decoder(inputs_embeds=embeds, position_ids=places, use_cache=False)
        return {name: total / max(1, rows[name]) for name, total in sums.items()}


def _layer(decoder: nn.Module, name: str) -> nn.Linear:
    """The layer that multiplies by a weight; the head's may be the table of embeddings."""
    path = "lm_head" if "embed_tokens" in name else name.removesuffix(".weight")
    layer = decoder.get_submodule(path)
    assert isinstance(layer, nn.Linear)
    return layer


@contextmanager
def _heard(layer: nn.Linear, name: str, add: Any) -> Iterator[None]:
    handle = layer.register_forward_pre_hook(lambda module, given: add(name, given[0]))
    try:
        yield
    finally:
        handle.remove()


def batches(prompts: Sequence[Stretch]) -> Iterator[tuple[Tensor, Tensor | None]]:
    """Embeds and positions of prompts of one length, as many as make BATCH_ROWS positions."""
    for length in sorted({len(prompt) for prompt in prompts}):
        alike = [prompt for prompt in prompts if len(prompt) == length]
        many = max(1, BATCH_ROWS // length)
        for at in range(0, len(alike), many):
            chosen = alike[at : at + many]
            yield torch.from_numpy(np.stack([one.embeds for one in chosen])), position_ids(chosen)


def position_ids(stretches: Sequence[Stretch]) -> Tensor | None:
    """(axes, stretches, tokens) of stretches of one length; None where the decoder counts."""
    places = [one.positions for one in stretches if one.positions is not None]
    return torch.from_numpy(np.stack(places, axis=1)) if places else None
