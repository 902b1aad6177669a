"""ONNX Runtime as a backend: the provider that was asked for runs the graph, or nothing does."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..engine import NOTHING, Arrays, check_arrays, check_bound, check_one_bound
from ..errors import BackendMissing, EngineFailed, EngineUnusable, InputMismatch
from ..held import Held
from ..manifest import TensorSpec, Variant
from .declared import check_declared
from .ort_held import OrtHeldArray, OrtHeldCall, check_held, ours
from .ort_session import (
    FATAL,
    INSTALL_HINT,
    NOT_RECORDED,
    PROVIDERS,
    Opened,
    faults,
    mapped,
    onnxruntime,
    open_session,
    run_options,
)

# ONNX Runtime names element types as `tensor(float)`; numpy has other names for some.
_DTYPES = {"float": "float32", "double": "float64"}


class OrtBackend:
    """Opens graphs with ONNX Runtime; see `Backend`.

    Args:
        provider: a key of PROVIDERS.
        threads: of each engine; 1 or more.

    Raises:
        BackendMissing: ONNX Runtime is not installed, or not built with this provider.
    """

    def __init__(self, provider: str = "cpu", threads: int = 1) -> None:
        if threads < 1:
            raise ValueError(f"an engine needs at least one thread, got {threads}")
        self.provider = provider
        self._threads = threads
        listed = onnxruntime().get_available_providers()
        if PROVIDERS[provider] not in listed:
            raise BackendMissing(
                f"got the provider {provider}, but the installed ONNX Runtime has only "
                f"{', '.join(name.removesuffix('ExecutionProvider').lower() for name in listed)}",
                hint=INSTALL_HINT,
            )

    def open(self, graph: Path, variant: Variant | None = None) -> OrtEngine:
        """An engine for a graph; see `Backend.open`.

        Args:
            graph: its file; external data lies beside it.
            variant: what the manifest says of it; None takes the graph's own word (at export).
        """
        opened = open_session(graph, self.provider, self._options())
        engine = OrtEngine(graph, self.provider, opened)
        if variant is not None:
            check_declared(graph.name, "inputs", engine.inputs, variant.inputs)
            check_declared(graph.name, "outputs", engine.outputs, variant.outputs)
        return engine

    def _options(self) -> Any:
        options = onnxruntime().SessionOptions()
        options.intra_op_num_threads = self._threads
        options.inter_op_num_threads = 1
        options.log_severity_level = FATAL
        # Threads that wait by spinning cost three quarters of the speed on a shared machine, and
        # the battery on any.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        return options


class OrtEngine:
    """A session of ONNX Runtime; see `Engine` and `HoldingEngine`.

    State: the arrays of a graph whose sizes are all fixed, where the provider has memory of its
    own; how many calls are recorded.

    Attributes:
        records: calls that come again can be recorded as CUDA graphs.
        why_not: why they cannot be, in one sentence; empty where nobody asked.
    """

    def __init__(self, graph: Path, provider: str, opened: Opened) -> None:
        self.provider = provider
        self.inputs = tuple(map(_spec, opened.session.get_inputs()))
        self.outputs = tuple(map(_spec, opened.session.get_outputs()))
        # What has a default: matrices of an adapter, of rank 0 where none is chosen.
        self.optional = tuple(map(_spec, opened.session.get_overridable_initializers()))
        self.records, self.why_not = opened.records, opened.why_not
        self._names = [spec.name for spec in self.outputs]
        self._graph = graph.name
        self._session: Any = opened.session
        self._device = opened.device
        self._plain = run_options(NOT_RECORDED) if opened.records else None
        self._ids = itertools.count(1)
        # A recorded session runs one call at a time, and so do the arrays of a fixed graph.
        self._lock = threading.RLock()
        self._fixed: tuple[dict[str, OrtHeldArray], dict[str, OrtHeldArray], OrtHeldCall] | None
        self._fixed = None
        self._is_fixed = provider != "cpu" and _all_fixed((*self.inputs, *self.outputs))

    def run(self, arrays: Arrays) -> dict[str, NDArray[Any]]:
        """All outputs for these inputs, by name; see `Engine.run`."""
        session = self._opened()
        check_arrays((*self.inputs, *self._chosen(arrays)), arrays)
        if self._is_fixed:
            return self._run_fixed(arrays)
        try:
            outputs = session.run(self._names, dict(arrays), self._plain)
        except faults() as error:
            raise mapped(error, f"{self._graph} broke off", EngineFailed) from error
        return {name: np.asarray(out) for name, out in zip(self._names, outputs, strict=True)}

    def _run_fixed(self, arrays: Arrays) -> dict[str, NDArray[Any]]:
        """Through arrays that the engine holds, so that the run can be replayed."""
        with self._lock:
            if self._fixed is None:
                inputs = {name: self.hold(array) for name, array in arrays.items()}
                outputs = {spec.name: self.hold(_zeros(spec)) for spec in self.outputs}
                self._fixed = inputs, outputs, self.bind_held(inputs, outputs, replays=True)
            inputs, outputs, call = self._fixed
            for name, array in arrays.items():
                inputs[name].write(array)
            call.run()
            return {name: outputs[name].read() for name in self._names}

    def hold(self, array: NDArray[Any]) -> OrtHeldArray:
        """A copy of an array where the engine runs; see `HoldingEngine.hold`."""
        return OrtHeldArray(array, self._device)

    def bind_held(
        self,
        inputs: Held,
        outputs: Held,
        *,
        host: Mapping[str, NDArray[Any]] | None = None,
        replays: bool = False,
    ) -> OrtHeldCall:
        """A call on arrays that stay where the engine runs; see `HoldingEngine.bind_held`."""
        given, results = ours(inputs), ours(outputs)
        check_held("input", self.inputs, {**given, **(host or {})})
        check_held("output", self.outputs, results)
        graph_id = next(self._ids) if replays and self.records else None
        session = self._opened()
        return OrtHeldCall(session, self._run_held, given, results, host or {}, graph_id)

    def _run_held(self, binding: Any, options: Any) -> None:
        session = self._opened()
        with self._lock:
            try:
                session.run_with_iobinding(binding, options)
            except faults() as error:
                raise mapped(error, f"{self._graph} broke off", EngineFailed) from error

    def bind(self, inputs: Arrays, outputs: Arrays) -> OrtCall:
        """A call on these arrays; see `Engine.bind`. On the CPU alone: elsewhere it would copy."""
        if self.provider != "cpu":
            raise EngineUnusable(
                f"{self._graph}: got arrays in the computer's memory, expected to run where they "
                f"are, but {self.provider} has memory of its own",
                hint="run the language model with the provider cpu",
            )
        check_bound("input", (*self.inputs, *self._chosen(inputs)), inputs)
        check_bound("output", self.outputs, outputs)
        return OrtCall(self, inputs, outputs)

    def _chosen(self, arrays: Arrays) -> tuple[TensorSpec, ...]:
        """The optional inputs: all or none, since a part of an adapter is another adapter."""
        return self.optional if any(one.name in arrays for one in self.optional) else ()

    def run_bound(self, binding: Any) -> None:
        """Run with a binding of this session; errors as in `run`."""
        session = self._opened()
        try:
            session.run_with_iobinding(binding)
        except faults() as error:
            raise mapped(error, f"{self._graph} broke off", EngineFailed) from error

    def new_binding(self) -> Any:
        """An empty binding of this session."""
        return self._opened().io_binding()

    def _opened(self) -> Any:
        if self._session is None:
            raise EngineFailed(f"{self._graph} was closed and cannot run")
        return self._session

    def __enter__(self) -> OrtEngine:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._session = self._fixed = None


class OrtCall:
    """A binding of ONNX Runtime; see `BoundCall`.

    Args:
        engine: that runs it.
        inputs, outputs: checked already.
    """

    def __init__(self, engine: OrtEngine, inputs: Arrays, outputs: Arrays) -> None:
        self._engine = engine
        self._specs = {spec.name: spec for spec in engine.inputs}
        self._binding = engine.new_binding()
        # ONNX Runtime keeps addresses alone: these hold the arrays.
        self._inputs, self._outputs = dict(inputs), dict(outputs)
        for name, array in inputs.items():
            self._binding.bind_input(name, *_place(array))
        for name, array in outputs.items():
            self._binding.bind_output(name, *_place(array))

    def run(self, inputs: Arrays = NOTHING) -> None:
        """Run the graph on the bound arrays; see `BoundCall.run`."""
        for name, array in inputs.items():
            if name not in self._specs:
                raise InputMismatch(f"got the input {name}, expected {', '.join(self._specs)}")
            check_one_bound("input", self._specs[name], array)
            self._binding.bind_input(name, *_place(array))
            self._inputs[name] = array
        self._engine.run_bound(self._binding)


def _place(array: NDArray[Any]) -> tuple[str, int, Any, tuple[int, ...], int]:
    """Where an array lies, as ONNX Runtime wants to know it."""
    return "cpu", 0, array.dtype.type, array.shape, array.__array_interface__["data"][0]


def _spec(node: Any) -> TensorSpec:
    dtype = node.type.removeprefix("tensor(").removesuffix(")")
    # A size without a name may be anything, so each gets a name of its own.
    shape = tuple(
        f"{node.name}.{axis}" if size is None else size for axis, size in enumerate(node.shape)
    )
    return TensorSpec(node.name, _DTYPES.get(dtype, dtype), shape)


def _all_fixed(specs: tuple[TensorSpec, ...]) -> bool:
    return all(isinstance(size, int) for spec in specs for size in spec.shape)


def _zeros(spec: TensorSpec) -> NDArray[Any]:
    return np.zeros([size for size in spec.shape if isinstance(size, int)], spec.dtype)
