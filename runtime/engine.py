"""What runs a graph: named arrays in, named arrays out, checked once at the border."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Any, Protocol, TypeAlias

from numpy.typing import NDArray

from .errors import BackendMissing, InputMismatch
from .manifest import TensorSpec, Variant

Arrays: TypeAlias = Mapping[str, NDArray[Any]]
NOTHING: Arrays = MappingProxyType({})


class CacheMirror(Protocol):
    """A cache that lives on a device; the arrays on the host are as old as the last `pull`."""

    def pull(self) -> None:
        """Bring it to the host. Raises EngineFailed: the device is gone, and the cache with it."""

    def push(self) -> None:
        """Bring what the host has to the device. Raises EngineFailed, as above."""

    def clear(self, first: int, end: int) -> None:
        """Zero the slots [first, end) on the device. Raises EngineFailed, as above."""


class BoundCall(Protocol):
    """One call of an engine whose arrays stay where they are."""

    def run(self, inputs: Arrays = NOTHING) -> None:
        """Run the graph; its outputs are written into the bound arrays.

        Args:
            inputs: arrays that take the place of bound inputs of these names, also in later runs;
                they may have another length.

        Raises:
            InputMismatch: one of `inputs` has no such name, or another type, rank or fixed size.
            EngineFailed, DeviceMemoryExhausted: as `Engine.run` says; outputs may be half written.

        Cost: no array is made; nothing is copied where the engine's memory is the computer's.
        """


def mirror_of(call: BoundCall) -> CacheMirror | None:
    """The cache that a call keeps on a device; None where numpy's arrays are the cache."""
    mirror: CacheMirror | None = getattr(call, "mirror", None)
    return mirror


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

    def bind(self, inputs: Arrays, outputs: Arrays) -> BoundCall:
        """A call that is checked once and then runs on these arrays, without copies.

        The same array may be an input and an output: a cache that the graph extends in place. So a
        size that has a name need not be the same for all tensors, as it must be for `run`.

        Args:
            inputs: all inputs, by name; C-contiguous.
            outputs: all outputs, by name; C-contiguous, writeable, with the sizes they will have.

        Raises:
            InputMismatch: a name, type, rank or fixed size is not the declared one, or an array
                does not lie in one piece.
            EngineUnusable: this engine's memory is not where numpy arrays are.
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


Tell: TypeAlias = Callable[[str], None]
"""Hears sentences about what takes its time."""


def unheard(sentence: str) -> None:
    """Nobody listens."""


def _onnx_runtime(provider: str, threads: int, engines_dir: Path | None, tell: Tell) -> Backend:
    from .engines.ort import OrtBackend

    return OrtBackend(provider, threads)


def _tensorrt(provider: str, threads: int, engines_dir: Path | None, tell: Tell) -> Backend:
    from .engines.trt import TrtBackend

    return TrtBackend(provider, engines_dir, tell)


BACKENDS: Mapping[str, Callable[[str, int, Path | None, Tell], Backend]] = {
    "cpu": _onnx_runtime,
    "cuda": _onnx_runtime,
    "tensorrt": _tensorrt,
    "tensorrt-rtx": _tensorrt,
}
"""Provider → what opens it."""


def backend_for(
    provider: str, *, threads: int = 1, engines_dir: Path | None = None, tell: Tell = unheard
) -> Backend:
    """The backend of a provider.

    Args:
        provider: name in the manifest.
        threads: of one engine on the CPU; 1 leaves the other cores to the camera and to others.
        engines_dir: where compiled engines lie; None: the user's cache folder.
        tell: hears of each engine that is compiled, before and after.

    Raises:
        BackendMissing: this version knows no such provider, or nothing that is installed has it.
    """
    if provider not in BACKENDS:
        raise BackendMissing(
            f"got the provider {provider!r}, expected one of {', '.join(BACKENDS)}",
            hint="update edgestream, or use another variant of the bundle",
        )
    return BACKENDS[provider](provider, threads, engines_dir, tell)


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


def check_bound(what: str, specs: tuple[TensorSpec, ...], arrays: Arrays) -> None:
    """Whether arrays can be bound to the inputs or outputs of a graph: all of them, each fitting.

    Args:
        what: `input` or `output`, for the message.

    Raises:
        InputMismatch: as `Engine.bind` says.
    """
    names = [spec.name for spec in specs]
    if set(arrays) != set(names):
        raise InputMismatch(
            f"got the {what}s {', '.join(sorted(arrays)) or 'none'}, expected {', '.join(names)}"
        )
    for spec in specs:
        check_one_bound(what, spec, arrays[spec.name])


def check_fits(what: str, spec: TensorSpec, shape: tuple[int, ...], dtype: str) -> None:
    """Whether an array of this shape and type is what a graph declares; see `check_bound`."""
    fits = len(shape) == len(spec.shape) and dtype == spec.dtype
    for size, declared in zip(shape, spec.shape, strict=False):
        fits &= isinstance(declared, str) or size == declared
    if not fits:
        raise InputMismatch(
            f"{what} {spec.name}: got {dtype} {list(shape)}, expected {_declared(spec)}"
        )


def check_one_bound(what: str, spec: TensorSpec, array: NDArray[Any]) -> None:
    """Whether one array can be bound; see `check_bound`."""
    check_fits(what, spec, array.shape, array.dtype.name)
    if not array.flags.c_contiguous or (what == "output" and not array.flags.writeable):
        raise InputMismatch(
            f"{what} {spec.name}: got an array that is read-only or does not lie in one piece, "
            "expected one that can be used where it is"
        )


def _declared(spec: TensorSpec) -> str:
    return f"{spec.dtype} [{', '.join(map(str, spec.shape))}]"
