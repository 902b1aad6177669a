"""A module with the API that `tensorrt` and `tensorrt_rtx` share, which runs ONNX on the CPU.

An engine of it is the ONNX graph with its profiles; a context of it reads and writes memory by
address, as TensorRT does, and runs the graph in ONNX Runtime. `HostDevice` is the GPU: its memory
is the computer's, its streams do things at once, and what is recorded runs again with the
addresses and shapes it was recorded with. So all of our code runs but the calls into NVIDIA's
libraries.
"""

from __future__ import annotations

import ctypes
import enum
import json
import types
from pathlib import Path

import numpy as np

from edgestream.runtime.engines.ort import OrtBackend
from edgestream.runtime.errors import DeviceMemoryExhausted, EngineFailed
from edgestream.runtime.manifest import Variant

# TensorRT's name of an element type → numpy's, and ONNX Runtime's.
TYPES = {
    "FLOAT": (np.float32, "tensor(float)"),
    "HALF": (np.float16, "tensor(float16)"),
    "INT8": (np.int8, "tensor(int8)"),
    "INT32": (np.int32, "tensor(int32)"),
    "INT64": (np.int64, "tensor(int64)"),
    "BOOL": (np.bool_, "tensor(bool)"),
    "UINT8": (np.uint8, "tensor(uint8)"),
}
NUMPY = {name: dtype for name, (dtype, _) in TYPES.items()}
OF_ONNX = {onnx: name for name, (_, onnx) in TYPES.items()}
DataType = enum.Enum("DataType", {name: at for at, name in enumerate(NUMPY)})


class HostDevice:
    """A `Device` in the computer's memory; see edgestream.runtime.engines.cuda_device.

    Attributes:
        log: what was asked of it, by name.
        is_gone: every call fails from now on, as when a driver is reset.
        most_bytes: more than that cannot be had.
        refuses_to_record: a driver that cannot.
    """

    name, target = "a scripted GPU", "sm86"

    def __init__(self, most_bytes=1 << 40):
        self.blocks, self.streams, self.graphs, self.log = {}, {}, {}, []
        self.most_bytes, self.is_gone, self.refuses_to_record = most_bytes, False, False
        self.recording, self._next = None, 1

    def _asked(self, what):
        self.log.append(what)
        if self.is_gone:
            raise EngineFailed(f"{what}: the GPU is lost")

    def _number(self):
        self._next += 1
        return self._next

    @property
    def bytes_taken(self):
        return sum(len(block) for block in self.blocks.values())

    def allocate(self, n_bytes):
        self._asked("allocate")
        if self.bytes_taken + n_bytes > self.most_bytes:
            raise DeviceMemoryExhausted("the GPU has no memory left")
        block = ctypes.create_string_buffer(b"\xa5" * max(n_bytes, 1), max(n_bytes, 1))
        self.blocks[ctypes.addressof(block)] = block
        return ctypes.addressof(block)

    def free(self, address):
        self._asked("free")
        del self.blocks[address]

    def _inside(self, address, n_bytes):
        assert any(
            first <= address and address + n_bytes <= first + len(block)
            for first, block in self.blocks.items()
        ), "outside of what was taken"

    def write(self, address, array, stream):
        self._asked("write")
        assert self.recording is None and stream in self.streams and array.flags.c_contiguous
        self._inside(address, array.nbytes)
        ctypes.memmove(address, array.__array_interface__["data"][0], array.nbytes)

    def read(self, array, address, stream):
        self._asked("read")
        assert self.recording is None and stream in self.streams and array.flags.c_contiguous
        self._inside(address, array.nbytes)
        ctypes.memmove(array.__array_interface__["data"][0], address, array.nbytes)

    def clear(self, address, pitch, width, rows, stream):
        self._asked("clear")
        assert stream in self.streams and width <= pitch
        for row in range(rows):
            self._inside(address + row * pitch, width)
            ctypes.memset(address + row * pitch, 0, width)

    def new_stream(self, *, is_first):
        self._asked("new_stream")
        number = self._number()
        self.streams[number] = is_first
        return number

    def close_stream(self, stream):
        self._asked("close_stream")
        del self.streams[stream]

    def wait(self, stream):
        self._asked("wait")
        assert stream in self.streams

    def begin_recording(self, stream):
        self._asked("begin_recording")
        if self.refuses_to_record:
            raise EngineFailed("this driver cannot record")
        self.recording = []

    def end_recording(self, stream):
        recorded, self.recording = self.recording, None
        self._asked("end_recording")
        number = self._number()
        self.graphs[number] = recorded
        return number

    def launch(self, graph, stream):
        self._asked("launch")
        for work in self.graphs[graph]:
            work()

    def close_graph(self, graph):
        self._asked("close_graph")
        del self.graphs[graph]


def scripted_tensorrt(device, name="tensorrt", *, builds=True, in_place=()):
    """A module like `tensorrt`, whose engines run where `device` is.

    Args:
        builds: has a builder, as all but the `lean` module have.
        in_place: (beginning of an output, of the input in whose memory it lies) each.
    """
    trt = types.ModuleType(name)
    trt.__version__, trt.DataType = "0.0-scripted", DataType
    trt.ILogger, trt.device, trt.in_place = ILogger, device, in_place
    trt.TensorIOMode = enum.Enum("TensorIOMode", ["NONE", "INPUT", "OUTPUT"])
    trt.Runtime = lambda log: Runtime(trt, log)
    trt.fault = None  # what a run logs before it breaks off; None runs
    trt.sizes_of = lambda known: {}  # of outputs whose names say something else than the inputs'
    if builds:
        trt.NetworkDefinitionCreationFlag = enum.IntEnum("Flag", {"STRONGLY_TYPED": 1})
        trt.Builder, trt.OnnxParser = (lambda log: Builder(trt, log)), OnnxParser
        if name == "tensorrt_rtx":
            trt.ComputeCapability = enum.Enum("ComputeCapability", ["SM86", "SM89"])
    return trt


class ILogger:
    ERROR, WARNING = 1, 2


class Runtime:
    def __init__(self, trt, log):
        self._trt, self._log = trt, log

    def deserialize_cuda_engine(self, blob):
        head, _, graph = bytes(blob).partition(b"\n")
        try:
            facts = json.loads(head)
        except ValueError:
            self._log.log(ILogger.ERROR, "Error Code 1: the plan is of another version")
            return None
        return CudaEngine(self._trt, self._log, facts, graph)


class CudaEngine:
    def __init__(self, trt, log, facts, graph):
        import onnxruntime

        self.trt, self.log, self._profiles = trt, log, facts["profiles"]
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = 4
        # As a file: only a file has external data beside it.
        source = facts["path"] if facts["path"] else graph
        self.session = onnxruntime.InferenceSession(
            source, options, providers=["CPUExecutionProvider"]
        )
        self._nodes = {one.name: one for one in self.session.get_inputs()}
        self._inputs = set(self._nodes)
        self._nodes.update({one.name: one for one in self.session.get_outputs()})
        self._names = list(self._nodes)
        self.num_io_tensors = len(self._names)

    def get_tensor_name(self, index):
        return self._names[index]

    def get_tensor_mode(self, name):
        mode = self.trt.TensorIOMode
        return mode.INPUT if name in self._inputs else mode.OUTPUT

    def get_tensor_dtype(self, name):
        return DataType[OF_ONNX[self._nodes[name].type]]

    def get_tensor_shape(self, name):
        return tuple(size if isinstance(size, int) else -1 for size in self._nodes[name].shape)

    def get_tensor_profile_shape(self, name, profile):
        shape = self.get_tensor_shape(name)
        return self._profiles.get(name) or [shape, shape, shape]

    def get_aliased_input_tensor(self, name):
        for begin, source in self.trt.in_place:
            if name.startswith(begin):
                return source + name.removeprefix(begin)
        return None

    def create_execution_context(self):
        return ExecutionContext(self)


class ExecutionContext:
    def __init__(self, engine):
        self._engine, self._shapes, self._places = engine, {}, {}

    def set_input_shape(self, name, shape):
        low, _, high = self._engine.get_tensor_profile_shape(name, 0)
        self._shapes[name] = tuple(shape)
        return all(a <= b <= c for a, b, c in zip(low, shape, high, strict=True))

    def infer_shapes(self):
        return []

    def get_tensor_shape(self, name):
        """Free sizes of an output are those of the inputs, by name, or what the test says."""
        session, known = self._engine.session, {}
        for one in session.get_inputs():
            known.update(zip(one.shape, self._shapes[one.name], strict=True))
        known |= self._engine.trt.sizes_of(known)
        node = next(one for one in session.get_outputs() if one.name == name)
        return tuple(size if isinstance(size, int) else known.get(size, -1) for size in node.shape)

    def set_tensor_address(self, name, place):
        self._places[name] = int(place)
        return True

    def execute_async_v3(self, stream):
        trt = self._engine.trt
        if trt.fault is not None:
            self._engine.log.log(ILogger.ERROR, trt.fault)
            return False
        places, shapes = dict(self._places), dict(self._shapes)
        outputs = {
            one.name: self.get_tensor_shape(one.name) for one in self._engine.session.get_outputs()
        }

        def work():
            self._compute(places, shapes, outputs)

        if trt.device.recording is not None:
            trt.device.recording.append(work)
            return True
        try:
            work()
        except Exception as error:  # TensorRT raises nothing: it logs, and says that it did not
            self._engine.log.log(ILogger.ERROR, str(error))
            return False
        return True

    def _compute(self, places, shapes, outputs):
        """ONNX Runtime on this very memory, input and output alike."""
        engine, device = self._engine, self._engine.trt.device
        binding = engine.session.io_binding()
        for name, shape in {**shapes, **outputs}.items():
            dtype = NUMPY[engine.get_tensor_dtype(name).name]
            device._inside(places[name], int(np.prod(shape)) * np.dtype(dtype).itemsize)
            bind = binding.bind_input if name in shapes else binding.bind_output
            bind(name, "cpu", 0, dtype, shape, places[name])
        engine.session.run_with_iobinding(binding)


class Builder:
    def __init__(self, trt, log):
        self._trt, self._log = trt, log

    def create_network(self, flags):
        return types.SimpleNamespace(path=None, tensors=[], num_inputs=0)

    def create_builder_config(self):
        return Config()

    def create_optimization_profile(self):
        return Profile()

    def build_serialized_network(self, network, config):
        graph = Path(network.path).read_bytes()
        if b"Unbuildable" in graph:
            self._log.log(ILogger.ERROR, "Error Code 10: no implementation for node Unbuildable")
            return None
        has_data = Path(f"{network.path}.data").exists()
        facts = {"profiles": config.shapes, "path": network.path if has_data else None}
        return json.dumps(facts).encode() + b"\n" + graph


class Config:
    num_compute_capabilities, target = 0, None

    def __init__(self):
        self.shapes = {}

    def set_compute_capability(self, target, index):
        self.target = target

    def add_optimization_profile(self, profile):
        for low, usual, high in profile.shapes.values():
            if not all(a <= b <= c for a, b, c in zip(low, usual, high, strict=True)):
                return -1
        self.shapes = profile.shapes
        return 0


class Profile:
    def __init__(self):
        self.shapes = {}

    def set_shape(self, name, low, usual, high):
        self.shapes[name] = [list(low), list(usual), list(high)]


class OnnxParser:
    num_errors = 0

    def __init__(self, network, log):
        self._network, self._log = network, log

    def parse_from_file(self, path):
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        try:
            session = onnxruntime.InferenceSession(
                path, options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:
            self.num_errors, self._error = 1, str(error)
            return False
        self._network.path = path
        self._network.tensors = session.get_inputs()
        self._network.num_inputs = len(self._network.tensors)
        self._network.get_input = lambda index: NetworkInput(self._network.tensors[index])
        return True

    def get_error(self, index):
        return types.SimpleNamespace(
            node=lambda: 3,
            node_name=lambda: "",
            node_operator=lambda: "Mystery",
            desc=lambda: self._error,
        )


class NetworkInput:
    def __init__(self, node):
        self._node, self.name = node, node.name
        self.shape = tuple(size if isinstance(size, int) else -1 for size in node.shape)

    def get_dimension_name(self, axis):
        return "" if isinstance(self._node.shape[axis], int) else self._node.shape[axis]


def specs_of(graph):
    """(inputs, outputs) of a graph as a manifest has them."""
    with OrtBackend().open(graph) as engine:
        return engine.inputs, engine.outputs


def variant_of(graph, sizes=None, provider="tensorrt", **extra):
    """A variant of TensorRT for a graph that stands alone."""
    extra = {"sizes": sizes or {}, **extra}
    form = (f"{provider}-fp32", provider, graph.name, "pending-device", "float32")
    return Variant(*form, *specs_of(graph), extra=extra)
