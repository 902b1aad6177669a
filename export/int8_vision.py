"""Per-channel dynamic int8 for vision and connector graphs, and what is in an int8 graph."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import ModelProto, numpy_helper

from ..runtime.errors import EngineError
from .onnx_from_torch import constant_matmuls, without_traces
from .quiet import quiet
from .unsigned_weights import keep_unsigned, to_signed


def int8_from_float(source: Path, target: Path) -> None:
    """Write the int8 form of a float32 graph: MatMul and Gemm by a constant, and nothing else.

    Codes lie as uint8 around 128; see `unsigned_weights`.

    Args:
        source: .onnx, float32, weights inside or beside it.
        target: .onnx to write.

    Raises:
        EngineError: the quantizer left a matrix as it was, which it does without a word.

    Cost: a few seconds; activations are quantized as they come, so no calibration is needed.
    """
    from onnxruntime.quantization import QuantType, quantize_dynamic

    before = constant_matmuls(onnx.load(str(source), load_external_data=False))
    with quiet():  # it advises a pre-processing that would hide matrices from it
        quantize_dynamic(
            str(source),
            str(target),
            per_channel=True,
            weight_type=QuantType.QInt8,
            op_types_to_quantize=["MatMul", "Gemm"],
            extra_options={"MatMulConstBOnly": True},
        )
    graph = keep_unsigned(without_traces(onnx.load(str(target))))
    onnx.save(graph, str(target))
    left, made = constant_matmuls(graph), len(stored_int8(graph))
    if left or made != len(before):
        raise EngineError(
            f"int8 quantization made {made} of {len(before)} matrices of {source.name} and left "
            f"{', '.join(left) or 'none'}"
        )


def stored_int8(graph: ModelProto) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Name of the float32 weight → (codes int8 (in, out), scales float32 (out,)) in the graph."""
    tensors = {tensor.name: tensor for tensor in graph.graph.initializer}
    # Q/DQ pairs leave the weight of a Gemm as it lay, (out, in).
    by_rows = {
        node.input[0]
        for node in graph.graph.node
        if node.op_type == "DequantizeLinear"
        and any(one.name == "axis" and one.i == 0 for one in node.attribute)
    }
    found = {}
    for name, tensor in tensors.items():
        if name.endswith("_quantized"):
            codes = numpy_helper.to_array(tensor)
            codes = to_signed(codes) if codes.dtype == np.uint8 else codes
            weight = name.removesuffix("_quantized")
            scales = numpy_helper.to_array(tensors[f"{weight}_scale"])
            found[weight] = (codes.T if name in by_rows else codes, scales)
    return found
