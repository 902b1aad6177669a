"""A compiled TensorRT engine behind the `Engine` contract: its phases, one stream, its buffers.

All memory on the GPU is taken when the engine is opened or a call is bound. One run at a time:
a context of TensorRT is no place for two threads.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..engine import Arrays, check_arrays, check_bound
from ..errors import EngineFailed, EngineUnusable, InputMismatch
from ..manifest import TensorSpec, Variant
from .cuda_device import Device
from .trt_call import TrtCall
from .trt_graphs import Graphs
from .trt_module import faults_told, refused

Shape = tuple[int, ...]
Shapes = Mapping[str, Shape]


@dataclass(frozen=True, slots=True, eq=False)
class CompiledPhase:
    """One engine of TensorRT, with the context that runs it.

    Attributes:
        name: of its graph.
        engine, context: TensorRT's; the context must not outlive the engine.
        inputs, outputs: what it takes and gives.
        ranges: input → its least, usual and greatest shape.
        aliases: output → the input in whose memory it must lie.
    """

    name: str
    engine: Any
    context: Any
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    ranges: Mapping[str, tuple[Shape, ...]]
    aliases: Mapping[str, str]

    @property
    def is_fixed(self) -> bool:
        """Every input has one shape alone, so that a recorded graph serves every run."""
        return all(low == high for low, _, high in self.ranges.values())

    def misfits(self, shapes: Shapes) -> list[str]:
        """Inputs whose shapes it was not compiled for."""
        return [
            name
            for name, (low, _, high) in self.ranges.items()
            if len(low) != len(shapes[name])
            or any(not a <= b <= c for a, b, c in zip(low, shapes[name], high, strict=True))
        ]

    def output_shapes(self, shapes: Shapes) -> dict[str, Shape]:
        """The shapes of its outputs for these of its inputs, which stay set."""
        for name, shape in shapes.items():
            if not self.context.set_input_shape(name, shape):
                raise EngineFailed(f"{self.name} refused {name} of {list(shape)}")
        self.context.infer_shapes()
        return {one.name: tuple(self.context.get_tensor_shape(one.name)) for one in self.outputs}


class Buffers:
    """Memory on the device, by name. State: what was taken; given back also when forgotten."""

    def __init__(self, device: Device, sizes: Mapping[str, int]) -> None:
        self.places: dict[str, int] = {}
        self.sizes = dict(sizes)
        self.close = weakref.finalize(self, _give_back, device, self.places)
        self.close.atexit = False  # the driver takes everything back by itself
        for name, n_bytes in sizes.items():
            self.places[name] = device.allocate(n_bytes)


def _give_back(device: Device, places: dict[str, int]) -> None:
    while places:
        try:
            device.free(places.popitem()[1])
        except EngineFailed:  # the device is gone, and its memory with it
            continue


class TrtEngine:
    """See `Engine`.

    Args:
        provider: `tensorrt` or `tensorrt-rtx`.
        trt: the module.
        phases: in the order in which a run tries them; all take and give the same.
        variant: what the manifest says of it.
        device: where it runs.
        is_first: its stream goes before others: a frame must not wait for a word.

    Raises:
        EngineFailed: the device gives no stream.
    """

    def __init__(
        self,
        provider: str,
        trt: Any,
        phases: Sequence[CompiledPhase],
        variant: Variant,
        device: Device,
        is_first: bool,
    ) -> None:
        self.provider, self.device, self.trt = provider, device, trt
        self.inputs, self.outputs = variant.inputs, variant.outputs
        self.graph = phases[0].name
        self.stream = device.new_stream(is_first=is_first)
        self.lock = threading.RLock()
        self._phases, self._is_open = tuple(phases), True
        self.aliases = {
            name: source
            for name, source in phases[0].aliases.items()
            if all(one.aliases.get(name) == source for one in phases)
        }
        """Output → the input in whose memory it lies in every phase."""
        self._own: Buffers | None = None
        self._opened: weakref.WeakSet[Buffers] = weakref.WeakSet()
        self._all_graphs: weakref.WeakSet[Graphs] = weakref.WeakSet()

    def run(self, arrays: Arrays) -> dict[str, NDArray[Any]]:
        """All outputs for these inputs, by name; see `Engine.run`. Copies both ways."""
        check_arrays(self.inputs, arrays)
        shapes = {name: array.shape for name, array in arrays.items()}
        with self.lock, self.faults():
            phase = self.phase_of(shapes)
            if self._own is None:
                self._own, self._graphs = self.new_buffers(self.most_bytes()), self.new_graphs()
            outputs = self._empty(phase, shapes)
            places = dict(self._own.places)
            places |= {name: places[source] for name, source in self.aliases.items()}
            for name, array in arrays.items():
                self.device.write(places[name], np.ascontiguousarray(array), self.stream)
            self.enqueue(phase, shapes, places, self._graphs)
            for name, array in outputs.items():
                self.device.read(array, places[name], self.stream)
            self.device.wait(self.stream)
        return outputs

    def bind(self, inputs: Arrays, outputs: Arrays) -> TrtCall:
        """A call on these arrays; see `Engine.bind`.

        An array that is an input and an output stays on the device between runs: the call's
        `mirror` brings it back. Others are copied, which takes less than a run.
        """
        check_bound("input", self.inputs, inputs)
        check_bound("output", self.outputs, outputs)
        with self.lock, self.faults():
            if self._own is not None:  # a decoder's are as large as its cache, and ran golden calls
                self._graphs.close()
                self._own.close()
                self._own = None
            return TrtCall(self, inputs, outputs)

    def phase_of(self, shapes: Shapes) -> CompiledPhase:
        """The first phase that was compiled for these shapes.

        Raises:
            InputMismatch: there is none.
            EngineFailed: it was closed.
        """
        if not self._is_open:
            raise EngineFailed(f"{self.graph} was closed and cannot run")
        for phase in self._phases:
            if not phase.misfits(shapes):
                return phase
        nearest = min((phase.misfits(shapes) for phase in self._phases), key=len)
        told = ", ".join(f"{name} {list(shapes[name])}" for name in nearest)
        raise InputMismatch(
            f"{self.graph}: got {told}, expected sizes that it was compiled for",
            hint="engine.chunk_tokens may be larger than at export",
        )

    def enqueue(
        self, phase: CompiledPhase, shapes: Shapes, places: Mapping[str, int], graphs: Graphs
    ) -> None:
        """Put one run into the stream, recorded where it was recorded before."""
        if graphs.launch(phase):
            return
        phase.output_shapes(shapes)
        for name, place in places.items():
            if not phase.context.set_tensor_address(name, place):
                raise refused(self.trt, f"{phase.name} broke off", EngineFailed)
        if not graphs.recorded(phase, lambda: bool(phase.context.execute_async_v3(self.stream))):
            raise refused(self.trt, f"{phase.name} broke off", EngineFailed)

    def most_bytes(self) -> dict[str, int]:
        """Bytes of each tensor where its phase runs with its greatest shapes."""
        sizes: dict[str, int] = {}
        for phase in self._phases:
            shapes = {name: high for name, (_, _, high) in phase.ranges.items()}
            shapes.update(phase.output_shapes(shapes))
            for spec in (*phase.inputs, *phase.outputs):
                if min(shapes[spec.name], default=0) < 0:
                    raise EngineUnusable(f"{phase.name}: the size of {spec.name} is not known")
                n_bytes = int(np.prod(shapes[spec.name])) * np.dtype(spec.dtype).itemsize
                sizes[spec.name] = max(sizes.get(spec.name, 0), n_bytes)
        return sizes

    def new_buffers(self, sizes: Mapping[str, int]) -> Buffers:
        """Memory that is given back with the engine at the latest."""
        buffers = Buffers(self.device, sizes)
        self._opened.add(buffers)
        return buffers

    def new_graphs(self) -> Graphs:
        """Room for recorded runs on one set of buffers."""
        graphs = Graphs(self.device, self.stream)
        self._all_graphs.add(graphs)
        return graphs

    @property
    def graph_refusals(self) -> tuple[str, ...]:
        """Why runs could not be recorded; they are enqueued one by one then."""
        return tuple(one.refusal for one in self._all_graphs if one.refusal)

    def faults(self) -> Any:
        """A block in which TensorRT's faults become ours."""
        return faults_told(
            self.trt, f"{self.graph} broke off", EngineFailed, (RuntimeError, MemoryError)
        )

    def _empty(self, phase: CompiledPhase, shapes: Shapes) -> dict[str, NDArray[Any]]:
        known = phase.output_shapes(shapes)
        return {spec.name: np.empty(known[spec.name], spec.dtype) for spec in phase.outputs}

    def __enter__(self) -> TrtEngine:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with self.lock:
            if not self._is_open:
                return
            self._is_open = False
            for graphs in list(self._all_graphs):
                graphs.close()
            for buffers in list(self._opened):
                buffers.close()
            self._phases = ()
            try:
                self.device.close_stream(self.stream)
            except EngineFailed:  # the device is gone
                return
