"""What runs a graph: named arrays in, named arrays out, checked once at the border."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, TypeAlias

from numpy.typing import NDArray

from .errors import BackendMissing, InputMismatch
from .manifest import TensorSpec, Variant

Arrays: TypeAlias = Mapping[str, NDArray[Any]]


class Engine(Protocol):
    """An opened graph. Leaving its `with` block gives its memory back.

    Attributes:
        provider: that runs it, for example `cpu`: the one that was asked for, never another.
        inputs, outputs: what it takes and gives.
    """

    provider: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]

    def run(self, arrays: Arrays) -> dict[str, NDArray[Any]]:
        """All outputs for these inputs, by name.

        Raises:
            InputMismatch: a name, type or shape is not the declared one.
            EngineFailed: the engine broke off.
            DeviceMemoryExhausted: the device has no memory left.
        """

    def __enter__(self) -> Engine: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...


class Backend(Protocol):
    """Opens graphs with one provider.

    Attributes:
        provider: its name in the manifest, for example `cpu`.
    """

    provider: str

    def open(self, graph: Path, variant: Variant) -> Engine:
        """An engine for the graph of a variant.

        Args:
            graph: its file; external data lies beside it.
            variant: what the manifest says of it; its inputs and outputs must be the graph's.

        Raises:
            EngineUnusable: it cannot be opened, is another graph, or another provider would run it.
            DeviceMemoryExhausted: the device has no memory for it.
        """


def _onnx_runtime(provider: str, threads: int) -> Backend:
    from .engines.ort import OrtBackend

    return OrtBackend(provider, threads)


BACKENDS: Mapping[str, Callable[[str, int], Backend]] = {
    "cpu": _onnx_runtime,
    "cuda": _onnx_runtime,
}
"""Provider → what opens it."""


def backend_for(provider: str, *, threads: int = 1) -> Backend:
    """The backend of a provider.

    Args:
        provider: name in the manifest.
        threads: of one engine on the CPU; 1 leaves the other cores to the camera and to others.

    Raises:
        BackendMissing: this version knows no such provider, or nothing that is installed has it.
    """
    if provider not in BACKENDS:
        raise BackendMissing(
            f"got the provider {provider!r}, expected one of {', '.join(BACKENDS)}",
            hint="update edgestream, or use another variant of the bundle",
        )
    return BACKENDS[provider](provider, threads)


def check_arrays(specs: tuple[TensorSpec, ...], arrays: Arrays) -> None:
    """Whether arrays are what a graph declares: names, types, ranks and sizes.

    A size that has a name must be the same wherever this name stands.

    Raises:
        InputMismatch: the message names the tensor, both shapes and both types.
    """
    unknown = sorted(set(arrays) - {spec.name for spec in specs})
    if unknown:
        raise InputMismatch(
            f"got the inputs {', '.join(unknown)}, "
            f"expected only {', '.join(spec.name for spec in specs)}"
        )
    sizes: dict[str, int] = {}
    for spec in specs:
        if spec.name not in arrays:
            raise InputMismatch(f"input {spec.name}: got nothing, expected {_declared(spec)}")
        array = arrays[spec.name]
        fits = len(array.shape) == len(spec.shape) and array.dtype.name == spec.dtype
        for size, declared in zip(array.shape, spec.shape, strict=False):
            fits &= size == (
                sizes.setdefault(declared, size) if isinstance(declared, str) else declared
            )
        if not fits:
            known = {name: size for name, size in sizes.items() if name in spec.shape}
            where = f" with {known}" if known else ""
            raise InputMismatch(
                f"input {spec.name}: got {array.dtype.name} {list(array.shape)}, "
                f"expected {_declared(spec)}{where}"
            )


def _declared(spec: TensorSpec) -> str:
    return f"{spec.dtype} [{', '.join(map(str, spec.shape))}]"
