"""The nodes of a decoder graph, layer by layer, as onnxruntime-genai's builder lays them.

A layer is ten nodes: a norm that adds what came before, packed QKV, grouped-query attention on the
cache with the rotation inside, the output, a norm, fused gate and up, SwiGLU, down. With several
axes of positions the rotation stands before the attention (MRotaryEmbedding); so do the norms of
queries and keys where a decoder has them. Names of tensors are the builder's, and every decoder
has its QKV in one matrix, so that one list of matrices serves all (decoder_onnx.decoder_weights).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from onnx import NodeProto, TensorProto, ValueInfoProto, helper

from ..models.decoder_shape import DecoderShape

MICROSOFT = "com.microsoft"
NORM: dict[str, Any] = {"axis": -1, "stash_type": 1}
# Small constants that the nodes share: name → whole numbers.
ONE, LAST, MASK_AXIS = "constants.one", "constants.last", "constants.mask_axis"
# Matrix of the graph → the linear layers (models/decoder_shape.LINEARS) whose rows it holds.
GROUPS = MappingProxyType(
    {
        "qkv_proj": ("q_proj", "k_proj", "v_proj"),
        "o_proj": ("o_proj",),
        "gate_up_proj": ("gate_proj", "up_proj"),
        "down_proj": ("down_proj",),
    }
)
# Makes the node of one matrix: (name of node, input, output, width in, width out) → node.
MatMul = Callable[[str, str, str, int, int], NodeProto]


@dataclass(frozen=True, slots=True)
class Stream:
    """What one layer hands to the next: the residual stream, and what is to be added to it.

    Attributes:
        residual: name of the tensor.
        added: name of what the last part gave; empty before the first layer.
    """

    residual: str
    added: str = ""


def decoder_inputs(shape: DecoderShape) -> list[ValueInfoProto]:
    """inputs_embeds, attention_mask, position_ids with several axes, past_key_values.*."""
    given = [
        _value("inputs_embeds", TensorProto.FLOAT, ["batch_size", "sequence_length", shape.width]),
        _value("attention_mask", TensorProto.INT64, ["batch_size", "total_sequence_length"]),
    ]
    if shape.axes > 1:
        sizes: list[int | str] = [shape.axes, "batch_size", "sequence_length"]
        given.append(_value("position_ids", TensorProto.INT64, sizes))
    return given + _caches(shape, "past_key_values", "past_sequence_length")


def decoder_outputs(shape: DecoderShape) -> list[ValueInfoProto]:
    """logits of the last position, present.*."""
    logits = _value("logits", TensorProto.FLOAT, ["batch_size", 1, shape.vocabulary])
    return [logits, *_caches(shape, "present", "total_sequence_length")]


def shared_constants(shape: DecoderShape) -> dict[str, list[int] | int]:
    """Name → whole numbers that the nodes read; a list is an axis, a number a scalar."""
    found: dict[str, list[int] | int] = {ONE: 1, LAST: -1, MASK_AXIS: [1]}
    if _is_split(shape):
        found["constants.qkv"] = [shape.query_width, shape.kv_width, shape.kv_width]
    if shape.has_qk_norm:
        found["constants.heads"] = [0, -1, shape.head_dim]
        found["constants.q"] = [0, -1, shape.query_width]
        found["constants.k"] = [0, -1, shape.kv_width]
    return found


def opening_nodes(shape: DecoderShape) -> tuple[list[NodeProto], Stream]:
    """How many slots are in use, and the embeddings without what comes after the first layers."""
    nodes = [
        _node("ReduceSum", ["attention_mask", MASK_AXIS], ["mask.sum"], keepdims=0),
        _node("Sub", ["mask.sum", MASK_AXIS], ["mask.last"]),
        _node("Cast", ["mask.last"], ["seqlens_k"], to=TensorProto.INT32),
        _node("Shape", ["attention_mask"], ["mask.shape"]),
        _node("Gather", ["mask.shape", ONE], ["mask.total"], axis=0),
        _node("Cast", ["mask.total"], ["total_sequence_length"], to=TensorProto.INT32),
    ]
    if not shape.deep_levels:
        return nodes, Stream("inputs_embeds")
    parts = ["embeds", *(_deep(level) for level in range(shape.deep_levels))]
    nodes.append(
        _node("Split", ["inputs_embeds"], parts, "/deep/Split", axis=-1, num_outputs=len(parts))
    )
    return nodes, Stream("embeds")


def layer_nodes(
    shape: DecoderShape, layer: int, stream: Stream, matmul: MatMul
) -> tuple[list[NodeProto], Stream]:
    """One layer."""
    place = f"/model/layers.{layer}"
    normed, stream, nodes = _norm(shape, layer, "input", stream)
    nodes += _attention(shape, layer, normed, matmul)
    stream = Stream(stream.residual, f"{place}/attn/o_proj")
    normed, stream, more = _norm(shape, layer, "post_attention", stream)
    nodes += more + _mlp(shape, layer, normed, matmul)
    added = f"{place}/mlp/down_proj"
    if layer < shape.deep_levels:
        nodes.append(_node("Add", [added, _deep(layer)], [f"{place}/deep"]))
        added = f"{place}/deep"
    return nodes, Stream(stream.residual, added)


def closing_nodes(shape: DecoderShape, stream: Stream, matmul: MatMul) -> list[NodeProto]:
    """The last norm, and the logits of the last position alone."""
    normed, _, nodes = _norm(shape, shape.layers, "final_norm", stream)
    return [
        *nodes,
        _node("Gather", [normed, LAST], ["last"], "/lm_head/prune/Gather", axis=1),
        _node("Unsqueeze", ["last", MASK_AXIS], ["last.row"], "/lm_head/prune/Unsqueeze"),
        matmul("/lm_head/MatMul", "last.row", "logits", shape.hidden, shape.vocabulary),
    ]


def norm_name(layer: int, which: str) -> str:
    """Name of a norm's gain: `input`, `post_attention`, and `final_norm` behind the last layer."""
    return f"model.layers.{layer}.{which}_layernorm.weight"


def _norm(
    shape: DecoderShape, layer: int, which: str, stream: Stream
) -> tuple[str, Stream, list[NodeProto]]:
    """The normed stream, the stream after the addition, and the node that makes both."""
    place, gain = f"/model/layers.{layer}/{which}_layernorm", norm_name(layer, which)
    normed, summed = f"{place}/output_0", f"{place}/output_3"
    if not stream.added:
        node = _node("SimplifiedLayerNormalization", [stream.residual, gain], [normed],
                     f"{place}/LayerNorm", epsilon=shape.epsilon, **NORM)  # fmt: skip
        return normed, stream, [node]
    outputs = [normed] if which == "final_norm" else [normed, "", "", summed]
    node = _node("SkipSimplifiedLayerNormalization", [stream.residual, stream.added, gain],
                 outputs, f"{place}/SkipLayerNorm", MICROSOFT, epsilon=shape.epsilon)  # fmt: skip
    return normed, Stream(summed), [node]


def _attention(shape: DecoderShape, layer: int, normed: str, matmul: MatMul) -> list[NodeProto]:
    place, tensors = f"/model/layers.{layer}/attn", f"model.layers.{layer}.attn"
    width = shape.query_width + 2 * shape.kv_width
    query, key, value = f"{place}/qkv_proj", "", ""
    nodes = _linear(shape, query, normed, shape.hidden, width, matmul)
    if _is_split(shape):
        apart = [f"{place}/{one}" for one in ("q", "k", "v")]
        split = [query, "constants.qkv"]
        nodes.append(_node("Split", split, apart, f"{place}/Split", axis=-1))
        query, key, value = apart
    if shape.has_qk_norm:
        nodes += _head_norms(shape, place, tensors)
        query, key = f"{place}/q_norm", f"{place}/k_norm"
    if shape.axes > 1:
        nodes += [
            _turn(shape, query, f"{place}/q_rotary", shape.heads),
            _turn(shape, key, f"{place}/k_rotary", shape.kv_heads),
        ]
        query, key = f"{place}/q_rotary", f"{place}/k_rotary"
    nodes.append(_grouped_query_attention(shape, layer, query, key, value))
    return nodes + _linear(
        shape, f"{place}/o_proj", f"{place}/output", shape.query_width, shape.hidden, matmul
    )


def _linear(
    shape: DecoderShape, target: str, source: str, width: int, out: int, matmul: MatMul
) -> list[NodeProto]:
    """A matrix, and its bias where it has one; `target` is the tensor that comes out."""
    name = f"{target}/MatMul"
    if not shape.biases.intersection(GROUPS[target.rsplit("/", 1)[-1]]):
        return [matmul(name, source, target, width, out)]
    added = [f"{target}/product", f"{target[1:].replace('/', '.')}.Add.bias"]
    return [matmul(name, source, added[0], width, out), _node("Add", added, [target])]


def _grouped_query_attention(
    shape: DecoderShape, layer: int, query: str, key: str, value: str
) -> NodeProto:
    is_turned = shape.axes > 1
    tables = ["", ""] if is_turned else ["cos_cache", "sin_cache"]
    past = [f"past_key_values.{layer}.{one}" for one in ("key", "value")]
    present = [f"present.{layer}.{one}" for one in ("key", "value")]
    return _node(
        "GroupQueryAttention",
        [query, key, value, *past, "seqlens_k", "total_sequence_length", *tables],
        [f"/model/layers.{layer}/attn/output", *present],
        f"/model/layers.{layer}/attn/GroupQueryAttention",
        MICROSOFT,
        num_heads=shape.heads,
        kv_num_heads=shape.kv_heads,
        scale=shape.head_dim**-0.5,
        local_window_size=-1 if shape.window is None else shape.window,
        softcap=0.0,
        do_rotary=int(not is_turned),
        rotary_interleaved=0,
    )


def _head_norms(shape: DecoderShape, place: str, tensors: str) -> list[NodeProto]:
    nodes = []
    for one in ("q", "k"):
        heads, normed, name = f"{place}/{one}/heads", f"{place}/{one}/normed", f"{place}/{one}_norm"
        gain = f"{tensors}.{one}_norm.layernorm.weight"
        nodes += [
            _node("Reshape", [f"{place}/{one}", "constants.heads"], [heads], f"{name}/Reshape_1"),
            _node("SimplifiedLayerNormalization", [heads, gain], [normed],
                  f"{name}/SimplifiedLayerNormalization", epsilon=shape.epsilon, **NORM),
            _node("Reshape", [normed, f"constants.{one}"], [name], f"{name}/Reshape_2"),
        ]  # fmt: skip
    return nodes


def _turn(shape: DecoderShape, source: str, target: str, heads: int) -> NodeProto:
    return _node(
        "MRotaryEmbedding",
        [source, "position_ids", "cos_cache", "sin_cache"],
        [target],
        f"{target}/MRotaryEmbedding",
        MICROSOFT,
        interleaved=0,
        rotary_embedding_dim=0,
        num_heads=heads,
        mrope_section=list(shape.sections or ()),
        mrope_layout=int(shape.is_interleaved),
        is_packed_batching=0,
    )


def _mlp(shape: DecoderShape, layer: int, normed: str, matmul: MatMul) -> list[NodeProto]:
    place = f"/model/layers.{layer}/mlp"
    both, gate, up = f"{place}/gate_up_proj", f"{place}/gate", f"{place}/up"
    sigmoid, active, product = f"{place}/sigmoid", f"{place}/active", f"{place}/product"
    width = shape.intermediate
    return [
        *_linear(shape, both, normed, shape.hidden, 2 * width, matmul),
        _node("Split", [both], [gate, up], axis=-1, num_outputs=2),
        _node("Sigmoid", [gate], [sigmoid]),
        _node("Mul", [gate, sigmoid], [active]),
        _node("Mul", [active, up], [product]),
        *_linear(shape, f"{place}/down_proj", product, width, shape.hidden, matmul),
    ]


def _is_split(shape: DecoderShape) -> bool:
    """Whether queries and keys are needed apart from each other before the attention."""
    return shape.has_qk_norm or shape.axes > 1


def _deep(level: int) -> str:
    return f"deep.{level}"


def _caches(shape: DecoderShape, kind: str, slots: str) -> list[ValueInfoProto]:
    sizes: list[int | str] = ["batch_size", shape.kv_heads, slots, shape.head_dim]
    return [
        _value(f"{kind}.{layer}.{one}", TensorProto.FLOAT, sizes)
        for layer in range(shape.layers)
        for one in ("key", "value")
    ]


def _value(name: str, kind: int, sizes: list[int | str]) -> ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, sizes)


def _node(
    kind: str,
    inputs: list[str],
    outputs: list[str],
    name: str = "",
    domain: str = "",
    **attributes: Any,
) -> NodeProto:
    name = name or f"{outputs[0]}/{kind}"
    return helper.make_node(kind, inputs, outputs, name, domain=domain, **attributes)
