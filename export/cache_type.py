"""The element type of a decoder's cache, changed in its graph: half the memory, slower to speak."""

from __future__ import annotations

from typing import Literal, TypeAlias, get_args

from onnx import ModelProto, TensorProto

from ..runtime.errors import SchemeUnknown

CacheType: TypeAlias = Literal["float32", "float16"]
SHORT: dict[str, CacheType] = {"fp32": "float32", "fp16": "float16"}
_TYPES = {"float32": TensorProto.FLOAT, "float16": TensorProto.FLOAT16}


def cache_type_named(name: str) -> CacheType:
    """The type that `--kv` means: fp32 or fp16.

    Raises:
        SchemeUnknown: there is none of this name, or one that cannot be evicted from.
    """
    if name in SHORT:
        return SHORT[name]
    raise SchemeUnknown(
        f"got --kv {name}, expected {' or '.join(SHORT)}",
        hint="fp32 speaks fastest; fp16 halves the memory of the cache",
    )


def set_cache_type(model: ModelProto, dtype: CacheType) -> None:
    """Let past and present keys and values of a decoder have this type, in place.

    GroupQueryAttention takes them beside float32 queries, and computes in float32.
    """
    if dtype not in get_args(CacheType):
        raise ValueError(f"no cache of {dtype}")
    graph = model.graph
    for value in (*graph.input, *graph.output, *graph.value_info):
        if value.name.startswith(("past_key_values.", "present.")):
            value.type.tensor_type.elem_type = _TYPES[dtype]


def cache_type_of(model: ModelProto) -> CacheType:
    """The type that the cache of a decoder has."""
    by_type = {number: name for name, number in _TYPES.items()}
    past = next(v for v in model.graph.input if v.name.startswith("past_key_values."))
    found: CacheType = by_type[past.type.tensor_type.elem_type]  # type: ignore[assignment]
    return found
