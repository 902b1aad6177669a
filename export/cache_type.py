"""The element type of a decoder's cache, changed in its graph: less memory, other speed.

Keys and values of int8 have static scales in the graph: one per number of a value, and one per
rotated pair of a key, so that turning a key to another position is turning its codes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypeAlias

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from ..calibration.cache_ranges import CacheScales
from ..runtime.errors import SchemeUnknown

CacheType: TypeAlias = Literal["float32", "float16", "int8"]
SHORT: dict[str, CacheType] = {"fp32": "float32", "fp16": "float16", "int8": "int8"}
SUFFIXES: dict[CacheType, str] = {"float32": "", "float16": "-kv16", "int8": "-kv8"}
_TYPES = {
    "float32": TensorProto.FLOAT,
    "float16": TensorProto.FLOAT16,
    "int8": TensorProto.INT8,
}
# GroupQueryAttention: where its scales stand among the inputs, and the words beside them.
_SCALES_AT = 12
_WORDS = ("k_quant_type", "v_quant_type", "kv_cache_bit_width")


def cache_type_named(name: str) -> CacheType:
    """The type that `--kv` means.

    Raises:
        SchemeUnknown: there is none of this name.
    """
    if name in SHORT:
        return SHORT[name]
    raise SchemeUnknown(
        f"got --kv {name}, expected {', '.join(SHORT)}",
        hint="fp32 reads frames fastest; fp16 halves the memory of the cache",
    )


def set_cache_type(
    model: ModelProto, dtype: CacheType, scales: Sequence[CacheScales] | None = None
) -> None:
    """Let past and present keys and values of a decoder have this type, in place.

    GroupQueryAttention takes them beside float32 queries.

    Args:
        model: a decoder; its cache may have any of the types.
        dtype: wanted.
        scales: of each layer, for int8.
    """
    graph = model.graph
    for value in (*graph.input, *graph.output, *graph.value_info):
        if value.name.startswith(("past_key_values.", "present.")):
            value.type.tensor_type.elem_type = _TYPES[dtype]
    layers = [node for node in graph.node if node.op_type == "GroupQueryAttention"]
    for node in layers:
        _forget_scales(model, node)
    if dtype != "int8":
        return
    assert scales is not None and len(scales) == len(layers), "int8 comes with its calibration"
    for number, (node, scale) in enumerate(zip(layers, scales, strict=True)):
        names = [f"cache.{number}.{which}_scale" for which in ("key", "value")]
        for name, array in zip(names, scale, strict=True):
            shaped = np.ascontiguousarray(array[None, :, None], np.float32)
            graph.initializer.append(numpy_helper.from_array(shaped, name))
        node.input.extend([""] * (_SCALES_AT - len(node.input)) + names)
        for word, said in zip(_WORDS, ("PER_CHANNEL", "PER_CHANNEL", 8), strict=True):
            node.attribute.append(helper.make_attribute(word, said))


def cache_type_of(model: ModelProto) -> CacheType:
    """The type that the cache of a decoder has."""
    past = next(v for v in model.graph.input if v.name.startswith("past_key_values."))
    number = past.type.tensor_type.elem_type
    return next(name for name in SUFFIXES if _TYPES[name] == number)


def _forget_scales(model: ModelProto, node: NodeProto) -> None:
    names = set(node.input[_SCALES_AT:])
    del node.input[_SCALES_AT:]
    kept = [one for one in node.attribute if one.name not in _WORDS]
    del node.attribute[:]
    node.attribute.extend(kept)
    initializers = [one for one in model.graph.initializer if one.name not in names]
    if len(initializers) < len(model.graph.initializer):
        del model.graph.initializer[:]
        model.graph.initializer.extend(initializers)
