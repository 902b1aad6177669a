"""CUDA variants of all parts, each with a twin: the same graph typed float32, for a CPU to prove.

The twins lie beside the graphs until the proof is done, and are no part of a bundle.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import onnx
from onnx import ModelProto

from ..models.family import Checkpoint
from ..quant.llm_words import variant_name
from ..quant.schemes import scheme_named
from .cuda_decoder import write_cuda_decoder
from .cuda_evict import cuda_evict_graph
from .graphs import Graph
from .onnx_from_torch import LARGEST_INSIDE, onnx_from_torch, remove_graph
from .part_inputs import TracedPart, traced_parts

Tell = Callable[[str], None]
FLOAT16 = "cuda-fp16"
"""Id of the variants whose weights are float16."""


@dataclass(frozen=True, slots=True, eq=False)
class CudaGraph:
    """A part for CUDA.

    Attributes:
        graph: typed float16; stays.
        twin: the same typed float32, until `remove_twins`.
    """

    graph: Graph
    twin: Graph


def write_cuda_graphs(
    checkpoint: Checkpoint, cpu: Sequence[Graph], folder: Path, tell: Tell
) -> tuple[CudaGraph, ...]:
    """Write every part for CUDA beside its CPU variant.

    Vision, gate and connector have float16 weights whatever the CPU's scheme: ONNX Runtime's CUDA
    has no kernel for matrices of int8. The decoder keeps its scheme; its matrices are read with
    float16 activations.

    Args:
        checkpoint: full precision.
        cpu: the written CPU graphs of all parts.
        folder: where they lie.
        tell: called with the name of each part before it is written.

    Raises:
        EngineError: a part cannot be turned into ONNX, or a weight is beyond float16.

    Cost: vision is traced once more; the decoder takes no more memory than its largest matrix.
    """
    made: list[CudaGraph] = []
    for role, part in traced_parts(checkpoint).items():
        tell(f"{role} (cuda)")
        made.append(_traced(role, part, folder))
    for graph in cpu:
        if graph.role == "decoder":
            tell("decoder (cuda)")
            made.append(_decoder(graph))
    shape = checkpoint.decoder_weights().shape
    made.append(_evict(shape.kv_heads, shape.head_dim, folder))
    return tuple(made)


def remove_twins(graphs: Sequence[CudaGraph]) -> None:
    """Remove what was written for the proof alone."""
    for one in graphs:
        remove_graph(one.twin.path)


def _traced(role: str, part: TracedPart, folder: Path) -> CudaGraph:
    path, twin = folder / f"{role}.{FLOAT16}.onnx", folder / f"{role}.cuda.float.onnx"
    onnx_from_torch(part.module, list(part.inputs.values()), list(part.inputs), part.outputs, twin)
    _save(_float16(onnx.load(str(twin))), path)
    exact = scheme_named("fp32")
    graph = Graph(role, FLOAT16, path, exact, provider="cuda")
    return CudaGraph(graph, replace(graph, path=twin))


def _float16(model: ModelProto) -> ModelProto:
    """The graph in float16, changed in place; its inputs and outputs stay float32.

    The exporter tells the type of every tensor, so nothing is inferred, which a graph of more than
    2 GiB would not allow.
    """
    from onnxruntime.transformers.float16 import (  # type: ignore[import-untyped]
        convert_float_to_float16,
    )
    from onnxruntime.transformers.onnx_model import OnnxModel  # type: ignore[import-untyped]

    wrapped = OnnxModel(
        convert_float_to_float16(model, keep_io_types=True, disable_shape_infer=True)
    )
    wrapped.topological_sort()  # casts at the borders were put at the end
    sorted_model: ModelProto = wrapped.model
    return sorted_model


def _save(model: ModelProto, path: Path) -> None:
    if model.ByteSize() <= LARGEST_INSIDE:
        onnx.save(model, str(path))
        return
    onnx.save(model, str(path), save_as_external_data=True, location=f"{path.name}.data")
    path.with_name(f"{path.name}.data").chmod(0o644)  # onnx makes it for its owner alone


def _decoder(cpu: Graph) -> CudaGraph:
    words = "fp16" if cpu.is_float else variant_name(cpu.scheme, cpu.exceptions)
    folder = cpu.path.parent
    path, twin = folder / f"decoder.cuda-{words}.onnx", folder / "decoder.cuda.float.onnx"
    write_cuda_decoder(cpu.path, path, "float16")
    write_cuda_decoder(cpu.path, twin, "float32")
    graph = replace(cpu, variant=f"cuda-{words}", path=path, provider="cuda")
    return CudaGraph(graph, replace(graph, path=twin))


def _evict(kv_heads: int, head_dim: int, folder: Path) -> CudaGraph:
    path, twin = folder / f"evict.{FLOAT16}.onnx", folder / "evict.cuda.float.onnx"
    onnx.save(cuda_evict_graph(kv_heads, head_dim, "float16"), str(path))
    onnx.save(cuda_evict_graph(kv_heads, head_dim, "float32"), str(twin))
    graph = Graph("evict", FLOAT16, path, scheme_named("fp32"), provider="cuda")
    return CudaGraph(graph, replace(graph, path=twin))
