"""Which parameter of a PyTorch module each quantized weight of its graph came from, by value.

The exporter folds transposes and splits into new constants with new names; their numbers stay.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from onnx import ModelProto, TensorProto, numpy_helper
from torch import nn

from ..runtime.errors import EngineError
from ..runtime.values import Float32


@dataclass(frozen=True, slots=True)
class TracedWeight:
    """Rows of one parameter that the graph multiplies by.

    Attributes:
        graph_name: of the constant in the float32 graph.
        parameter: of the module.
        rows: first and last + 1 of its rows (out, in) that the constant holds.
    """

    graph_name: str
    parameter: str
    rows: tuple[int, int]

    @property
    def name(self) -> str:
        """How a person finds it."""
        return f"{self.parameter}[{self.rows[0]}:{self.rows[1]}]"


def traced_weights(
    graph: ModelProto, names: Iterable[str], module: nn.Module, folder: Path | None = None
) -> tuple[TracedWeight, ...]:
    """Where each of these constants came from.

    Args:
        graph: float32, as exported from `module`.
        names: of the constants.
        module: unchanged since.
        folder: where weights lie that are beside the graph; None where they are inside.

    Raises:
        EngineError: a constant is no parameter's rows.
    """
    tensors = {tensor.name: tensor for tensor in graph.graph.initializer}
    parameters = {
        name: parameter.detach().numpy()
        for name, parameter in module.named_parameters()
        if parameter.ndim == 2
    }
    found = []
    for name in names:
        constant = _numbers(tensors[name], folder)
        place = next(_places(constant, parameters), None)
        if place is None:
            raise EngineError(
                f"the constant {name} {list(constant.shape)} of the graph is not in the weights of "
                f"{type(module).__name__}; it cannot be proven"
            )
        found.append(TracedWeight(name, *place))
    return tuple(found)


def _numbers(tensor: TensorProto, folder: Path | None) -> Float32:
    # A copy is filled from the file, so that the graph stays without its weights.
    filled = TensorProto()
    filled.CopyFrom(tensor)
    return numpy_helper.to_array(filled, str(folder or ""))


def _places(
    constant: Float32, parameters: Mapping[str, Float32]
) -> Iterator[tuple[str, tuple[int, int]]]:
    for name, parameter in parameters.items():
        for rows in (constant.T, constant):
            count = len(rows)
            if rows.shape[1] != parameter.shape[1] or count > len(parameter):
                continue
            for first in range(0, len(parameter) - count + 1, count):
                there = parameter[first : first + count]
                if np.array_equal(there[0], rows[0]) and np.array_equal(there, rows):
                    yield name, (first, first + count)
