"""The variants of a bundle for TensorRT and TensorRT-RTX: their graphs and manifest entries.

Both providers share the files. A graph is compiled once for each phase: reading one token again
and again, or many at once. The gate is small and carries its state along: it stays float32, and is
the file of the CPU's variant.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import onnx

from ..models.family import Checkpoint
from ..quant.llm_words import exceptions_as_json, variant_name
from ..runtime.engines.ort import OrtBackend
from ..runtime.errors import SchemeUnknown
from .decoder_plan import decoder_schemes
from .graphs import Graph, Schemes, Tell
from .onnx_from_torch import onnx_from_torch, remove_graph
from .part_inputs import TracedPart, traced_parts
from .trt_decoder import check_trt_schemes, write_trt_decoder
from .trt_graph import TOKENS
from .trt_parts import half_graph, trt_evict_graph

PROVIDERS = ("tensorrt", "tensorrt-rtx")
CHUNK, LARGEST_CHUNK = 16, 64
"""Tokens that are read in one go: as a rule, and at most."""
LARGEST_TWICE = 1 << 30
"""Bytes of weights; an engine holds them itself, so of a larger graph there is one for all."""
Range: TypeAlias = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class TrtPhase:
    """Sizes that one engine of a graph is compiled for.

    Attributes:
        name: decode, append or any.
        sizes: name of a size → least, usual, greatest.
    """

    name: str
    sizes: Mapping[str, Range]


WHOLE = TrtPhase("any", {})
"""Of a graph whose sizes are fixed."""


@dataclass(frozen=True, slots=True, eq=False)
class TrtGraph:
    """One written graph, for both providers.

    Attributes:
        role: vision, connector, gate, decoder or evict.
        words: how it is kept, for its id: `fp16`, `int4-64`.
        path: its file.
        phases: what it is compiled for.
        source: the same part for the CPU.
    """

    role: str
    words: str
    path: Path
    phases: tuple[TrtPhase, ...]
    source: Graph

    def variant(self, provider: str) -> str:
        """Its id for a provider."""
        return f"{provider}-{self.words}"

    def files(self) -> tuple[Path, ...]:
        """The graph and its external data."""
        beside = self.path.with_name(f"{self.path.name}.data")
        return (self.path, beside) if beside.exists() else (self.path,)

    def facts(self, provider: str) -> dict[str, Any]:
        """Its entry under `variants` in the manifest; opens it once to read its borders."""
        with OrtBackend("cpu").open(self.path) as engine:
            borders = {
                side: [
                    {"name": spec.name, "dtype": spec.dtype, "shape": list(spec.shape)}
                    for spec in specs
                ]
                for side, specs in (("inputs", engine.inputs), ("outputs", engine.outputs))
            }
        facts: dict[str, Any] = {
            "id": self.variant(provider),
            "provider": provider,
            "file": self.path.name,
            "proof": "pending-device",
            "io_dtype": "float16" if self.role == "evict" else "float32",
            **borders,
        }
        if self.role in ("decoder", "evict"):
            facts["kv_dtype"] = "float16"
        facts |= self._phases()
        return facts | self._scheme()

    def _phases(self) -> dict[str, Any]:
        told = [
            {
                "name": phase.name,
                "file": self.path.name,
                "sizes": {name: list(size) for name, size in phase.sizes.items()},
            }
            for phase in self.phases
        ]
        return {"phases": told, "data": [file.name for file in self.files()[1:]]}

    def _scheme(self) -> dict[str, Any]:
        if self.role != "decoder" or self.source.is_float:
            return {}
        # Codes are those of the CPU's variant; what they are multiplied with is not rounded.
        scheme = {**self.source.scheme.as_json(), "activations": "float16"}
        if self.source.exceptions:
            scheme["except"] = [
                {**one, "activations": "float16"}
                for one in exceptions_as_json(self.source.exceptions)
            ]
        return {"scheme": scheme}


def check_trt(checkpoint: Checkpoint, schemes: Schemes) -> None:
    """Refuse before anything heavy what TensorRT's operators cannot hold.

    Raises:
        SchemeUnknown: of a matrix; or the cache that the CPU's variant shall have.
    """
    if schemes.cache != "float32":
        raise SchemeUnknown(
            f"got a cache of {schemes.cache}, expected float32: TensorRT's variant has one of "
            "float16 anyway, and is proven against a CPU variant that rounds nothing in its cache",
            hint="leave --kv out",
        )
    each = decoder_schemes(checkpoint.decoder, schemes.decoder, schemes.exceptions)
    check_trt_schemes(checkpoint.decoder_weights().shape, each)


def write_trt_graphs(
    checkpoint: Checkpoint, graphs: Sequence[Graph], folder: Path, capacity: int, tell: Tell
) -> tuple[TrtGraph, ...]:
    """Write the graphs of all parts beside those for the CPU.

    Args:
        checkpoint: full precision.
        graphs: for the CPU, as written; the decoder's codes are taken from its file.
        folder: gets the files.
        capacity: slots of the cache.
        tell: called with the name of each part before it is written.

    Raises:
        EngineError: a part cannot be turned into ONNX.
        SchemeUnknown: as `check_trt` says.

    Cost: traces vision and connector once more; of the decoder, seconds and its largest matrix.
    """
    parts, found = traced_parts(checkpoint), []
    for graph in graphs:
        tell(graph.role)
        if graph.role == "gate":
            found.append(TrtGraph("gate", "fp32", graph.path, (WHOLE,), graph))
        elif graph.role == "evict":
            found.append(_evict(checkpoint, graph, folder, capacity))
        elif graph.role == "decoder":
            found.append(_decoder(checkpoint, graph, folder, capacity))
        else:
            found.append(_half(parts[graph.role], graph, folder))
    return tuple(found)


def _half(part: TracedPart, graph: Graph, folder: Path) -> TrtGraph:
    work, path = folder / f"{graph.role}.float.onnx", folder / f"{graph.role}.trt-fp16.onnx"
    onnx_from_torch(part.module, list(part.inputs.values()), list(part.inputs), part.outputs, work)
    half_graph(onnx.load(str(work)), path)
    remove_graph(work)
    return TrtGraph(graph.role, "fp16", path, (WHOLE,), graph)


def _evict(checkpoint: Checkpoint, graph: Graph, folder: Path, capacity: int) -> TrtGraph:
    shape, path = checkpoint.decoder_weights().shape, folder / "evict.trt-fp16.onnx"
    onnx.save(trt_evict_graph(shape.kv_heads, shape.head_dim, capacity), str(path))
    size = (1, capacity // 2, capacity)
    phase = TrtPhase("any", {"kept": size, "positions": size})
    return TrtGraph("evict", "fp16", path, (phase,), graph)


def _decoder(checkpoint: Checkpoint, graph: Graph, folder: Path, capacity: int) -> TrtGraph:
    words = "fp16" if graph.is_float else variant_name(graph.scheme, graph.exceptions)
    path = folder / f"decoder.trt-{words}.onnx"
    schemes = decoder_schemes(checkpoint.decoder, graph.scheme, graph.exceptions)
    weights = checkpoint.decoder_weights()
    write_trt_decoder(weights, schemes, graph.path, path, capacity, "float16")
    n_bytes = path.with_name(f"{path.name}.data").stat().st_size
    return TrtGraph("decoder", words, path, decoder_phases(n_bytes, capacity), graph)


def decoder_phases(n_bytes: int, capacity: int) -> tuple[TrtPhase, ...]:
    """What a decoder is compiled for.

    Args:
        n_bytes: of its weights.
        capacity: slots of its cache.
    """
    most = min(LARGEST_CHUNK, capacity)
    if n_bytes > LARGEST_TWICE:
        return (TrtPhase("any", {TOKENS: (1, CHUNK, most)}),)
    return (
        TrtPhase("decode", {TOKENS: (1, 1, 1)}),
        TrtPhase("append", {TOKENS: (2, CHUNK, most)}),
    )
