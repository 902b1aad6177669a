"""The NVIDIA driver behind `Device`, through a scripted one: what it is asked, and its errors."""

from __future__ import annotations

import ctypes
import threading

import numpy as np
import pytest

from edgestream.runtime.engines import cuda_device as module
from edgestream.runtime.engines.cuda_device import CudaDevice, first_gpu
from edgestream.runtime.errors import BackendMissing, DeviceMemoryExhausted, EngineFailed


class Driver:
    """Functions of libcuda that work on the computer's memory; each can be told to fail.

    Attributes:
        calls: (thread, name) of each call.
        codes: name → what it answers instead of 0.
    """

    def __init__(self):
        self.calls, self.codes, self.blocks = [], {}, {}
        self.attributes = {75: 8, 76: 9}

    def __getattr__(self, name):
        if not name.startswith("cu"):
            raise AttributeError(name)
        body = type(self).__dict__.get(f"do_{name}")

        def function(*arguments):
            self.calls.append((threading.get_ident(), name))
            # A 64-bit address that is handed over as a plain int is cut to 32 bits: ctypes' way.
            assert not any(type(one) is int for one in arguments), name
            if self.codes.get(name):
                return self.codes[name]
            if body is not None:
                body(self, *arguments)
            return 0

        return function

    def do_cuDeviceGetName(self, name, length, device):
        name.value = b"A scripted GPU"

    def do_cuDeviceGetAttribute(self, value, which, device):
        value._obj.value = self.attributes[which.value]

    def do_cuGetErrorString(self, code, words):
        words._obj.value = b"an illegal memory access was encountered"

    def do_cuMemAlloc_v2(self, address, n_bytes):
        block = ctypes.create_string_buffer(n_bytes.value)
        address._obj.value = ctypes.addressof(block)
        self.blocks[address._obj.value] = block

    def do_cuMemFree_v2(self, address):
        del self.blocks[address.value]

    def do_cuMemcpyHtoDAsync_v2(self, to, source, n_bytes, stream):
        ctypes.memmove(to.value, source.value, n_bytes.value)

    def do_cuMemcpyDtoHAsync_v2(self, to, source, n_bytes, stream):
        ctypes.memmove(to.value, source.value, n_bytes.value)

    def do_cuMemsetD2D8Async(self, address, pitch, value, width, rows, stream):
        for row in range(rows.value):
            ctypes.memset(address.value + row * pitch.value, value.value, width.value)

    def do_cuCtxGetStreamPriorityRange(self, least, greatest):
        least._obj.value, greatest._obj.value = 0, -5

    def do_cuStreamCreateWithPriority(self, stream, flags, priority):
        stream._obj.value = 1000 - priority.value

    def do_cuStreamEndCapture(self, stream, graph):
        graph._obj.value = 7

    def do_cuGraphInstantiateWithFlags(self, executable, graph, flags):
        executable._obj.value = graph.value + 1


@pytest.fixture
def driver():
    return Driver()


def names(driver):
    return [name for _, name in driver.calls]


def test_it_is_known_by_name_and_architecture(driver):
    device = CudaDevice(driver)
    assert (device.name, device.target) == ("A scripted GPU", "sm89")


def test_arrays_go_there_and_come_back(driver):
    device = CudaDevice(driver)
    there, back = np.arange(12, dtype=np.int64).reshape(3, 4), np.zeros((3, 4), np.int64)
    address, stream = device.allocate(there.nbytes), device.new_stream(is_first=True)
    device.write(address, there, stream)
    device.clear(address + 8, 32, 16, 3, stream)  # the second and third number of each row
    device.read(back, address, stream)
    device.wait(stream)
    there[:, 1:3] = 0
    assert np.array_equal(back, there)
    device.free(address)
    device.close_stream(stream)
    assert not driver.blocks


def test_nothing_is_nothing_to_copy(driver):
    device, empty = CudaDevice(driver), np.zeros((0, 4), np.float32)
    before = len(driver.calls)
    device.write(1, empty, 2)
    device.read(empty, 1, 2)
    device.clear(1, 16, 0, 3, 2)
    assert len(driver.calls) == before
    device.free(device.allocate(0))  # the driver has no block of no bytes


def test_a_stream_that_is_first_has_the_greatest_priority(driver):
    device = CudaDevice(driver)
    assert device.new_stream(is_first=True) == 1005 and device.new_stream(is_first=False) == 1000


def test_what_is_recorded_is_made_a_graph_and_its_recording_let_go(driver):
    device = CudaDevice(driver)
    device.begin_recording(3)
    graph = device.end_recording(3)
    device.launch(graph, 3)
    device.close_graph(graph)
    assert graph == 8
    assert names(driver)[-6:] == [
        "cuStreamBeginCapture_v2",
        "cuStreamEndCapture",
        "cuGraphInstantiateWithFlags",
        "cuGraphDestroy",
        "cuGraphLaunch",
        "cuGraphExecDestroy",
    ]


def test_a_thread_that_never_met_the_gpu_meets_it_first(driver):
    device = CudaDevice(driver)
    device.free(device.allocate(8))
    thread = threading.Thread(target=lambda: [device.free(device.allocate(8)) for _ in range(2)])
    thread.start()
    thread.join()
    of_thread = [name for one, name in driver.calls if one != threading.get_ident()]
    assert of_thread[0] == "cuCtxSetCurrent" and of_thread.count("cuCtxSetCurrent") == 1
    assert names(driver).count("cuCtxSetCurrent") == 2


def test_an_error_has_the_drivers_words_and_no_memory_its_own_name(driver):
    device = CudaDevice(driver)
    driver.codes["cuStreamSynchronize"] = 700
    with pytest.raises(EngineFailed, match=r"cuStreamSynchronize .*illegal memory .*\(error 700\)"):
        device.wait(1)
    driver.codes["cuMemAlloc_v2"] = 2
    with pytest.raises(DeviceMemoryExhausted):
        device.allocate(8)
    driver.codes["cuGraphInstantiateWithFlags"] = 800
    with pytest.raises(EngineFailed):
        device.end_recording(1)
    assert names(driver).count("cuGraphDestroy") == 1, "the recording is let go all the same"


@pytest.mark.parametrize("name", ["cuInit", "cuDeviceGet", "cuDevicePrimaryCtxRetain"])
def test_a_driver_without_a_gpu_is_no_backend(driver, name):
    driver.codes[name] = 100
    with pytest.raises(BackendMissing, match="the NVIDIA driver gives no GPU"):
        CudaDevice(driver)


def test_a_machine_without_a_driver(monkeypatch):
    first_gpu.cache_clear()
    monkeypatch.setattr(module, "LIBRARY", "libcuda-that-is-not-there.so.1")
    with pytest.raises(BackendMissing, match="there is no NVIDIA driver here"):
        first_gpu()
