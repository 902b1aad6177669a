"""Arrays that stay in the memory of an engine, and calls on them: nothing crosses unless asked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, TypeAlias, runtime_checkable

from numpy.typing import NDArray

from .engine import Engine
from .errors import EngineUnusable


class HeldArray(Protocol):
    """An array in an engine's memory; its address and shape never change.

    Attributes:
        shape: sizes.
        dtype: numpy's name of the element type.
        n_bytes: size.
    """

    shape: tuple[int, ...]
    dtype: str
    n_bytes: int

    def write(self, array: NDArray[Any]) -> None:
        """Copy numbers of this shape and type into it."""

    def read(self) -> NDArray[Any]:
        """A copy in the computer's memory."""


Held: TypeAlias = Mapping[str, HeldArray]


class HeldCall(Protocol):
    """One call of an engine on arrays that it holds."""

    def run(self) -> None:
        """Run the graph; outputs are written into their arrays.

        Raises:
            EngineFailed, DeviceMemoryExhausted: as `Engine.run` says.
        """


@runtime_checkable
class HoldingEngine(Engine, Protocol):
    """An engine that can hold arrays where it runs."""

    def hold(self, array: NDArray[Any]) -> HeldArray:
        """A copy of an array in this engine's memory; other engines of its provider may use it.

        Raises:
            DeviceMemoryExhausted: there is no room.
        """
        ...

    def bind_held(
        self,
        inputs: Held,
        outputs: Held,
        *,
        host: Mapping[str, NDArray[Any]] | None = None,
        replays: bool = False,
    ) -> HeldCall:
        """A call on these arrays.

        An array may be an input and an output, where the graph reads it before it writes.

        Args:
            inputs: of this engine's provider; with `host` all inputs.
            outputs: all outputs.
            host: inputs that the graph reads in the computer's memory; they must not change.
            replays: this call is made again and again: where the provider can, its work is
                recorded the first time and then replayed as a whole (a CUDA graph).

        Raises:
            InputMismatch: a name, type or shape is not the declared one.
        """
        ...


def holding(engine: Engine) -> HoldingEngine:
    """The engine, as one that holds arrays.

    Raises:
        EngineUnusable: it cannot.
    """
    if not isinstance(engine, HoldingEngine):
        raise EngineUnusable(
            f"got an engine of {engine.provider} that holds no arrays, expected one that does",
            hint="run the language model with the provider cpu",
        )
    return engine
