"""Int8 weights kept as uint8 with a zero point of 128: the same codes, right on every processor.

A processor of x86 without VNNI multiplies uint8 by int8 in pairs, and cuts their sum at 16 bits:
a large weight met by large activations comes out smaller, without a word. uint8 by uint8 it
multiplies whole; one with VNNI, or an ARM, takes both at the same speed.

Source: ONNX Runtime's kernels (MLAS, QGEMM of AVX2); its own remedy, `session.x64quantprecision`,
is a setting of whoever opens the graph, and refuses or breaks graphs with Q/DQ pairs in blocks.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, numpy_helper

from .qdq_graph import DEQUANTIZE

MIDDLE = 128
"""The code of zero."""


def to_unsigned(codes: NDArray[np.int8]) -> NDArray[np.uint8]:
    """Codes around zero → the same around MIDDLE."""
    moved: NDArray[np.uint8] = codes.view(np.uint8) ^ np.uint8(MIDDLE)
    return moved


def to_signed(codes: NDArray[np.uint8]) -> NDArray[np.int8]:
    """Codes around MIDDLE → the same around zero."""
    moved: NDArray[np.uint8] = codes ^ np.uint8(MIDDLE)
    return moved.view(np.int8)


def keep_unsigned(model: ModelProto) -> ModelProto:
    """The graph, changed in place, with the constants that it multiplies by as uint8.

    Args:
        model: weights inside; what is read of int8 besides stays as it is.
    """
    return _turned(model, TensorProto.INT8, TensorProto.UINT8)


def keep_signed(model: ModelProto) -> ModelProto:
    """The graph, changed in place, as it was before `keep_unsigned`: TensorRT takes int8 alone."""
    return _turned(model, TensorProto.UINT8, TensorProto.INT8)


def with_zero_points(model: ModelProto) -> ModelProto:
    """The graph, changed in place, where int8 weights with a scale per row name their zero."""
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type != DEQUANTIZE or len(node.input) != 2 or node.input[0] not in constants:
            continue
        in_blocks = any(one.name == "block_size" and one.i for one in node.attribute)
        scale = constants.get(node.input[1])
        if (
            scale is not None
            and constants[node.input[0]].data_type == TensorProto.INT8
            and not in_blocks
        ):
            zero = np.zeros(tuple(scale.dims), np.int8)
            name = f"{node.input[0]}_{node.name}_zero"
            model.graph.initializer.append(numpy_helper.from_array(zero, name))
            node.input.append(name)
    return model


def _turned(model: ModelProto, before: int, after: int) -> ModelProto:
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    told = {value.name: value.type.tensor_type for value in model.graph.value_info}
    for name in sorted(set(_codes_and_zeros(model, constants))):
        tensor = constants[name]
        if tensor.data_type == before:
            _turn(tensor, after)
            if name in told:
                told[name].elem_type = after
    return model


def _turn(tensor: TensorProto, kind: int) -> None:
    """The other type, in the place where the codes lie: turned back, a file is what it was."""
    codes = np.ascontiguousarray(numpy_helper.to_array(tensor))
    other = to_unsigned(codes) if kind == TensorProto.UINT8 else to_signed(codes)
    tensor.data_type = kind
    if tensor.HasField("raw_data"):
        tensor.raw_data = other.tobytes()
    else:
        tensor.int32_data[:] = [int(one) for one in other.flat]


def _codes_and_zeros(model: ModelProto, constants: dict[str, TensorProto]) -> Iterator[str]:
    """Names of the constants that are multiplied by, and of their zero points."""
    for node in model.graph.node:
        places = {"MatMulInteger": (1, 3), DEQUANTIZE: (0, 2)}.get(node.op_type)
        if places and len(node.input) > places[1] and node.input[places[0]] in constants:
            yield from (node.input[at] for at in places)
