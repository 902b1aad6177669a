"""The first NVIDIA GPU, through its driver alone: memory, streams and recorded graphs.

`libcuda.so.1` comes with the driver, so nothing else has to be installed. Whoever runs on a device
knows it as a `Device`; tests put one in its place that lies in the computer's own memory.
"""

from __future__ import annotations

import ctypes
import threading
from functools import lru_cache
from typing import Any, Protocol

from numpy.typing import NDArray

from ..errors import BackendMissing, DeviceMemoryExhausted, EngineError, EngineFailed

LIBRARY = "libcuda.so.1"
_OUT_OF_MEMORY = 2
_MAJOR, _MINOR = 75, 76
"""Device attributes: compute capability."""
_NON_BLOCKING, _THIS_THREAD = 1, 1
"""Of a stream: it does not wait for others; of a recording: only this thread is restricted."""


class Device(Protocol):
    """What an engine needs of a GPU. Addresses, streams and graphs are plain numbers.

    Attributes:
        name: of the GPU.
        target: its architecture, for example `sm86`.
    """

    name: str
    target: str

    def allocate(self, n_bytes: int) -> int:
        """The address of new memory. Raises DeviceMemoryExhausted."""

    def free(self, address: int) -> None:
        """Give memory back."""

    def write(self, address: int, array: NDArray[Any], stream: int) -> None:
        """Copy a C-contiguous array to the device, in the order of the stream."""

    def read(self, array: NDArray[Any], address: int, stream: int) -> None:
        """Copy from the device into a C-contiguous array, in the order of the stream."""

    def clear(self, address: int, pitch: int, width: int, rows: int, stream: int) -> None:
        """Zero `width` bytes in each of `rows` rows that lie `pitch` bytes apart."""

    def new_stream(self, *, is_first: bool) -> int:
        """A stream; one that is first goes before others that wait."""

    def close_stream(self, stream: int) -> None:
        """Give a stream back."""

    def wait(self, stream: int) -> None:
        """Wait until everything in the stream is done. Raises what went wrong in it."""

    def begin_recording(self, stream: int) -> None:
        """From here on, work put into the stream is recorded and not done."""

    def end_recording(self, stream: int) -> int:
        """A graph of what was recorded."""

    def launch(self, graph: int, stream: int) -> None:
        """Put everything in a graph into the stream."""

    def close_graph(self, graph: int) -> None:
        """Give a graph back."""


class CudaDevice:
    """A GPU as its driver gives it; see `Device`. Safe for several threads.

    Args:
        driver: the loaded `libcuda.so.1`.
        ordinal: which GPU, from 0; `CUDA_VISIBLE_DEVICES` says which ones there are.

    Raises:
        BackendMissing: the driver finds no such GPU.
    """

    def __init__(self, driver: Any, ordinal: int = 0) -> None:
        self._driver, self._thread = driver, threading.local()
        try:
            self._call("cuInit", ctypes.c_uint(0))
            device = ctypes.c_int()
            self._call("cuDeviceGet", ctypes.byref(device), ctypes.c_int(ordinal))
            name = ctypes.create_string_buffer(100)
            self._call("cuDeviceGetName", name, ctypes.c_int(len(name)), device)
            major, minor = (self._attribute(one, device) for one in (_MAJOR, _MINOR))
            # The primary context is the one that TensorRT and PyTorch use too.
            self._context = ctypes.c_void_p()
            self._call("cuDevicePrimaryCtxRetain", ctypes.byref(self._context), device)
        except EngineError as fault:
            raise BackendMissing(
                f"the NVIDIA driver gives no GPU: {fault.message}",
                hint="`nvidia-smi` shows which GPUs the driver knows",
            ) from fault
        self.name, self.target = name.value.decode(errors="replace"), f"sm{major}{minor}"

    def allocate(self, n_bytes: int) -> int:
        """See `Device.allocate`."""
        address = ctypes.c_uint64()
        self._in_context("cuMemAlloc_v2", ctypes.byref(address), ctypes.c_size_t(max(n_bytes, 1)))
        return address.value

    def free(self, address: int) -> None:
        """See `Device.free`."""
        self._in_context("cuMemFree_v2", ctypes.c_uint64(address))

    def write(self, address: int, array: NDArray[Any], stream: int) -> None:
        """See `Device.write`."""
        if array.nbytes:
            self._in_context(
                "cuMemcpyHtoDAsync_v2",
                ctypes.c_uint64(address),
                _place(array),
                ctypes.c_size_t(array.nbytes),
                ctypes.c_void_p(stream),
            )

    def read(self, array: NDArray[Any], address: int, stream: int) -> None:
        """See `Device.read`."""
        if array.nbytes:
            self._in_context(
                "cuMemcpyDtoHAsync_v2",
                _place(array),
                ctypes.c_uint64(address),
                ctypes.c_size_t(array.nbytes),
                ctypes.c_void_p(stream),
            )

    def clear(self, address: int, pitch: int, width: int, rows: int, stream: int) -> None:
        """See `Device.clear`."""
        if width and rows:
            self._in_context(
                "cuMemsetD2D8Async",
                ctypes.c_uint64(address),
                ctypes.c_size_t(pitch),
                ctypes.c_ubyte(0),
                ctypes.c_size_t(width),
                ctypes.c_size_t(rows),
                ctypes.c_void_p(stream),
            )

    def new_stream(self, *, is_first: bool) -> int:
        """See `Device.new_stream`."""
        least, greatest, stream = ctypes.c_int(), ctypes.c_int(), ctypes.c_void_p()
        self._in_context("cuCtxGetStreamPriorityRange", ctypes.byref(least), ctypes.byref(greatest))
        self._in_context(
            "cuStreamCreateWithPriority",
            ctypes.byref(stream),
            ctypes.c_uint(_NON_BLOCKING),
            greatest if is_first else least,
        )
        return stream.value or 0

    def close_stream(self, stream: int) -> None:
        """See `Device.close_stream`."""
        self._in_context("cuStreamDestroy_v2", ctypes.c_void_p(stream))

    def wait(self, stream: int) -> None:
        """See `Device.wait`."""
        self._in_context("cuStreamSynchronize", ctypes.c_void_p(stream))

    def begin_recording(self, stream: int) -> None:
        """See `Device.begin_recording`."""
        mode = ctypes.c_int(_THIS_THREAD)
        self._in_context("cuStreamBeginCapture_v2", ctypes.c_void_p(stream), mode)

    def end_recording(self, stream: int) -> int:
        """See `Device.end_recording`."""
        recorded, graph = ctypes.c_void_p(), ctypes.c_void_p()
        self._in_context("cuStreamEndCapture", ctypes.c_void_p(stream), ctypes.byref(recorded))
        try:
            self._in_context(
                "cuGraphInstantiateWithFlags",
                ctypes.byref(graph),
                recorded,
                ctypes.c_ulonglong(0),
            )
        finally:
            self._in_context("cuGraphDestroy", recorded)
        return graph.value or 0

    def launch(self, graph: int, stream: int) -> None:
        """See `Device.launch`."""
        self._in_context("cuGraphLaunch", ctypes.c_void_p(graph), ctypes.c_void_p(stream))

    def close_graph(self, graph: int) -> None:
        """See `Device.close_graph`."""
        self._in_context("cuGraphExecDestroy", ctypes.c_void_p(graph))

    def _attribute(self, which: int, device: ctypes.c_int) -> int:
        value = ctypes.c_int()
        self._call("cuDeviceGetAttribute", ctypes.byref(value), ctypes.c_int(which), device)
        return value.value

    def _in_context(self, name: str, *arguments: Any) -> None:
        """Call a function of the driver from a thread that may never have met the GPU."""
        if not getattr(self._thread, "is_here", False):
            self._call("cuCtxSetCurrent", self._context)
            self._thread.is_here = True
        self._call(name, *arguments)

    def _call(self, name: str, *arguments: Any) -> None:
        code = getattr(self._driver, name)(*arguments)
        if code == 0:
            return
        words = ctypes.c_char_p()
        self._driver.cuGetErrorString(ctypes.c_int(code), ctypes.byref(words))
        told = (words.value or b"it does not say why").decode(errors="replace")
        if code == _OUT_OF_MEMORY:
            raise DeviceMemoryExhausted(
                "the GPU has no memory left", hint="close other programs, or use less cache"
            )
        raise EngineFailed(f"{name} of the NVIDIA driver: {told} (error {code})")


@lru_cache(maxsize=1)
def first_gpu() -> CudaDevice:
    """The first GPU of this machine, the same object each time.

    Raises:
        BackendMissing: there is no NVIDIA driver, or it finds no GPU.
    """
    try:
        driver = ctypes.CDLL(LIBRARY)
    except OSError as error:
        raise BackendMissing(
            f"there is no NVIDIA driver here: {error}",
            hint="install the driver of the GPU; in a container, start it with the GPU",
        ) from error
    return CudaDevice(driver)


def _place(array: NDArray[Any]) -> ctypes.c_void_p:
    return ctypes.c_void_p(array.__array_interface__["data"][0])
