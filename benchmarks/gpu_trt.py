"""TensorRT and TensorRT-RTX as peers: the watch path over the API that both share, and a decoder.

The decoder is the product's (gpu_trt_decoder.py): its cache stays on the device, and evictions go
through the host.
"""

from __future__ import annotations

import hashlib
import importlib
from pathlib import Path
from typing import Any, Literal

import torch
from gpu_graphs import WATCH_INPUTS, WATCH_OUTPUTS, watch_graph
from gpu_models import Random
from gpu_peer import Peer
from gpu_trt_decoder import TrtDecoder
from torch import Tensor

from edgestream.edge.engine_place import say
from edgestream.runtime.engines.trt import TrtBackend
from edgestream.runtime.errors import BackendMissing, EngineUnusable

Module = Literal["tensorrt", "tensorrt_rtx"]
NAMES: dict[Module, str] = {"tensorrt": "TensorRT", "tensorrt_rtx": "TensorRT-RTX"}
PROVIDERS: dict[Module, str] = {"tensorrt": "tensorrt", "tensorrt_rtx": "tensorrt-rtx"}


class TrtPeer(Peer):
    """The watch path as an engine, strongly typed as its graph, captured as a CUDA graph.

    Args:
        model: whose watch path it is.
        folder: where graph and engine are kept.
        module: which of the two.

    Raises:
        BackendMissing: it is not installed, or there is no GPU.
        EngineUnusable: no engine could be built, or it cannot run here.
    """

    def __init__(self, model: Random, folder: Path, module: Module) -> None:
        super().__init__(model)
        trt = imported(module)
        if model.device.type != "cuda":
            raise BackendMissing(f"{NAMES[module]} {trt.__version__} needs a GPU to run")
        major, minor = torch.cuda.get_device_capability(model.device)
        graph = watch_graph(model, folder)
        engine = kept_engine(trt, graph, (major, minor))
        self.label = f"{NAMES[module]} {trt.__version__}, bounded cache, CUDA graphs"
        self._engine_bytes = engine.stat().st_size
        self._runtime = trt.Runtime(logger(trt))
        self._engine = self._runtime.deserialize_cuda_engine(engine.read_bytes())
        if self._engine is None:
            engine.unlink()
            raise EngineUnusable(f"{engine.name} cannot be read here: {last_words(trt)}")
        self._context = self._engine.create_execution_context()
        backend = TrtBackend(PROVIDERS[module], folder / "engines", say)
        self._decoder = TrtDecoder(model, folder, backend)
        self._tensors = self._bound(model)
        cuda: Any = torch.cuda
        self._stream = cuda.Stream(model.device)

    @property
    def length(self) -> int:
        """Tokens in the cache."""
        return self._decoder.length

    @property
    def n_bytes(self) -> int:
        """Of engine, weights and cache."""
        return self._engine_bytes + self._decoder.n_bytes

    def reset(self) -> None:
        """An empty cache."""
        self._decoder.reset()

    def refill(self, frames: int) -> None:
        """As after so many frames: nothing before the last ones is left anyway."""
        shape = self.model.shape
        self.fill(min(frames * (shape.frame_tokens + 1), 2 * shape.capacity))

    def make_room(self, tokens: int) -> None:
        """Evict until so many tokens fit."""
        self._decoder.make_room(tokens)

    def note(self, kind: str, tokens: int) -> None:
        """So many tokens were read: a frame, or a part of a text."""
        self._decoder.add(self._noted(kind, tokens))

    def read(self, embeds: Tensor) -> Tensor:
        """Logits behind these embeds, in the computer's memory, where a run has them."""
        return torch.from_numpy(self._decoder.read(embeds[0].float().cpu().numpy()).copy())

    def step(self, token: int) -> int:
        """The likeliest token behind this one."""
        return int(self._decoder.step(token).argmax())

    def look(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Scores and embeds of one picture."""
        held = self._tensors
        with torch.cuda.stream(self._stream):
            held["pixels"].copy_(pixels, non_blocking=True)
            if not self._context.execute_async_v3(self._stream.cuda_stream):
                raise EngineUnusable("the engine of the watch path broke off")
            held["conv"].copy_(held["new_conv"])
            held["ssm"].copy_(held["new_ssm"])
        self._stream.synchronize()
        return held["scores"], held["embeds"]

    def _bound(self, model: Random) -> dict[str, Tensor]:
        """A tensor for each name of the engine, at whose address it reads or writes."""
        side, device = model.shape.side_px, model.device
        pixels = torch.zeros(1, side, side, 3, dtype=torch.uint8, device=device)
        with torch.inference_mode():
            outputs = model.watch(pixels, *self.state)
        tensors = dict(zip(WATCH_INPUTS, (pixels, *self.state), strict=True))
        tensors |= dict(zip(WATCH_OUTPUTS, (one.clone() for one in outputs), strict=True))
        for index in range(self._engine.num_io_tensors):
            name = self._engine.get_tensor_name(index)
            self._context.set_tensor_address(name, tensors[name].data_ptr())
        return tensors


def imported(module: Module) -> Any:
    """The module of this name.

    Raises:
        BackendMissing: it is not installed, or its libraries are not there.
    """
    try:
        return importlib.import_module(module)
    except (ImportError, OSError) as error:
        raise BackendMissing(f"{NAMES[module]} cannot be imported: {error}") from error


def kept_engine(trt: Any, graph: Path, capability: tuple[int, int]) -> Path:
    """The engine of a graph for a GPU, built if there is none of this version yet.

    Args:
        trt: the module.
        capability: of the GPU, as (8, 9).

    Raises:
        EngineUnusable: the parser or the builder refuses; in their words.
    """
    digest = hashlib.sha256(graph.read_bytes()).hexdigest()[:16]
    sm = f"sm{capability[0]}{capability[1]}"
    path = graph.with_name(f"{graph.stem}.{trt.__name__}-{trt.__version__}.{sm}.{digest}.engine")
    if not path.exists():
        beside = path.with_name(f".{path.name}")
        beside.write_bytes(built_engine(trt, graph, capability))
        beside.replace(path)
    return path


def built_engine(trt: Any, graph: Path, capability: tuple[int, int]) -> bytes:
    """An engine of fixed shapes; see `kept_engine`."""
    log = logger(trt)
    log.lines.clear()
    builder = trt.Builder(log)
    network = builder.create_network(_strongly_typed(trt))
    parser = trt.OnnxParser(network, log)
    if not parser.parse_from_file(str(graph)):
        told = "; ".join(str(parser.get_error(index)) for index in range(parser.num_errors))
        raise EngineUnusable(f"{graph.name} cannot be parsed: {told[:300]}")
    config = builder.create_builder_config()
    target = getattr(getattr(trt, "ComputeCapability", None), "SM{}{}".format(*capability), None)
    if hasattr(config, "num_compute_capabilities"):  # TensorRT-RTX alone builds for other GPUs
        if target is None:
            raise EngineUnusable(
                f"{NAMES[trt.__name__]} {trt.__version__} knows no GPU of compute capability "
                f"{capability[0]}.{capability[1]}"
            )
        config.num_compute_capabilities = 1
        config.set_compute_capability(target, 0)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise EngineUnusable(f"{graph.name} cannot be built: {last_words(trt)}")
    return bytes(plan)


def _strongly_typed(trt: Any) -> int:
    """The flag of TensorRT 10; later ones and TensorRT-RTX know nothing else."""
    flag = getattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
    return 0 if flag is None else 1 << int(flag)


_LOGGERS: dict[str, Any] = {}


def logger(trt: Any) -> Any:
    """The one logger of the process: a module uses the first that it gets, and no other."""
    if trt.__name__ not in _LOGGERS:

        class Lines(trt.ILogger):
            """Keeps what is said at the level of errors."""

            def __init__(self) -> None:
                trt.ILogger.__init__(self)
                self.lines: list[str] = []

            def log(self, severity: Any, message: str) -> None:
                """One line."""
                if severity <= trt.ILogger.Severity.ERROR:
                    self.lines.append(message)

        _LOGGERS[trt.__name__] = Lines()
    return _LOGGERS[trt.__name__]


def last_words(trt: Any) -> str:
    """The last error that was logged."""
    return (logger(trt).lines or ["no reason was given"])[-1][:300]
