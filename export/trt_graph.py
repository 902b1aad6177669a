"""The nodes of a decoder graph that TensorRT takes: standard operators and a cache of fixed length.

The same decoder as decoder_graph.py lays out for ONNX Runtime, with the same names at its borders,
but for the mask, which is as long as the cache: ones for the slots in use, the new ones included,
then zeros. So no shape depends on how much is held, and a captured run stays valid. New keys go to
the slots behind the old ones (TensorScatter); Attention reads all slots through a mask of its own.
Borders of text are float32, and inside everything has one type: TensorRT converts nothing itself.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, ValueInfoProto, helper

from ..models.decoder_shape import DecoderShape
from .decoder_graph import GROUPS, Stream, norm_name

# RMSNormalization and RotaryEmbedding are of opset 23, TensorScatter of 24.
OPSET, IR_VERSION = 24, 11
FloatType: TypeAlias = Literal["float32", "float16"]
ONNX_TYPES = {"float32": TensorProto.FLOAT, "float16": TensorProto.FLOAT16}
FIRST, LAST, NEW_AXIS, HEAD_AXES, END = "c.first", "c.last", "c.axis", "c.heads", "c.end"
SLOTS, ZERO, ONE, FREQUENCIES = "c.slots", "c.zero", "c.one", "c.frequencies"
TOKENS = "tokens"
"""Name of the one size that differs from run to run."""
# Gives the node(s) of one matrix: (name of tensor, input, output) → nodes.
MatMul = Callable[[str, str, str], Sequence[NodeProto]]


@dataclass(frozen=True, slots=True)
class TrtShape:
    """A decoder, the length of its cache and the type inside.

    Attributes:
        decoder: its shape.
        capacity: slots of the cache.
        dtype: of cache, weights and arithmetic.
    """

    decoder: DecoderShape
    capacity: int
    dtype: FloatType


def trt_inputs(shape: TrtShape) -> list[ValueInfoProto]:
    """inputs_embeds, attention_mask, position_ids with several axes, past_key_values.*."""
    decoder = shape.decoder
    given = [
        _value("inputs_embeds", TensorProto.FLOAT, [1, TOKENS, decoder.width]),
        _value("attention_mask", TensorProto.INT64, [1, shape.capacity]),
    ]
    if decoder.axes > 1:
        given.append(_value("position_ids", TensorProto.INT64, [decoder.axes, 1, TOKENS]))
    return given + _caches(shape, "past_key_values")


def trt_outputs(shape: TrtShape) -> list[ValueInfoProto]:
    """logits of the last position, present.*; these are to lie where past_key_values.* lie."""
    logits = _value("logits", TensorProto.FLOAT, [1, 1, shape.decoder.vocabulary])
    return [logits, *_caches(shape, "present")]


def trt_constants(shape: TrtShape) -> dict[str, NDArray[Any]]:
    """Small arrays that the nodes read, by name."""
    decoder = shape.decoder
    # In float32 like `transformers`, so that far positions have the angles of the training.
    shares = np.arange(0, decoder.head_dim, 2, dtype=np.float32) / np.float32(decoder.head_dim)
    frequencies = np.float32(1) / np.float32(decoder.theta) ** shares
    found: dict[str, NDArray[Any]] = {
        FIRST: np.array([0]),
        LAST: np.array([-1]),
        NEW_AXIS: np.array([1]),
        END: np.array([np.iinfo(np.int64).max]),
        HEAD_AXES: np.array([0, 0, -1, decoder.head_dim]),
        "c.query": np.array([0, 0, decoder.query_width]),
        "c.qkv": np.array([decoder.query_width, decoder.kv_width, decoder.kv_width]),
        SLOTS: np.arange(shape.capacity)[None, None, None],
        ZERO: np.array(0),
        ONE: np.array(1),
        "c.row": np.array([1, -1, 1]),
        "c.column": np.array([1, 1, -1, 1]),
        FREQUENCIES: frequencies,
    }
    if decoder.window is not None:
        found["c.window"] = np.array(decoder.window)
    if decoder.sections is not None:
        found["c.axis_of_pair"] = axis_of_pair(decoder)
    return found


def axis_of_pair(decoder: DecoderShape) -> NDArray[np.float32]:
    """[axes, 1, 1, pairs]: 1 where a pair of a head is turned by the position on this axis.

    Source: transformers, `apply_multimodal_rotary_pos_emb` (sections stand one after another) and
        Qwen3-VL's `apply_interleaved_mrope` (the axes take turns; what is left is the first's).
    """
    sections = decoder.sections
    assert sections is not None
    chosen = np.repeat(np.arange(len(sections)), sections)
    if decoder.is_interleaved:
        chosen = np.zeros(sum(sections), np.int64)
        for axis in range(1, len(sections)):
            chosen[axis : sections[axis] * len(sections) : len(sections)] = axis
    marks: NDArray[np.bool_] = chosen[None] == np.arange(len(sections))[:, None]
    return marks[:, None, None].astype(np.float32)


def trt_opening(shape: TrtShape) -> tuple[list[NodeProto], Stream]:
    """Where new keys go, what each new position sees, its rotation, and the embeddings."""
    decoder = shape.decoder
    nodes = [
        _node("Shape", ["inputs_embeds"], "tokens.count", start=1, end=2),
        _node("ReduceSum", ["attention_mask", NEW_AXIS], "slots.used", keepdims=0),
        _node("Sub", ["slots.used", "tokens.count"], "slots.before"),
        _node("Squeeze", ["tokens.count"], "tokens.many"),
        _node("Range", [ZERO, "tokens.many", ONE], "tokens.range"),
        _node("Add", ["tokens.range", "slots.before"], "tokens.slots"),
        _node("Reshape", ["tokens.slots", "c.column"], "tokens.column"),
        _node("LessOrEqual", [SLOTS, "tokens.column"], "sees.before"),
    ]
    sees = "sees.before"
    if decoder.window is not None:
        nodes += [
            _node("Sub", ["tokens.column", "c.window"], "sees.from"),
            _node("Greater", [SLOTS, "sees.from"], "sees.near"),
            _node("And", ["sees.before", "sees.near"], "sees.window"),
        ]
        sees = "sees.window"
    nodes.append(_node("Identity", [sees], "sees"))
    return [*nodes, *_rotation(shape), *_embeds(shape)], Stream("embeds")


def trt_layer(
    shape: TrtShape, layer: int, stream: Stream, matmul: MatMul
) -> tuple[list[NodeProto], Stream]:
    """One layer."""
    decoder, place = shape.decoder, f"/model/layers.{layer}"
    normed = f"{place}/input_layernorm"
    nodes = [_norm(decoder, normed, stream.residual, norm_name(layer, "input"))]
    nodes += _attention(shape, layer, normed, matmul)
    nodes.append(_node("Add", [stream.residual, f"{place}/attn/o_proj"], f"{place}/attn/sum"))
    normed = f"{place}/post_attention_layernorm"
    nodes.append(_norm(decoder, normed, f"{place}/attn/sum", norm_name(layer, "post_attention")))
    nodes += _mlp(decoder, layer, normed, matmul)
    out = f"{place}/sum"
    nodes.append(_node("Add", [f"{place}/attn/sum", f"{place}/mlp/down_proj"], out))
    if layer < decoder.deep_levels:
        nodes.append(_node("Add", [out, f"deep.{layer}"], f"{place}/deep"))
        out = f"{place}/deep"
    return nodes, Stream(out)


def trt_closing(shape: TrtShape, stream: Stream, matmul: MatMul) -> list[NodeProto]:
    """The last norm over the last position alone, and its logits in float32."""
    decoder, gain = shape.decoder, norm_name(shape.decoder.layers, "final_norm")
    return [
        _node("Slice", [stream.residual, LAST, END, NEW_AXIS], "last"),
        _norm(decoder, "last.normed", "last", gain),
        *matmul("lm_head.MatMul.weight", "last.normed", "/lm_head"),
        _node("Cast", ["/lm_head"], "logits", to=TensorProto.FLOAT),
    ]


def _rotation(shape: TrtShape) -> list[NodeProto]:
    """cos and sin (1, tokens, pairs) of the new positions; in float32 until they are known."""
    kind = ONNX_TYPES[shape.dtype]
    if shape.decoder.axes == 1:
        nodes = [
            _node("Cast", ["tokens.slots"], "tokens.places", to=TensorProto.FLOAT),
            _node("Reshape", ["tokens.places", "c.row"], "tokens.placed"),
            _node("Mul", ["tokens.placed", FREQUENCIES], "tokens.angles"),
        ]
    else:
        nodes = [
            _node("Cast", ["position_ids"], "tokens.places", to=TensorProto.FLOAT),
            _node("Unsqueeze", ["tokens.places", LAST], "tokens.placed"),
            _node("Mul", ["tokens.placed", FREQUENCIES], "tokens.each"),
            _node("Mul", ["tokens.each", "c.axis_of_pair"], "tokens.chosen"),
            _node("ReduceSum", ["tokens.chosen", FIRST], "tokens.angles", keepdims=0),
        ]
    for kind_of_turn in ("Cos", "Sin"):
        word = kind_of_turn.lower()
        nodes += [
            _node(kind_of_turn, ["tokens.angles"], f"tokens.{word}"),
            _node("Cast", [f"tokens.{word}"], word, to=kind),
        ]
    return nodes


def _embeds(shape: TrtShape) -> list[NodeProto]:
    """The embeddings, apart from what comes after the first layers."""
    levels, kind = shape.decoder.deep_levels, ONNX_TYPES[shape.dtype]
    cast = _node("Cast", ["inputs_embeds"], "rows" if levels else "embeds", to=kind)
    if not levels:
        return [cast]
    parts = ["embeds", *(f"deep.{level}" for level in range(levels))]
    split = helper.make_node("Split", ["rows"], parts, "/deep/Split", axis=-1,
                             num_outputs=len(parts))  # fmt: skip
    return [cast, split]


def _attention(shape: TrtShape, layer: int, normed: str, matmul: MatMul) -> list[NodeProto]:
    decoder, place = shape.decoder, f"/model/layers.{layer}/attn"
    nodes = _linear(decoder, f"{place}/qkv_proj", normed, matmul)
    apart = [f"{place}/{one}" for one in "qkv"]
    split = [f"{place}/qkv_proj", "c.qkv"]
    nodes.append(helper.make_node("Split", split, apart, f"{place}/Split", axis=-1))
    for one in "qkv":
        nodes += _heads(decoder, layer, one)
    caches = [f"present.{layer}.key", f"present.{layer}.value"]
    for one, cache in zip("kv", caches, strict=True):
        past = cache.replace("present", "past_key_values")
        scattered = [past, f"{place}/{one}/ready", "slots.before"]
        nodes.append(_node("TensorScatter", scattered, cache, axis=2, mode="linear"))
    return [
        *nodes,
        _node("Attention", [f"{place}/q/ready", *caches, "sees"], f"{place}/by_head",
              scale=decoder.head_dim**-0.5),
        _node("Transpose", [f"{place}/by_head"], f"{place}/by_token", perm=[0, 2, 1, 3]),
        _node("Reshape", [f"{place}/by_token", "c.query"], f"{place}/output"),
        *_linear(decoder, f"{place}/o_proj", f"{place}/output", matmul),
    ]  # fmt: skip


def _heads(decoder: DecoderShape, layer: int, one: str) -> list[NodeProto]:
    """(1, heads, tokens, head_dim) of queries, keys or values; normed and turned as they are."""
    place = f"/model/layers.{layer}/attn/{one}"
    nodes = [_node("Reshape", [place, HEAD_AXES], f"{place}/heads")]
    source = f"{place}/heads"
    if decoder.has_qk_norm and one != "v":
        gain = f"model.layers.{layer}.attn.{one}_norm.layernorm.weight"
        nodes.append(_norm(decoder, f"{place}_norm", source, gain))
        source = f"{place}_norm"
    target = f"{place}/ready" if one == "v" else f"{place}/laid"
    nodes.append(_node("Transpose", [source], target, perm=[0, 2, 1, 3]))
    if one != "v":
        nodes.append(_node("RotaryEmbedding", [target, "cos", "sin"], f"{place}/ready"))
    return nodes


def _mlp(decoder: DecoderShape, layer: int, normed: str, matmul: MatMul) -> list[NodeProto]:
    place = f"/model/layers.{layer}/mlp"
    gate, up, sigmoid = f"{place}/gate", f"{place}/up", f"{place}/sigmoid"
    return [
        *_linear(decoder, f"{place}/gate_up_proj", normed, matmul),
        helper.make_node("Split", [f"{place}/gate_up_proj"], [gate, up], f"{place}/Split",
                         axis=-1, num_outputs=2),
        _node("Sigmoid", [gate], sigmoid),
        _node("Mul", [gate, sigmoid], f"{place}/active"),
        _node("Mul", [f"{place}/active", up], f"{place}/product"),
        *_linear(decoder, f"{place}/down_proj", f"{place}/product", matmul),
    ]  # fmt: skip


def _linear(decoder: DecoderShape, target: str, source: str, matmul: MatMul) -> list[NodeProto]:
    """A matrix, and its bias where it has one; `target` is the tensor that comes out."""
    stored = f"{target[1:].replace('/', '.')}.MatMul.weight"
    if not decoder.biases.intersection(GROUPS[target.rsplit("/", 1)[-1]]):
        return list(matmul(stored, source, target))
    bias = f"{target[1:].replace('/', '.')}.Add.bias"
    product = f"{target}/product"
    return [*matmul(stored, source, product), _node("Add", [product, bias], target)]


def _norm(decoder: DecoderShape, target: str, source: str, gain: str) -> NodeProto:
    return _node("RMSNormalization", [source, gain], target, axis=-1, epsilon=decoder.epsilon)


def _caches(shape: TrtShape, kind: str) -> list[ValueInfoProto]:
    decoder = shape.decoder
    sizes: list[int | str] = [1, decoder.kv_heads, shape.capacity, decoder.head_dim]
    return [
        _value(f"{kind}.{layer}.{one}", ONNX_TYPES[shape.dtype], sizes)
        for layer in range(decoder.layers)
        for one in ("key", "value")
    ]


def _value(name: str, kind: int, sizes: list[int | str]) -> ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, sizes)


def _node(kind: str, inputs: list[str], output: str, **attributes: Any) -> NodeProto:
    return helper.make_node(kind, inputs, [output], f"{output}/{kind}", **attributes)
