"""Graphs for TensorRT of what is not the decoder: in float16 inside, float32 at their borders."""

from __future__ import annotations

from pathlib import Path

import onnx
from onnx import ModelProto, TensorProto, helper

from .evict_graph import evict_graph
from .onnx_from_torch import LARGEST_INSIDE, without_traces
from .quiet import quiet

CACHES = ("key", "value", "kept_key", "kept_value")


def half_graph(source: ModelProto, target: Path) -> None:
    """Write a float32 graph with float16 inside: TensorRT takes the types that stand there.

    Args:
        source: float32, weights inside; it is changed.
        target: .onnx to write; weights of more than LARGEST_INSIDE bytes go beside it.

    Cost: the weights twice in memory.
    """
    from onnxruntime.transformers.float16 import (  # type: ignore[import-untyped]
        convert_float_to_float16,
    )

    is_large = source.ByteSize() > LARGEST_INSIDE
    with quiet():  # it tells of each number that is too small for float16
        half = convert_float_to_float16(source, keep_io_types=True, disable_shape_infer=is_large)
    half = without_traces(half)
    if not is_large:
        onnx.save(half, str(target))
        return
    beside = target.with_name(f"{target.name}.data")
    beside.unlink(missing_ok=True)  # onnx would append to it
    onnx.save(half, str(target), save_as_external_data=True, location=beside.name)
    beside.chmod(0o644)  # onnx makes it for its owner alone


def trt_evict_graph(kv_heads: int, head_dim: int, capacity: int) -> ModelProto:
    """The evict graph over a cache of fixed length in float16; keys are turned in float32.

    Args:
        kv_heads: heads of keys and values.
        head_dim: even.
        capacity: slots of the cache.
    """
    model = evict_graph(kv_heads, head_dim)
    graph = model.graph
    for value in (*graph.input, *graph.output):
        if value.name in CACHES:
            value.type.tensor_type.elem_type = TensorProto.FLOAT16
        if value.name in CACHES[:2]:
            value.type.tensor_type.shape.dim[2].dim_value = capacity
    for node in graph.node:
        if node.output[0] == "old_key":
            node.output[0] = "old_key.half"
        if node.output[0] == "kept_key":
            node.output[0] = "kept_key.whole"
    nodes = list(graph.node)
    first = next(at for at, node in enumerate(nodes) if "old_key" in node.input)
    nodes.insert(first, helper.make_node("Cast", ["old_key.half"], ["old_key"],
                                         to=TensorProto.FLOAT))  # fmt: skip
    nodes.append(helper.make_node("Cast", ["kept_key.whole"], ["kept_key"], to=TensorProto.FLOAT16))
    del graph.node[:]
    graph.node.extend(nodes)
    onnx.checker.check_model(model)
    return model
