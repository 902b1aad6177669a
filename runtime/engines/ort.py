"""ONNX Runtime as a backend: the provider that was asked for runs the graph, or nothing does."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..engine import NOTHING, Arrays, check_arrays, check_bound, check_one_bound
from ..errors import (
    BackendMissing,
    DeviceMemoryExhausted,
    EngineError,
    EngineFailed,
    EngineUnusable,
    InputMismatch,
)
from ..manifest import TensorSpec, Variant

# Provider in a manifest → ONNX Runtime's name for it.
PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
_FATAL = 4
"""Log severity. Whatever goes wrong is raised; the same words on stderr would be noise."""
_INSTALL_HINT = (
    "pip install 'edgestream[cpu]', or 'edgestream[cuda]' on a machine with an NVIDIA GPU"
)
# ONNX Runtime names element types as `tensor(float)`; numpy has other names for some.
_DTYPES = {"float": "float32", "double": "float64"}
_NO_MEMORY = (
    "bad_alloc",
    "failed to allocate memory",
    "out of memory",
    "cudaerrormemoryallocation",
)


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
        listed = _onnxruntime().get_available_providers()
        if PROVIDERS[provider] not in listed:
            raise BackendMissing(
                f"got the provider {provider}, but the installed ONNX Runtime has only "
                f"{', '.join(name.removesuffix('ExecutionProvider').lower() for name in listed)}",
                hint=_INSTALL_HINT,
            )

    def open(self, graph: Path, variant: Variant | None = None) -> OrtEngine:
        """An engine for a graph; see `Backend.open`.

        Args:
            graph: its file; external data lies beside it.
            variant: what the manifest says of it; None takes the graph's own word (at export).
        """
        engine = OrtEngine(graph, self.provider, self._session(graph))
        if variant is not None:
            _check_declared(graph.name, "inputs", engine.inputs, variant.inputs)
            _check_declared(graph.name, "outputs", engine.outputs, variant.outputs)
        return engine

    def _session(self, graph: Path) -> Any:
        ort = _onnxruntime()
        # A provider that fails to load writes through the default logger, not the session's.
        ort.set_default_logger_severity(_FATAL)
        wanted = PROVIDERS[self.provider]
        try:
            session = ort.InferenceSession(
                str(graph), self._options(), providers=[wanted], enable_fallback=0
            )
        except _faults() as error:
            raise _mapped(error, f"{graph.name} cannot be opened", EngineUnusable) from error
        session.disable_fallback()
        runs_on = session.get_providers()[0]
        if runs_on != wanted:  # a provider whose libraries are missing steps aside without a word
            raise EngineUnusable(
                f"{graph.name}: got {runs_on}, expected {wanted}",
                hint="`edgestream doctor` says why a provider does not run",
            )
        return session

    def _options(self) -> Any:
        ort = _onnxruntime()
        options = ort.SessionOptions()
        options.intra_op_num_threads = self._threads
        options.inter_op_num_threads = 1
        options.log_severity_level = _FATAL
        # Threads that wait by spinning cost three quarters of the speed on a shared machine, and
        # the battery on any.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        return options


class OrtEngine:
    """A session of ONNX Runtime; see `Engine`."""

    def __init__(self, graph: Path, provider: str, session: Any) -> None:
        self.provider = provider
        self.inputs = tuple(map(_spec, session.get_inputs()))
        self.outputs = tuple(map(_spec, session.get_outputs()))
        # What has a default: matrices of an adapter, of rank 0 where none is chosen.
        self.optional = tuple(map(_spec, session.get_overridable_initializers()))
        self._names = [spec.name for spec in self.outputs]
        self._graph = graph.name
        self._session: Any = session

    def run(self, arrays: Arrays) -> dict[str, NDArray[Any]]:
        """All outputs for these inputs, by name; see `Engine.run`."""
        session = self._opened()
        check_arrays((*self.inputs, *self._chosen(arrays)), arrays)
        try:
            outputs = session.run(self._names, dict(arrays))
        except _faults() as error:
            raise _mapped(error, f"{self._graph} broke off", EngineFailed) from error
        return {name: np.asarray(out) for name, out in zip(self._names, outputs, strict=True)}

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
        except _faults() as error:
            raise _mapped(error, f"{self._graph} broke off", EngineFailed) from error

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
        self._session = None


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


def _onnxruntime() -> Any:
    try:
        import onnxruntime  # type: ignore[import-untyped]
    except ImportError as error:
        raise BackendMissing(
            f"ONNX Runtime cannot be imported: {error}", hint=_INSTALL_HINT
        ) from error
    return onnxruntime


def _faults() -> tuple[type[Exception], ...]:
    """Every kind of exception that ONNX Runtime raises; it gives them no common parent."""
    from onnxruntime.capi import onnxruntime_pybind11_state as state  # type: ignore[import-untyped]

    own = [kind for kind in vars(state).values() if isinstance(kind, type)]
    own = [kind for kind in own if issubclass(kind, Exception)]
    return (*own, RuntimeError, ValueError, MemoryError)


def _mapped(error: Exception, what: str, kind: type[EngineError]) -> EngineError:
    """Our error for one of ONNX Runtime's, in its words without their preamble and folders."""
    words = " ".join(str(error).split()).rsplit("[ONNXRuntimeError] : ", 1)[-1]
    if isinstance(error, MemoryError) or any(sign in words.lower() for sign in _NO_MEMORY):
        return DeviceMemoryExhausted(
            f"{what}: the device has no memory left", hint="close other programs, or use less cache"
        )
    return kind(f"{what}: {words or type(error).__name__}")


def _spec(node: Any) -> TensorSpec:
    dtype = node.type.removeprefix("tensor(").removesuffix(")")
    # A size without a name may be anything, so each gets a name of its own.
    shape = tuple(
        f"{node.name}.{axis}" if size is None else size for axis, size in enumerate(node.shape)
    )
    return TensorSpec(node.name, _DTYPES.get(dtype, dtype), shape)


def _check_declared(
    graph: str, what: str, found: tuple[TensorSpec, ...], declared: tuple[TensorSpec, ...]
) -> None:
    """Whether a graph has the tensors that the manifest says; names of free sizes may differ."""
    got, expected = {_form(spec) for spec in found}, {_form(spec) for spec in declared}
    if got != expected:
        raise EngineUnusable(
            f"{graph}: got the {what} {_listed(got - expected)}, "
            f"expected {_listed(expected - got)} as the manifest says",
            hint="export the bundle again",
        )


def _form(spec: TensorSpec) -> tuple[str, str, tuple[int | None, ...]]:
    fixed = tuple(size if isinstance(size, int) else None for size in spec.shape)
    return spec.name, spec.dtype, fixed


def _listed(forms: set[tuple[str, str, tuple[int | None, ...]]]) -> str:
    told = [
        f"{name} {dtype} [{', '.join('any' if size is None else str(size) for size in shape)}]"
        for name, dtype, shape in sorted(forms, key=lambda form: form[0])
    ]
    return ", ".join(told) or "none else"
