"""Which parameter of a PyTorch module each quantized weight of its graph came from, by value.

The exporter folds transposes and splits into new constants with new names; their numbers stay.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from onnx import ModelProto, numpy_helper
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
    graph: ModelProto, names: Iterable[str], module: nn.Module
) -> tuple[TracedWeight, ...]:
    """Where each of these constants came from.

    Args:
        graph: float32, as exported from `module`.
        names: of the constants.
        module: unchanged since.

    Raises:
        EngineError: a constant is no parameter's rows.
    """
    tensors = {tensor.name: tensor for tensor in graph.graph.initializer}
    return traced_constants(lambda name: numpy_helper.to_array(tensors[name]), names, module)


def traced_constants(
    constant_of: Callable[[str], Float32], names: Iterable[str], module: nn.Module
) -> tuple[TracedWeight, ...]:
    """As `traced_weights`, for constants that are read one at a time.

    Args:
        constant_of: the numbers of a constant, by its name.
        names: of the constants.
        module: unchanged since.

    Raises:
        EngineError: a constant is no parameter's rows.
    """
    parameters = {
        name: parameter.detach().numpy()
        for name, parameter in module.named_parameters()
        if parameter.ndim == 2
    }
    found = []
    for name in names:
        constant = constant_of(name)
        place = next(_places(constant, parameters), None)
        if place is None:
            raise EngineError(
                f"the constant {name} {list(constant.shape)} of the graph is not in the weights of "
                f"{type(module).__name__}; it cannot be proven"
            )
        found.append(TracedWeight(name, *place))
    return tuple(found)


def _places(
    constant: Float32, parameters: Mapping[str, Float32]
) -> Iterator[tuple[str, tuple[int, int]]]:
    for name, parameter in parameters.items():
        for rows in (constant.T, constant):
            count = len(rows)
            if rows.shape[1] != parameter.shape[1] or count > len(parameter):
                continue
            for first in range(0, len(parameter) - count + 1, count):
                if np.array_equal(parameter[first : first + count], rows):
                    yield name, (first, first + count)
