"""The variants of a bundle for TensorRT and TensorRT-RTX: their graphs and manifest entries.

Both providers take the same files. A graph is compiled once for each phase: reading one token again
and again, or many at once. The gate is small and carries its state along: it stays float32, and is
the file of the CPU's variant.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

import onnx

from ..models.family import Checkpoint
from ..quant.llm_words import variant_name
from ..quant.schemes import FP32
from ..runtime.engines.ort import OrtBackend
from ..runtime.errors import SchemeUnknown
from .decoder_plan import decoder_schemes
from .exact_backends import PairwiseBackend
from .graphs import Graph, Schemes, Tell
from .onnx_from_torch import onnx_from_torch, remove_graph
from .part_inputs import TracedPart, traced_parts
from .trt_decoder import check_trt_schemes, write_trt_decoder
from .trt_graph import TOKENS
from .trt_int8 import symmetric_graph
from .trt_parts import half_graph, trt_evict_graph

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
class TrtGraph(Graph):
    """One written graph for TensorRT.

    Attributes:
        phases: what it is compiled for.
        source: the same part for the CPU; of the decoder, the codes are its.
    """

    phases: tuple[TrtPhase, ...] = (WHOLE,)
    source: Path = Path()

    @property
    def is_static(self) -> bool:
        """It multiplies in int8, between pairs with ranges of the calibration set."""
        return self.scheme.ranges is not None

    def backend(self, threads: int = 1) -> OrtBackend:
        """ONNX Runtime's CPU in the place of TensorRT."""
        return (PairwiseBackend if self.is_static else OrtBackend)("cpu", threads)

    def facts(self) -> dict[str, Any]:
        """Its entry under `variants` in the manifest; opens it once to read its borders."""
        facts = Graph.facts(self)
        if self.is_static:
            facts["scheme"] = self.scheme.as_json()
        if self.role in ("gate", "evict"):  # no weights, or as they were
            del facts["scheme"]
        data = [file.name for file in self.files()[1:]]
        facts["phases"] = [
            {
                "name": phase.name,
                "file": self.path.name,
                "data": data,
                "sizes": {name: list(size) for name, size in phase.sizes.items()},
            }
            for phase in self.phases
        ]
        return facts


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
    checkpoint: Checkpoint,
    graphs: Sequence[Graph],
    provider: str,
    folder: Path,
    capacity: int,
    tell: Tell,
) -> tuple[TrtGraph, ...]:
    """Write the graphs of all parts beside those for the CPU.

    Args:
        checkpoint: full precision.
        graphs: for the CPU, as written: the decoder's codes are taken from its file, and of static
            int8 codes and ranges.
        provider: tensorrt or tensorrt-rtx; the files are the same.
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
        tell(f"{graph.role} ({provider})")
        if graph.role == "gate":
            made = TrtGraph("gate", "fp32", graph.path, graph.scheme)
        elif graph.role == "evict":
            made = _evict(checkpoint, folder, capacity)
        elif graph.role == "decoder":
            made = _decoder(checkpoint, graph, folder, capacity)
        elif graph.scheme.ranges is not None:
            made = _static(graph, folder)
        else:
            made = _half(graph.role, parts[graph.role], folder)
        variant = f"{provider}-{made.variant}"
        found.append(replace(made, variant=variant, provider=provider, source=graph.path))
    return tuple(found)


def _half(role: str, part: TracedPart, folder: Path) -> TrtGraph:
    work, path = folder / f"{role}.float.onnx", folder / f"{role}.trt-fp16.onnx"
    onnx_from_torch(part.module, list(part.inputs.values()), list(part.inputs), part.outputs, work)
    half_graph(onnx.load(str(work)), path)
    remove_graph(work)
    return TrtGraph(role, "fp16", path, FP32)


def _static(graph: Graph, folder: Path) -> TrtGraph:
    name = graph.scheme.name
    path = folder / f"{graph.role}.trt-{name}.onnx"
    half_graph(symmetric_graph(graph.loaded()), path)
    return TrtGraph(graph.role, name, path, graph.scheme)


def _evict(checkpoint: Checkpoint, folder: Path, capacity: int) -> TrtGraph:
    shape, path = checkpoint.decoder_weights().shape, folder / "evict.trt-fp16.onnx"
    onnx.save(trt_evict_graph(shape.kv_heads, shape.head_dim, capacity), str(path))
    size = (1, capacity // 2, capacity)
    phase = TrtPhase("any", {"kept": size, "positions": size})
    return TrtGraph("evict", "fp16", path, FP32, phases=(phase,))


def _decoder(checkpoint: Checkpoint, graph: Graph, folder: Path, capacity: int) -> TrtGraph:
    words = "fp16" if graph.is_float else variant_name(graph.scheme, graph.exceptions)
    path = folder / f"decoder.trt-{words}.onnx"
    schemes = decoder_schemes(checkpoint.decoder, graph.scheme, graph.exceptions)
    weights = checkpoint.decoder_weights()
    write_trt_decoder(weights, schemes, graph.path, path, capacity, "float16")
    n_bytes = path.with_name(f"{path.name}.data").stat().st_size
    phases = decoder_phases(n_bytes, capacity)
    return TrtGraph(
        "decoder", words, path, graph.scheme, exceptions=graph.exceptions, phases=phases
    )


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
