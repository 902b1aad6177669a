"""Int8 of graphs whose weights lie beside them: one matrix in memory at a time.

onnxruntime's quantizer holds a model twice. Here the float graph's weights lie in a file that is
mapped, each matrix is quantized by itself, and the nodes are those that `quantize_dynamic` makes,
so that engines fuse them the same way.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import ModelProto, NodeProto, TensorProto, helper

from ..quant.numerics import quantize_int8_per_channel
from ..runtime.errors import EngineError
from .external_data import ExternalData
from .onnx_from_torch import constant_matmuls
from .stored_tensors import StoredTensors
from .unsigned_weights import MIDDLE, to_unsigned


def int8_from_large(source: Path, target: Path) -> tuple[str, ...]:
    """Write the int8 form of a float32 graph whose weights lie beside it.

    Args:
        source: .onnx, float32, weights in `<name>.data`.
        target: .onnx to write, weights in `<name>.data`.

    Returns:
        Names of the float32 weights that are int8 now.

    Raises:
        EngineError: a Gemm that scales what it multiplies.

    Cost: the largest matrix a few times over.
    """
    model, floats = onnx.load(str(source), load_external_data=False), StoredTensors(source)
    names = constant_matmuls(model)
    sideways = _sideways(model, names)
    read_elsewhere = {
        name for node in model.graph.node for name in (*node.input[:1], *node.input[2:])
    }
    with ExternalData(target.with_name(f"{target.name}.data")) as data:
        for tensor in model.graph.initializer:
            array = floats.array(tensor.name)
            if tensor.name in names:
                matrix = array.T if tensor.name in sideways else array
                stored = quantize_int8_per_channel(matrix, 1, tensor.name)
                data.add(f"{tensor.name}_quantized", to_unsigned(stored.codes))
                data.add(f"{tensor.name}_scale", stored.scales)
                zeros = np.full(len(stored.scales), MIDDLE, np.uint8)
                data.add(f"{tensor.name}_zero_point", zeros)
            if tensor.name not in names or tensor.name in read_elsewhere:
                data.add(tensor.name, array)
    nodes = list(_nodes(model.graph.node, set(names)))
    del model.graph.node[:], model.graph.initializer[:]
    model.graph.node.extend(nodes)
    model.graph.initializer.extend(data.tensors)
    onnx.save(model, str(target))
    return names


def _sideways(model: ModelProto, names: Sequence[str]) -> set[str]:
    """Weights that a Gemm takes as PyTorch keeps them, (out, in)."""
    found = set()
    for node in model.graph.node:
        if node.op_type == "Gemm" and node.input[1] in names:
            facts = {one.name: helper.get_attribute_value(one) for one in node.attribute}
            scaled = facts.get("alpha", 1.0) != 1.0 or facts.get("beta", 1.0) != 1.0
            if scaled or facts.get("transA", 0):
                raise EngineError(f"{node.name} is a Gemm that scales or turns what it multiplies")
            if facts.get("transB", 0):
                found.add(node.input[1])
    return found


def _nodes(nodes: Sequence[NodeProto], names: set[str]) -> Iterator[NodeProto]:
    """The same nodes, but for the matrices that are int8 now."""
    rounded: set[str] = set()
    for node in nodes:
        if node.op_type not in ("MatMul", "Gemm") or node.input[1] not in names:
            yield node
            continue
        read, weight = node.input[0], node.input[1]
        if read not in rounded:
            rounded.add(read)
            outputs = [f"{read}_quantized", f"{read}_scale", f"{read}_zero_point"]
            yield helper.make_node(
                "DynamicQuantizeLinear", [read], outputs, f"{read}_QuantizeLinear"
            )
        yield from _int8_product(node, read, weight)


def _int8_product(node: NodeProto, read: str, weight: str) -> Iterator[NodeProto]:
    name, target = node.name or node.output[0], node.output[0]
    has_bias = node.op_type == "Gemm" and len(node.input) > 2 and bool(node.input[2])
    product = f"{target}_product" if has_bias else target
    codes = [f"{one}_quantized" for one in (read, weight)]
    zeros = [f"{one}_zero_point" for one in (read, weight)]
    scales = [f"{one}_scale" for one in (read, weight)]
    yield helper.make_node("MatMulInteger", [*codes, *zeros], [f"{target}_int32"], f"{name}_quant")
    yield helper.make_node(
        "Cast", [f"{target}_int32"], [f"{target}_cast"], f"{name}_cast", to=TensorProto.FLOAT
    )
    yield helper.make_node("Mul", scales, [f"{target}_scales"], f"{name}_scales_mul")
    yield helper.make_node(
        "Mul", [f"{target}_cast", f"{target}_scales"], [product], f"{name}_output_scale_mul"
    )
    if has_bias:
        yield helper.make_node("Add", [product, node.input[2]], [target], f"{name}_bias")
