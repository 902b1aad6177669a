"""A decoder that is read layer by layer: many sequences go through each layer, then it is let go.

The layers are those of `transformers`; only their weights come from elsewhere. One pass over a
model of any size needs the memory of one layer and of the sequences.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.func import functional_call

from ..calibration.decoder_calls import Stretch
from ..models.decoder_shape import DecoderShape
from ..models.decoder_weights import DecoderWeights, head_name
from ..quant.numerics import PORTION
from ..runtime.values import Float32

Tensors = Mapping[str, Tensor]


@dataclass(slots=True)
class _Batch:
    """Sequences of one length on their way through the layers.

    Attributes:
        places: which of the caller's sequences they are.
        states: (sequences, length, hidden).
        deep: what is added after each of the first layers, of the same shape.
        around: what each layer is told beside the states.
    """

    places: tuple[int, ...]
    states: Tensor
    deep: tuple[Tensor, ...]
    around: Mapping[str, Any]


class Sequences:
    """Sequences on their way through a decoder.

    Args:
        decoder: a causal language model of `transformers`; its weights are not read.
        shape: of it.
        stretches: what is read; rows may be as wide as a token's alone.
    """

    def __init__(
        self, decoder: nn.Module, shape: DecoderShape, stretches: Sequence[Stretch]
    ) -> None:
        # Every decoder of `transformers` has these parts; PyTorch types them as anything.
        model: Any = decoder.model
        self._layers, self._norm, self._count = model.layers, model.norm, len(stretches)
        rotary = type(model.rotary_emb)(config=decoder.config)
        self._batches: list[_Batch] = []
        for length in sorted({len(one) for one in stretches}):
            places = tuple(at for at, one in enumerate(stretches) if len(one) == length)
            chosen = [stretches[at] for at in places]
            rows = np.stack([_widened(one.embeds, shape.width) for one in chosen])
            states, *deep = torch.split(torch.from_numpy(rows), shape.hidden, -1)
            ids = np.stack([_position_ids(one, shape.axes) for one in chosen], axis=1)
            around = _around(rotary, states, torch.from_numpy(ids), shape)
            self._batches.append(_Batch(places, states, tuple(deep), around))

    @torch.inference_mode()
    def through_layer(self, layer: int, weights: Tensors) -> None:
        """Bring all of them through one layer.

        Args:
            layer: its number.
            weights: name inside the layer → tensor, all of them.
        """
        module = self._layers[layer]
        for batch in self._batches:
            out = functional_call(module, dict(weights), (batch.states,), dict(batch.around))
            batch.states = out if isinstance(out, Tensor) else out[0]
            if layer < len(batch.deep):
                batch.states = batch.states + batch.deep[layer]

    @torch.inference_mode()
    def normed(self, gain: Tensor, last: Sequence[int]) -> tuple[Tensor, ...]:
        """The states of the last positions of each sequence, after the last norm.

        Args:
            gain: of the norm.
            last: how many positions of each sequence.

        Returns:
            (positions, hidden) each.
        """
        found: dict[int, Tensor] = {}
        for batch in self._batches:
            states = functional_call(self._norm, {"weight": gain}, (batch.states,))
            for place, one in zip(batch.places, states, strict=True):
                found[place] = one[-last[place] :].clone()
        return tuple(found[place] for place in range(self._count))


def layer_tensors(weights: DecoderWeights, layer: int) -> dict[str, Tensor]:
    """Name inside the layer → tensor of all its parameters, float32."""
    place = f"model.layers.{layer}."
    return {
        name.removeprefix(place): torch.from_numpy(weights.tensor(name))
        for name in weights.shape.parameters()
        if name.startswith(place)
    }


def head_portions(weights: DecoderWeights) -> Iterator[tuple[slice, Tensor]]:
    """The head some rows at a time, (rows, hidden) float32."""
    name, shape = head_name(weights.shape), weights.shape
    step = max(1, 4 * PORTION // shape.hidden)
    for start in range(0, shape.vocabulary, step):
        rows = slice(start, min(start + step, shape.vocabulary))
        yield rows, torch.from_numpy(weights.tensor(name, rows))


class Judged:
    """What a decoder holds of the tokens that follow, gathered while its head goes by.

    Args:
        states: (positions, hidden) after the last norm.
        targets: (positions,) int64, the token that follows each.
    """

    def __init__(self, states: Tensor, targets: Tensor) -> None:
        self._states, self._targets = states, targets
        self._sum = torch.full((len(states),), -torch.inf)
        self._target = torch.zeros(len(states))
        self._best = torch.full((len(states),), -torch.inf)
        self._most_likely = torch.zeros(len(states), dtype=torch.long)

    @torch.inference_mode()
    def see(self, rows: slice, head: Tensor) -> None:
        """Some rows of the head."""
        logits = self._states @ head.T
        self._sum = torch.logaddexp(self._sum, logits.logsumexp(-1))
        best, which = logits.max(-1)
        is_better = best > self._best
        self._most_likely = torch.where(is_better, which + rows.start, self._most_likely)
        self._best = torch.where(is_better, best, self._best)
        is_here = (self._targets >= rows.start) & (self._targets < rows.stop)
        inside = (self._targets - rows.start).clamp(0, rows.stop - rows.start - 1)
        here = logits.gather(1, inside[:, None])[:, 0]
        self._target = torch.where(is_here, here, self._target)

    @property
    def log_probabilities(self) -> list[float]:
        """Of each target, when all of the head was seen."""
        found: list[float] = (self._target - self._sum).tolist()
        return found

    @property
    def most_likely(self) -> list[int]:
        """Token at each position, when all of the head was seen."""
        found: list[int] = self._most_likely.tolist()
        return found


def _widened(embeds: Float32, width: int) -> Float32:
    """Zeros behind rows that are only as wide as a token's."""
    return np.pad(embeds, ((0, 0), (0, width - embeds.shape[1])))


def _position_ids(stretch: Stretch, axes: int) -> NDArray[np.int64]:
    """[axes, length]; they go on by one where the stretch has none of its own."""
    if stretch.positions is not None:
        return stretch.positions
    return np.tile(np.arange(len(stretch)), (axes, 1))


def _around(rotary: nn.Module, states: Tensor, ids: Tensor, shape: DecoderShape) -> dict[str, Any]:
    """Rotation and mask, as a decoder's own forward makes them."""
    places = torch.arange(states.shape[1])
    distance = places[:, None] - places[None]
    is_seen = distance >= 0
    if shape.window is not None:
        is_seen &= distance < shape.window
    mask = torch.zeros(distance.shape).masked_fill(~is_seen, -torch.inf)
    return {
        "position_embeddings": rotary(states, ids if shape.axes > 1 else ids[0]),
        "attention_mask": mask[None, None],
        "past_key_values": None,
    }
