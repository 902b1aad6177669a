"""A call of a TensorRT engine whose buffers stay bound, and the cache that lives on the device."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from ..engine import NOTHING, Arrays, check_one_bound
from ..errors import EngineFailed, InputMismatch

if TYPE_CHECKING:
    from .trt_engine import TrtEngine


class TrtCall:
    """See `BoundCall`.

    An array that is bound as an input and as an output is *resident*: it is copied to the device
    once, and stays there. What the host has of it is then as old as the last `pull`.

    Args:
        engine: that runs it.
        inputs, outputs: checked already.
    """

    def __init__(self, engine: TrtEngine, inputs: Arrays, outputs: Arrays) -> None:
        self._engine, self._turn = engine, 0
        self._specs = {spec.name: spec for spec in engine.inputs}
        self._inputs, self._outputs = dict(inputs), dict(outputs)
        by_place = {_place(array): name for name, array in inputs.items() if array.nbytes}
        shared = {name: by_place.get(_place(array)) for name, array in outputs.items()}
        self._came_from = {name: source for name, source in shared.items() if source is not None}
        self._resident = {name: self._inputs[name] for name in self._came_from.values()}
        sizes = engine.most_bytes()
        for name, array in {**inputs, **outputs}.items():
            sizes[name] = max(sizes[name], array.nbytes)
        for name in engine.aliases:
            del sizes[name]
        self._buffers = engine.new_buffers(sizes)
        self._turns = self._both_turns(engine.aliases)
        self._graphs = tuple(engine.new_graphs() for _ in self._turns)
        self.push()

    def _both_turns(self, aliases: Mapping[str, str]) -> tuple[dict[str, int], ...]:
        """Where each tensor lies: at every run, or by turns.

        An engine that does not write its cache in place must not read and write the same memory:
        what one run wrote is what the next one reads.
        """
        one = {**self._buffers.places}
        one |= {name: one[source] for name, source in aliases.items()}
        pairs = [pair for pair in self._came_from.items() if pair[0] not in aliases]
        other = dict(one)
        for output, source in pairs:
            other[output], other[source] = one[source], one[output]
        return (one, other) if pairs else (one,)

    @property
    def _places(self) -> dict[str, int]:
        return self._turns[self._turn]

    @property
    def mirror(self) -> TrtCall | None:
        """Brings the resident arrays back; None where there are none. See `CacheMirror`."""
        return self if self._resident else None

    def run(self, inputs: Arrays = NOTHING) -> None:
        """Run on the bound arrays; see `BoundCall.run`."""
        for name, array in inputs.items():
            self._replace(name, array)
        engine, shapes = self._engine, self._shapes()
        with engine.lock, engine.faults():
            phase = engine.phase_of(shapes)
            for name, array in self._inputs.items():
                if name not in self._resident:
                    engine.device.write(self._places[name], array, engine.stream)
            engine.enqueue(phase, shapes, self._places, self._graphs[self._turn])
            for name, array in self._outputs.items():
                if name not in self._came_from:
                    engine.device.read(array, self._places[name], engine.stream)
            engine.device.wait(engine.stream)
            self._turn = (self._turn + 1) % len(self._turns)

    def pull(self) -> None:
        """The host's arrays hold what the device has; see `CacheMirror.pull`."""
        engine = self._engine
        with engine.lock, engine.faults():
            for name, array in self._held().items():
                engine.device.read(array, self._places[name], engine.stream)
            engine.device.wait(engine.stream)

    def push(self) -> None:
        """The device has what the host's arrays hold; see `CacheMirror.push`."""
        engine = self._engine
        with engine.lock, engine.faults():
            for name, array in self._held().items():
                engine.device.write(self._places[name], array, engine.stream)
            engine.device.wait(engine.stream)

    def clear(self, first: int, end: int) -> None:
        """Zero slots [first, end) on the device; see `CacheMirror.clear`."""
        engine = self._engine
        with engine.lock, engine.faults():
            for name, array in self._held().items():
                *rows, slots, width = array.shape
                size = width * array.itemsize
                place = self._places[name] + first * size
                engine.device.clear(
                    place, slots * size, (end - first) * size, prod(rows), engine.stream
                )
            engine.device.wait(engine.stream)

    def _held(self) -> dict[str, NDArray[Any]]:
        if not self._buffers.places:
            raise EngineFailed(f"{self._engine.graph} was closed, and its cache with it")
        return self._resident

    def _replace(self, name: str, array: NDArray[Any]) -> None:
        if name not in self._specs:
            raise InputMismatch(f"got the input {name}, expected {', '.join(self._specs)}")
        check_one_bound("input", self._specs[name], array)
        if array.nbytes > self._buffers.sizes[name] or name in self._resident:
            raise InputMismatch(
                f"input {name}: got another array of {array.nbytes} bytes, expected one of "
                f"{self._buffers.sizes[name]} or less, and the cache where it was bound"
            )
        self._inputs[name] = array

    def _shapes(self) -> dict[str, tuple[int, ...]]:
        return {name: array.shape for name, array in self._inputs.items()}


def _place(array: NDArray[Any]) -> tuple[int, int]:
    return array.__array_interface__["data"][0], array.nbytes
