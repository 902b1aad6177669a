"""Arrays in the memory that ONNX Runtime works in, and calls on them."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..engine import check_fits
from ..errors import DeviceMemoryExhausted, EngineError, EngineFailed, InputMismatch
from ..held import Held
from ..manifest import TensorSpec
from .ort_session import NOT_RECORDED, faults, mapped, onnxruntime, run_options


class OrtHeldArray:
    """See `HeldArray`.

    Args:
        array: what is in it at first; copied.
        device: ONNX Runtime's name of the memory.

    Raises:
        DeviceMemoryExhausted, EngineFailed: there is no room, or the device broke off.
    """

    def __init__(self, array: NDArray[Any], device: str) -> None:
        self.shape, self.dtype, self.n_bytes = array.shape, array.dtype.name, array.nbytes
        # On a CPU the value lies in the numpy array itself, so that this must be nobody else's.
        own = np.array(array, order="C")
        self.value = _told(lambda: onnxruntime().OrtValue.ortvalue_from_numpy(own, device, 0))

    def write(self, array: NDArray[Any]) -> None:
        """Copy numbers of this shape and type into it."""
        if array.shape != self.shape or array.dtype.name != self.dtype:
            raise InputMismatch(
                f"got {array.dtype.name} {list(array.shape)} to write, expected {self.dtype} "
                f"{list(self.shape)}"
            )
        _told(lambda: self.value.update_inplace(np.ascontiguousarray(array)))

    def read(self) -> NDArray[Any]:
        """A copy in the computer's memory."""
        found: NDArray[Any] = np.array(_told(self.value.numpy))
        return found


class OrtHeldCall:
    """See `HeldCall`. One call may run at a time; what it is bound to stays alive with it.

    State: whether recording was given up.

    Args:
        session: of ONNX Runtime.
        run: runs a binding with options; the engine's, which maps faults.
        inputs, outputs, host: checked already.
        graph_id: under which the run is recorded; None where it is not.
    """

    def __init__(
        self,
        session: Any,
        run: Callable[[Any, Any], None],
        inputs: Mapping[str, OrtHeldArray],
        outputs: Mapping[str, OrtHeldArray],
        host: Mapping[str, NDArray[Any]],
        graph_id: int | None,
    ) -> None:
        self._run, self._binding = run, session.io_binding()
        self._alive = (dict(inputs), dict(outputs), dict(host))
        for name, held in inputs.items():
            self._binding.bind_ortvalue_input(name, held.value)
        for name, array in host.items():
            value = onnxruntime().OrtValue.ortvalue_from_numpy(array, "cpu", 0)
            self._binding.bind_ortvalue_input(name, value)
        for name, held in outputs.items():
            self._binding.bind_ortvalue_output(name, held.value)
        self._options = run_options(NOT_RECORDED if graph_id is None else str(graph_id))
        self.records = graph_id is not None
        if graph_id is not None and hasattr(session, "release_captured_graph"):
            weakref.finalize(self, _released, weakref.ref(session), graph_id)

    def run(self) -> None:
        """Run the graph on the arrays.

        A run that cannot be recorded is made again without: recording only saves time.
        """
        try:
            self._run(self._binding, self._options)
        except DeviceMemoryExhausted:
            raise
        except EngineError:
            if not self.records:
                raise
            self.records, self._options = False, run_options(NOT_RECORDED)
            self._run(self._binding, self._options)


def check_held(
    what: str, specs: tuple[TensorSpec, ...], arrays: Mapping[str, OrtHeldArray | NDArray[Any]]
) -> None:
    """Whether held arrays can be bound to the inputs or outputs of a graph.

    Raises:
        InputMismatch: as `HoldingEngine.bind_held` says.
    """
    names = [spec.name for spec in specs]
    if set(arrays) != set(names):
        raise InputMismatch(
            f"got the {what}s {', '.join(sorted(arrays)) or 'none'}, expected {', '.join(names)}"
        )
    for spec in specs:
        held = arrays[spec.name]
        dtype = held.dtype if isinstance(held, OrtHeldArray) else held.dtype.name
        check_fits(what, spec, held.shape, dtype)


def ours(arrays: Held) -> dict[str, OrtHeldArray]:
    """The arrays, as ONNX Runtime holds them.

    Raises:
        InputMismatch: another kind of engine holds one.
    """
    found: dict[str, OrtHeldArray] = {}
    for name, array in arrays.items():
        if not isinstance(array, OrtHeldArray):
            raise InputMismatch(f"{name}: got an array that ONNX Runtime does not hold")
        found[name] = array
    return found


def _released(session: weakref.ref[Any], graph_id: int) -> None:
    alive = session()
    if alive is not None:
        alive.release_captured_graph(graph_id)


def _told(action: Callable[[], Any]) -> Any:
    try:
        return action()
    except faults() as error:
        raise mapped(error, "an array could not be held or copied", EngineFailed) from error
