"""Weights as onnxruntime itself quantizes them, from ONNX graphs of one matrix."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

X = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["rows", None])
Y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["rows", None])


class Stored(NamedTuple):
    """Of one MatMulNBits: the bytes as they lie, and the scales (out, blocks)."""

    packed: np.ndarray
    scales: np.ndarray
    bits: int
    block: int
    in_dim: int
    has_zero_points: bool


def graph_of(op_type: str, weights: np.ndarray, **attributes: Any) -> onnx.ModelProto:
    """y = x · weights, as a MatMul or a Gemm."""
    node = helper.make_node(op_type, ["x", "w"], ["y"], "layer", **attributes)
    graph = helper.make_graph([node], "one", [X], [Y], [numpy_helper.from_array(weights, "w")])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


def initializers(model: onnx.ModelProto) -> dict[str, np.ndarray]:
    """Every constant of the graph by its name."""
    return {each.name: numpy_helper.to_array(each) for each in model.graph.initializer}


def dynamically_quantized(op_type: str, weights: np.ndarray, folder: Path, **attributes: Any):
    """The constants that `quantize_dynamic` writes for one MatMul or Gemm."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    source, target = folder / "float.onnx", folder / "int8.onnx"
    onnx.save(graph_of(op_type, weights, **attributes), source)
    quantize_dynamic(
        source,
        target,
        per_channel=True,
        weight_type=QuantType.QInt8,
        op_types_to_quantize=["MatMul", "Gemm"],
    )
    model = onnx.load(target)
    assert [node.op_type for node in model.graph.node].count("MatMulInteger") == 1
    return initializers(model)


def in_blocks(weights: np.ndarray, block: int, bits: int) -> onnx.ModelProto:
    """The graph that onnxruntime's MatMulNBitsQuantizer makes for (out, in) weights."""
    from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer

    model = graph_of("MatMul", np.ascontiguousarray(weights.T))
    quantizer = MatMulNBitsQuantizer(model, bits=bits, block_size=block, is_symmetric=True)
    quantizer.process()
    made: onnx.ModelProto = quantizer.model.model
    return made


def stored_blocks(model: onnx.ModelProto) -> dict[str, Stored]:
    """What each MatMulNBits of a graph keeps, by the name of the node."""
    constants = initializers(model)
    found = {}
    for node in model.graph.node:
        if node.op_type == "MatMulNBits":
            facts = {each.name: helper.get_attribute_value(each) for each in node.attribute}
            shape = (facts["N"], -(-facts["K"] // facts["block_size"]))
            found[node.name] = Stored(
                constants[node.input[1]],
                constants[node.input[2]].reshape(shape),
                facts["bits"],
                facts["block_size"],
                facts["K"],
                len(node.input) > 3 and bool(node.input[3]),
            )
    return found
