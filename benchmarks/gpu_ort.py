"""ONNX Runtime as a peer: graphs bound to arrays that stay on the device, over the bounded cache.

The same code runs with the provider cpu, where the device's memory is the computer's.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from gpu_graphs import WATCH_INPUTS, WATCH_OUTPUTS, Precision, decoder_graph, watch_graph
from gpu_models import Random
from gpu_torch import ArenaPeer, dtype_name
from torch import Tensor

from edgestream.runtime.decoder_call import TOTAL, USED
from edgestream.runtime.engines.ort_session import PROVIDERS
from edgestream.runtime.errors import BackendMissing, EngineUnusable

TYPES = {"tensor(float)": torch.float32, "tensor(float16)": torch.float16,
         "tensor(int32)": torch.int32, "tensor(uint8)": torch.uint8}  # fmt: skip
NUMPY = {torch.float32: np.float32, torch.float16: np.float16, torch.int32: np.int32,
         torch.uint8: np.uint8}  # fmt: skip


class Bound:
    """A session whose inputs and outputs are tensors of PyTorch, at their addresses.

    Args:
        path: of the graph.
        device: where the tensors lie; decides the provider.

    Raises:
        BackendMissing: ONNX Runtime was not built with the provider.
        EngineUnusable: the provider stepped aside, or cannot run the graph.
    """

    def __init__(self, path: Path, device: torch.device) -> None:
        self.session = _session(path, device)
        self.types = {one.name: TYPES[one.type] for one in self._nodes()}
        self.shapes = {one.name: one.shape for one in self._nodes()}
        self._binding = self.session.io_binding()
        self._is_cuda = device.type == "cuda"
        self._held: dict[str, Tensor] = {}

    def bind(self, name: str, tensor: Tensor, *, is_output: bool = False) -> None:
        """Read this input from, or write this output to, where the tensor lies."""
        assert tensor.is_contiguous() and tensor.dtype == self.types[name], name
        bind = self._binding.bind_output if is_output else self._binding.bind_input
        place = tensor.device.type, tensor.device.index or 0
        bind(name, *place, NUMPY[tensor.dtype], tuple(tensor.shape), tensor.data_ptr())
        self._held[name + (" out" if is_output else "")] = tensor

    def run(self) -> None:
        """Run; PyTorch's work on the tensors is over before, and this one's after."""
        if self._is_cuda:
            torch.cuda.current_stream().synchronize()
        self.session.run_with_iobinding(self._binding)

    def _nodes(self) -> list[Any]:
        return [*self.session.get_inputs(), *self.session.get_outputs()]


class OrtPeer(ArenaPeer):
    """ONNX Runtime: the watch path, and the decoder that `export --target cuda` writes.

    Args:
        model: whose weights the graphs have; its embedding table is read by PyTorch.
        folder: where graphs are kept.
        precision: of the decoder's matrices.
    """

    is_exact: ClassVar[bool] = True

    def __init__(self, model: Random, folder: Path, precision: Precision) -> None:
        kind = model.device.type
        refuse_without(kind)
        decoder = decoder_graph(model, folder, precision)
        self._decoder = Bound(decoder, model.device)
        cache = self._decoder.types["past_key_values.0.key"]
        super().__init__(model, cache)
        words = precision if precision == "int4" else dtype_name(model.dtype)
        self.label = f"ONNX Runtime {kind}, {words}, bounded cache"
        self._watch = Bound(watch_graph(model, folder), model.device)
        self._graph_bytes = sum(one.stat().st_size for one in decoder.parent.iterdir())
        self._used = torch.zeros(1, dtype=torch.int32, device=model.device)
        # This one is read in the computer's memory, and constant: the length of the arrays.
        self._total = torch.tensor([model.shape.capacity], dtype=torch.int32)
        self._logits = self._empty("logits", self._decoder, {})
        self._bind_cache()
        self._bind_watch()

    @property
    def n_bytes(self) -> int:
        """Of graphs and cache."""
        seen = sum(one.nbytes for one in self.model.watch.parameters())
        return self._graph_bytes + seen + self.arena.block.nbytes

    def look(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Scores and embeds of one picture."""
        self._pixels_on_device.copy_(pixels, non_blocking=True)
        self._watch.run()
        for name in ("conv", "ssm"):
            self._seen_out[name].copy_(self._seen_out[f"new_{name}"])
        return self._seen_out["scores"], self._seen_out["embeds"]

    def read(self, embeds: Tensor) -> Tensor:
        """Logits behind these embeds."""
        bound, end = self._decoder, self.length + embeds.shape[1]
        bound.bind("inputs_embeds", embeds.float().contiguous())
        self._used.fill_(end - 1)
        bound.run()
        return self._logits[0, -1]

    def step(self, token: int) -> int:
        """The likeliest token behind this one."""
        row = self.model.embed(torch.tensor([[token]], device=self.model.device))
        return int(self.read(row).argmax().item())

    def _bind_cache(self) -> None:
        """Past and present are the same memory: the slots of the arena."""
        for layer, pair in enumerate(self.arena.block):
            for name, part in zip(("key", "value"), pair, strict=True):
                self._decoder.bind(f"past_key_values.{layer}.{name}", part)
                self._decoder.bind(f"present.{layer}.{name}", part, is_output=True)
        self._decoder.bind("logits", self._logits, is_output=True)
        self._decoder.bind(USED, self._used)
        self._decoder.bind(TOTAL, self._total)

    def _bind_watch(self) -> None:
        side = self.model.shape.side_px
        device = self.model.device
        self._pixels_on_device = torch.zeros(1, side, side, 3, dtype=torch.uint8, device=device)
        self._seen_out = dict(zip(("conv", "ssm"), self.state, strict=True))
        for name in WATCH_OUTPUTS:
            self._seen_out[name] = self._empty(name, self._watch, {})
            self._watch.bind(name, self._seen_out[name], is_output=True)
        inputs = (self._pixels_on_device, self._seen_out["conv"], self._seen_out["ssm"])
        for name, tensor in zip(WATCH_INPUTS, inputs, strict=True):
            if name in self._watch.types:
                self._watch.bind(name, tensor)

    def _empty(self, name: str, bound: Bound, sizes: dict[str, int]) -> Tensor:
        shape = [one if isinstance(one, int) else 1 for one in bound.shapes[name]]
        return torch.zeros(shape, dtype=bound.types[name], device=self.model.device)


class OrtInt4Peer(OrtPeer):
    """The same with 4-bit weights: its logits are not those of the weights as they are."""

    is_exact: ClassVar[bool] = False


def refuse_without(kind: str) -> None:
    """Refuse where ONNX Runtime has no provider for a kind of device.

    Raises:
        BackendMissing: it has none, or is not installed.
    """
    try:
        import onnxruntime as ort  # type: ignore[import-untyped]
    except ImportError as error:
        raise BackendMissing(f"ONNX Runtime cannot be imported: {error}") from error
    if kind == "cuda" and hasattr(ort, "preload_dlls"):
        ort.preload_dlls()
    if PROVIDERS[kind] not in ort.get_available_providers():
        raise BackendMissing(f"the installed ONNX Runtime {ort.__version__} has no {kind}")


def _session(path: Path, device: torch.device) -> Any:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    wanted: Any = PROVIDERS[device.type]
    if device.type == "cuda":
        # Not disable_cpu_ep_fallback: ONNX Runtime puts the arithmetic of shapes on the CPU on
        # purpose. That the provider is the first one afterwards says that it did not step aside.
        wanted = (wanted, {"device_id": str(device.index or 0)})
    else:
        options.intra_op_num_threads = torch.get_num_threads()
    try:
        session = ort.InferenceSession(str(path), options, providers=[wanted], enable_fallback=0)
    except Exception as error:  # ONNX Runtime's exceptions have no common parent
        words = " ".join(str(error).split()).rsplit("[ONNXRuntimeError] : ", 1)[-1]
        raise EngineUnusable(f"{path.name} cannot be opened: {words[:200]}") from error
    ran_on = session.get_providers()[0]
    if ran_on != PROVIDERS[device.type]:
        raise EngineUnusable(f"{path.name}: got {ran_on}, expected {PROVIDERS[device.type]}")
    return session
