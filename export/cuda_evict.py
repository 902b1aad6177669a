"""The evict graph as CUDA runs it: one layer's cache, turned where it lies.

Out slot j is slot keep[j], its key turned by what cos and sin say, and zero where `stays` is false.
All sizes are those of the whole cache, so that nothing depends on how much is kept, and the caller
may bind the outputs to the memory of the inputs: what is read from them first goes into tensors of
the graph's own. So no output may come straight from a Gather; `Where` stands before both.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from .cuda_decoder import FloatType
from .evict_graph import OPSET

INPUTS = ("key", "value", "keep", "stays", "cos", "sin")
OUTPUTS = ("kept_key", "kept_value")


def cuda_evict_graph(kv_heads: int, head_dim: int, dtype: FloatType) -> ModelProto:
    """The graph for one layer.

    Inputs: key, value (1, kv_heads, slots, head_dim) of `dtype`; keep (slots,) int64; stays
    (slots, 1) bool; cos, sin (slots, head_dim / 2) float32 of (old position - new position) x
    frequency. Outputs: kept_key, kept_value like key and value.

    Args:
        kv_heads: heads of keys and values.
        head_dim: even; the first half of a head pairs with the second.
        dtype: of the cache; keys are turned in float32 in any case, since they are turned again
            and again.
    """
    number = TensorProto.FLOAT16 if dtype == "float16" else TensorProto.FLOAT
    zero = np.zeros(1, np.float16 if dtype == "float16" else np.float32)
    cache: list[int | str | None] = [1, kv_heads, "slots", head_dim]
    table: list[int | str | None] = ["slots", head_dim // 2]
    places: list[int | str | None] = ["slots"]
    flags: list[int | str | None] = ["slots", 1]
    kinds: list[tuple[int, list[int | str | None]]] = [
        (number, cache), (number, cache), (TensorProto.INT64, places), (TensorProto.BOOL, flags),
        (TensorProto.FLOAT, table), (TensorProto.FLOAT, table),
    ]  # fmt: skip
    inputs = [
        helper.make_tensor_value_info(name, kind, shape)
        for name, (kind, shape) in zip(INPUTS, kinds, strict=True)
    ]
    outputs = [helper.make_tensor_value_info(name, number, cache) for name in OUTPUTS]
    constants = [numpy_helper.from_array(zero, "zero")]
    graph = helper.make_graph(_nodes(number), "evict", inputs, outputs, constants)
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=10, producer_name=""
    )
    onnx.checker.check_model(model)
    return model


def _nodes(number: int) -> list[NodeProto]:
    node: Any = helper.make_node
    return [
        node("Gather", ["key", "keep"], ["old_key"], axis=2),
        node("Gather", ["value", "keep"], ["old_value"], axis=2),
        node("Cast", ["old_key"], ["wide_key"], to=TensorProto.FLOAT),
        node("Split", ["wide_key"], ["first", "second"], axis=-1, num_outputs=2),
        # A turn back: (first, second) -> (first cos + second sin, second cos - first sin).
        node("Mul", ["first", "cos"], ["first_cos"]),
        node("Mul", ["second", "sin"], ["second_sin"]),
        node("Add", ["first_cos", "second_sin"], ["new_first"]),
        node("Mul", ["second", "cos"], ["second_cos"]),
        node("Mul", ["first", "sin"], ["first_sin"]),
        node("Sub", ["second_cos", "first_sin"], ["new_second"]),
        node("Concat", ["new_first", "new_second"], ["turned"], axis=-1),
        node("Cast", ["turned"], ["new_key"], to=number),
        node("Where", ["stays", "new_key", "zero"], ["kept_key"]),
        node("Where", ["stays", "old_value", "zero"], ["kept_value"]),
    ]
