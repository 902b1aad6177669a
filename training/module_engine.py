"""A module of PyTorch in place of a graph: training sees through the device's own stages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ..runtime.engine import Arrays, BoundCall, check_arrays
from ..runtime.errors import EngineUnusable
from ..runtime.manifest_parts import TensorSpec


class ModuleEngine:
    """See `runtime.engine.Engine`; runs where the module's weights are.

    Args:
        module: in eval mode; called with the inputs in their order, gives one or several outputs.
        examples: name → zeros of the shapes that it takes.
        outputs: names of what it gives, in its order.

    Cost: the module once, to see the shapes of what it gives.
    """

    provider = "torch"

    def __init__(
        self, module: nn.Module, examples: Mapping[str, Tensor], outputs: Sequence[str]
    ) -> None:
        self._module, self._names = module, tuple(outputs)
        weight = next(module.parameters(), None)
        self._device = "cpu" if weight is None else weight.device
        self.inputs = tuple(_spec(name, one.numpy()) for name, one in examples.items())
        given = self._given({name: one.numpy() for name, one in examples.items()})
        self.outputs = tuple(_spec(name, one) for name, one in given.items())

    def run(self, arrays: Arrays) -> dict[str, NDArray[Any]]:
        """All outputs for these inputs, by name.

        Raises:
            InputMismatch: a name, type or shape is not the declared one.
        """
        check_arrays(self.inputs, arrays)
        return self._given(arrays)

    def bind(self, inputs: Arrays, outputs: Arrays) -> BoundCall:
        """A module cannot be bound.

        Raises:
            EngineUnusable: always.
        """
        raise EngineUnusable("a module of PyTorch does not run on bound arrays")

    def _given(self, arrays: Arrays) -> dict[str, NDArray[Any]]:
        # Copies: what the runtime hands on is read-only, which PyTorch warns of.
        given = [torch.tensor(arrays[spec.name], device=self._device) for spec in self.inputs]
        with torch.inference_mode():
            told = self._module(*given)
        told = (told,) if isinstance(told, Tensor) else told
        pairs = zip(self._names, told, strict=True)
        return {name: one.float().cpu().numpy() for name, one in pairs}

    def __enter__(self) -> ModuleEngine:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Nothing is held."""


def _spec(name: str, array: NDArray[Any]) -> TensorSpec:
    return TensorSpec(name, array.dtype.name, array.shape)
