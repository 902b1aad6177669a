"""The decoder of `export --target tensorrt` as a run has it: engine, cache and evictions.

Everything is the product's own: the graph's writer, the backend that compiles and loads it, the
call whose cache stays on the device, and evictions, which go through the host.
"""

from __future__ import annotations

import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from gpu_arena import policy_of
from gpu_graphs import dtype_of
from gpu_models import Random
from onnx import ValueInfoProto, helper

from edgestream.export.layer_writer import write_layers
from edgestream.export.trt_decoder import write_trt_decoder
from edgestream.export.trt_variants import LARGEST_CHUNK, decoder_phases
from edgestream.models.decoder_weights import ModuleWeights
from edgestream.quant.schemes import FP32
from edgestream.runtime.arena import Arena
from edgestream.runtime.engines.lane import OpenLane
from edgestream.runtime.engines.trt import TrtBackend
from edgestream.runtime.eviction import Span, keep_slots, kept_spans
from edgestream.runtime.language_model import LanguageModel
from edgestream.runtime.manifest import CacheShape, Positions, TensorSpec, Variant
from edgestream.runtime.token_rows import TokenRows
from edgestream.runtime.values import Float32


class TrtDecoder:
    """A random model's decoder behind TensorRT.

    Args:
        model: whose decoder it is.
        folder: where graph and engines are kept.
        backend: that compiles and opens it.

    Attributes:
        spans: what is in the cache, in the order of the slots.
        n_bytes: of weights and cache.

    Raises:
        EngineError: it cannot be compiled or opened.
    """

    def __init__(self, model: Random, folder: Path, backend: TrtBackend) -> None:
        graph = trt_decoder_graph(model, folder)
        weights, capacity = ModuleWeights(model.decoder), model.shape.capacity
        shape = weights.shape
        self._engine = backend.open(graph, variant_of(graph, backend.provider, capacity))
        cache = CacheShape(shape.layers, shape.kv_heads, shape.head_dim, capacity)
        self._arena = Arena(cache, Positions(1, shape.theta), dtype=dtype_of(model))
        rows: Any = model.decoder.get_input_embeddings().weight.detach()
        table = TokenRows(rows.to("cpu").numpy())
        self._words = LanguageModel(
            self._engine, self._arena, table, OpenLane(), chunk_tokens=min(LARGEST_CHUNK, capacity)
        )
        self._policy = policy_of(capacity)
        self.spans: list[Span] = []
        self.n_bytes = _data_of(graph).stat().st_size + self._arena.n_bytes

    @property
    def length(self) -> int:
        """Slots in use."""
        return self._arena.length

    def reset(self) -> None:
        """An empty cache."""
        self.spans = []
        self._words.evict(np.zeros(0, np.int64))

    def make_room(self, need: int) -> None:
        """Evict whole spans until so many slots are free."""
        if self.length + need <= self._arena.capacity:
            return
        kept = kept_spans(self.spans, self._policy, need, self._arena.capacity)
        self._words.evict(keep_slots(self.spans, kept))
        self.spans = [self.spans[index] for index in kept]

    def add(self, span: Span) -> None:
        """What was read; a text goes on with the text before it."""
        last = self.spans[-1] if self.spans else None
        if last is not None and last.kind == span.kind == "text":
            span = Span("text", last.slots + span.slots, last.time_s)
            self.spans.pop()
        self.spans.append(span)

    def read(self, embeds: Float32) -> Float32:
        """Logits behind these embeds, (tokens, hidden); the next call writes over them."""
        return self._words.append(embeds)

    def step(self, token: int) -> Float32:
        """Logits behind a token; the next call writes over them."""
        return self._words.step(token)


def trt_decoder_graph(model: Random, folder: Path) -> Path:
    """The decoder's graph, typed as the model is, with weights as they are.

    Cost: a copy of the weights in float32 on disk while it lasts, and the graph.
    """
    path = folder / "decoder-trt" / "decoder.trt.onnx"
    if not path.exists():
        work = folder / "decoder-trt.work"
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir(parents=True)
        weights = ModuleWeights(model.decoder)
        write_layers(weights, FP32, work, "cpu")
        schemes = {name: FP32 for name, size in weights.shape.parameters().items() if len(size) > 1}
        capacity = model.shape.capacity
        write_trt_decoder(
            weights, schemes, work / "cpu.onnx", work / path.name, capacity, dtype_of(model)
        )
        for name in ("cpu.onnx", "cpu.onnx.data"):
            (work / name).unlink()
        work.rename(path.parent)
    return path


def variant_of(graph: Path, provider: str, capacity: int) -> Variant:
    """What a manifest would say of the graph; nothing is opened for that."""
    model = onnx.load(str(graph), load_external_data=False).graph
    phases = decoder_phases(_data_of(graph).stat().st_size, capacity)
    listed = [{**asdict(phase), "file": graph.name} for phase in phases]
    inputs, outputs = (tuple(map(_spec, side)) for side in (model.input, model.output))
    form = ("decoder", provider, graph.name, "pending-device", "float32")
    return Variant(*form, inputs=inputs, outputs=outputs, extra={"phases": listed})


def _spec(value: ValueInfoProto) -> TensorSpec:
    tensor = value.type.tensor_type
    dtype = helper.tensor_dtype_to_np_dtype(tensor.elem_type).name
    shape = tuple(size.dim_param or size.dim_value for size in tensor.shape.dim)
    return TensorSpec(value.name, dtype, shape)


def _data_of(graph: Path) -> Path:
    return graph.with_name(f"{graph.name}.data")
