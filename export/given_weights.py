"""Which parameter of a module each weight stands for that another tool quantized, by likeness."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from ..calibration.parity import Check, cosines, noise_check
from ..quant.numerics import snr_db
from ..quant.schemes import given_scheme
from ..runtime.errors import GraphRefused
from ..runtime.values import Float32
from .qdq_graph import QdqWeight

LIKE_DB = 6.0
"""Signal to noise from which a weight is one of the module's: another matrix of its kind has less
than 0, and a scheme that leaves less than twice this fails its floor."""
LIKENESS = 0.99
"""What another tool may lose of vision in all: int8 of our own leaves .9999, and 4 bits rounded
per row .973, which ruins it."""
_SAMPLED_ROWS = 4


@dataclass(frozen=True, slots=True, eq=False)
class GivenWeight:
    """A weight as it was handed in, and where it belongs.

    Attributes:
        name: of the constant in the graph.
        parameter: of the module, or one of its buffers; empty where none is like it.
        rows: first and last + 1 of its rows (out, in) that it holds.
        values: (rows, in) float32, what its codes stand for.
        snr_db: of these to the parameter, dB.
        floor_db: what its scheme must keep, dB.
    """

    name: str
    parameter: str
    rows: tuple[int, int]
    values: Float32
    snr_db: float
    floor_db: float


def placed(weights: Sequence[QdqWeight], module: nn.Module) -> tuple[GivenWeight, ...]:
    """Where each weight belongs.

    Args:
        weights: of the graph.
        module: full precision.

    Raises:
        GraphRefused: half of the numbers or more are like nothing in the module.

    Cost: a few rows of each pair of weight and parameter, and the whole of those alike.
    """
    named = (*module.named_parameters(), *module.named_buffers())
    tensors = {
        name: tensor.detach().float().numpy().reshape(len(tensor), -1)
        for name, tensor in named
        if tensor.ndim > 1 and tensor.numel()
    }
    found = tuple(_placed(one, tensors) for one in weights)
    alien = [one for one in found if not one.parameter]
    if 2 * sum(one.values.size for one in alien) >= sum(one.values.size for one in found):
        raise GraphRefused(
            f"got {alien[0].name} and {len(alien) - 1} more weights that are like none of this "
            f"checkpoint's, expected those of {type(module).__name__}, quantized",
            hint="start from vision.onnx of a bundle of this checkpoint, made with --vision fp32; "
            "methods that scale what a layer reads (awq_lite, awq_full) are not taken",
        )
    return found


def put_in(weights: Sequence[GivenWeight], reference: nn.Module) -> None:
    """Give a module the weights as they were handed in; those like nothing are left out."""
    left = {**dict(reference.named_parameters()), **dict(reference.named_buffers())}
    with torch.no_grad():
        for one in weights:
            if one.parameter:
                whole = left[one.parameter]
                rows = whole.view(len(whole), -1)[slice(*one.rows)]
                rows.copy_(torch.from_numpy(one.values))


def given_checks(part: str, weights: Sequence[GivenWeight]) -> list[Check]:
    """The noise of each weight against its floor.

    Of one that is like no parameter nothing is known; what it changes shows in the engine's gate,
    where full precision stands in for it.
    """
    return [
        noise_check(part, f"{one.parameter}[{one.rows[0]}:{one.rows[1]}]", one.snr_db, one.floor_db)
        if one.parameter
        else Check("snr_db", part, f"{one.name}, like no parameter", one.snr_db, LIKE_DB, True,
                   "dB", is_advisory=True)
        for one in weights
    ]  # fmt: skip


def likeness_check(part: str, reference: Float32, found: Float32) -> Check:
    """What comes out against full precision.

    Args:
        part: vision.
        reference: (frames, tokens, dim).
        found: the same shape.
    """
    mean = cosines(reference, found).mean()
    return Check("agreement", part, "mean cosine to full precision", mean, LIKENESS, True)


def _placed(weight: QdqWeight, tensors: dict[str, Float32]) -> GivenWeight:
    floor_db = given_scheme(weight.weights, weight.block, "int8").floor_db or 0.0
    flat = weight.values.reshape(len(weight.values), -1) if weight.values.ndim else weight.values
    best = GivenWeight(weight.name, "", (0, 0), flat, 0.0, floor_db)
    if weight.values.ndim < 2:
        return best
    for name, tensor in tensors.items():
        for first, rows in _alike(weight.values, tensor):
            value = snr_db(tensor[first : first + len(rows)], rows)
            if value >= max(LIKE_DB, best.snr_db) and (value > best.snr_db or not best.parameter):
                place = (first, first + len(rows))
                best = GivenWeight(weight.name, name, place, rows, value, floor_db)
    return best


def _alike(values: Float32, tensor: Float32) -> Iterator[tuple[int, Float32]]:
    """First row, and the values as rows (out, in), wherever a few of these are alike."""
    flat = values.reshape(len(values), -1)
    for rows in (flat.T, flat) if values.ndim == 2 else (flat,):
        count = len(rows)
        if rows.shape[1] != tensor.shape[1] or count > len(tensor):
            continue
        sampled = np.unique(np.linspace(0, count - 1, _SAMPLED_ROWS).astype(np.int64))
        few = np.ascontiguousarray(rows[sampled])
        for first in range(0, len(tensor) - count + 1, count):
            if snr_db(tensor[first + sampled], few) >= LIKE_DB / 2:
                yield first, np.ascontiguousarray(rows)
