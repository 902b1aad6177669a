"""The evict graph: keeps chosen slots of one layer's cache and turns its keys to their new places.

keep = increasing slots; new K[j] = R(new position - old position) K[keep[j]], V[j] = V[keep[j]].
The rotary table is an input, so that one graph serves every layer and every base.
"""

from __future__ import annotations

import onnx
from onnx import ModelProto, TensorProto, helper

OPSET = 21
# Inputs and outputs in the order in which the runtime binds them.
INPUTS = ("key", "value", "keep", "delta", "cos", "sin")
OUTPUTS = ("kept_key", "kept_value")


def evict_graph(kv_heads: int, head_dim: int) -> ModelProto:
    """The graph for one layer.

    Inputs: key, value (1, kv_heads, slots, head_dim) float32; keep (kept,) int64 slots; delta
    (kept,) int64, old position less new position, 0 or more; cos, sin (positions, head_dim / 2)
    float32 of position x frequency. Outputs: kept_key, kept_value (1, kv_heads, kept, head_dim).

    Args:
        kv_heads: heads of keys and values.
        head_dim: even; the first half of a head pairs with the second (Llama, Qwen2, Mistral).
    """
    node = helper.make_node
    half = head_dim // 2
    nodes = [
        node("Gather", ["key", "keep"], ["old_key"], axis=2),
        node("Gather", ["value", "keep"], ["kept_value"], axis=2),
        node("Split", ["old_key"], ["first", "second"], axis=-1, num_outputs=2),
        node("Gather", ["cos", "delta"], ["cos_delta"], axis=0),
        node("Gather", ["sin", "delta"], ["sin_delta"], axis=0),
        # A turn by -delta: (first, second) -> (first cos + second sin, second cos - first sin).
        node("Mul", ["first", "cos_delta"], ["first_cos"]),
        node("Mul", ["second", "sin_delta"], ["second_sin"]),
        node("Add", ["first_cos", "second_sin"], ["new_first"]),
        node("Mul", ["second", "cos_delta"], ["second_cos"]),
        node("Mul", ["first", "sin_delta"], ["first_sin"]),
        node("Sub", ["second_cos", "first_sin"], ["new_second"]),
        node("Concat", ["new_first", "new_second"], ["kept_key"], axis=-1),
    ]
    cache: list[int | str | None] = [1, kv_heads, "slots", head_dim]
    kept: list[int | str | None] = [1, kv_heads, "kept", head_dim]
    table: list[int | str | None] = ["positions", half]
    shapes: list[list[int | str | None]] = [cache, cache, ["kept"], ["kept"], table, table]
    kinds = [TensorProto.FLOAT] * 2 + [TensorProto.INT64] * 2 + [TensorProto.FLOAT] * 2
    inputs = [
        helper.make_tensor_value_info(name, kind, shape)
        for name, kind, shape in zip(INPUTS, kinds, shapes, strict=True)
    ]
    outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, kept) for name in OUTPUTS]
    graph = helper.make_graph(nodes, "evict", inputs, outputs)
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=10, producer_name=""
    )
    onnx.checker.check_model(model)
    return model
