"""Writes the decoder graph for TensorRT from the one that was written for ONNX Runtime.

The codes are taken from that graph's file, so both multiply by the same numbers to the last bit;
each matrix becomes a DequantizeLinear in blocks and a MatMul. Only symmetric codes are taken, of 4
and 8 bits. Tensors are read, turned and appended one by one: the memory is that of the largest.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper

from ..models.decoder_shape import DecoderShape
from ..models.decoder_weights import DecoderWeights
from ..quant.packing import codes_from_packed
from ..quant.schemes import Scheme
from ..quant.stored import bits_of
from ..runtime.errors import SchemeUnknown
from .decoder_graph import norm_name
from .decoder_onnx import DecoderWeight, decoder_weights
from .external_data import ExternalData
from .layer_writer import layer_vectors
from .stored_tensors import StoredTensors
from .trt_graph import (
    IR_VERSION,
    LAST,
    OPSET,
    FloatType,
    MatMul,
    TrtShape,
    trt_closing,
    trt_constants,
    trt_inputs,
    trt_layer,
    trt_opening,
    trt_outputs,
)

CODES, SCALES, RESTORED, STEPS, BLOCKS = "_codes", "_scales", "_restored", "_steps", "_blocks"
LEAST_BLOCK = 16
"""Codes of one scale; TensorRT's operator takes no fewer."""


def write_trt_decoder(
    weights: DecoderWeights,
    schemes: Mapping[str, Scheme],
    source: Path,
    target: Path,
    capacity: int,
    dtype: FloatType,
) -> None:
    """Write `target` and `<target>.data`.

    Args:
        weights: of the decoder, full precision: norms and biases.
        schemes: name of each parameter that is a matrix → its scheme.
        source: the decoder's graph for ONNX Runtime, whose codes are taken.
        target: .onnx.
        capacity: slots of the cache; fixed in the graph.
        dtype: of arithmetic, scales and cache.

    Raises:
        SchemeUnknown: a matrix has a scheme that TensorRT's operators cannot hold.

    Cost: seconds; the largest matrix a few times over in memory.
    """
    shape, sizes = TrtShape(weights.shape, capacity, dtype), weights.shape.parameters()
    matrices = decoder_weights(weights.shape.layers, is_tied=weights.shape.is_tied)
    widths = {one.name: sizes[one.parameters[0]][1] for one in matrices}
    of_each = {one.name: schemes[one.parameters[0]] for one in matrices}
    check_trt_schemes(weights.shape, schemes)
    matmul, stored = _matmul(of_each, widths), StoredTensors(source)
    nodes, stream = trt_opening(shape)
    for layer in range(weights.shape.layers):
        more, stream = trt_layer(shape, layer, stream, matmul)
        nodes += more
    nodes += trt_closing(shape, stream, matmul)
    with ExternalData(target.with_name(f"{target.name}.data")) as data:
        for name, array in trt_constants(shape).items():
            data.add(name, array)
        for layer in range(weights.shape.layers):
            for name, vector in layer_vectors(weights, layer):
                data.add(name, vector.astype(dtype))
        gain = weights.tensor("model.norm.weight")
        data.add(norm_name(weights.shape.layers, "final_norm"), gain.astype(dtype))
        for matrix in matrices:
            _matrix(
                data, stored, matrix, of_each[matrix.name], sizes[matrix.parameters[0]][1], dtype
            )
    graph = helper.make_graph(nodes, "decoder", trt_inputs(shape), trt_outputs(shape), data.tensors)
    model = helper.make_model(
        graph,
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="edgestream",
    )
    onnx.save(model, str(target))


def _matmul(schemes: Mapping[str, Scheme], widths: Mapping[str, int]) -> MatMul:
    """How a matrix is multiplied with: restored from its codes, unless it is kept as it was."""

    def nodes(stored: str, source: str, target: str) -> Sequence[NodeProto]:
        scheme, product = schemes[stored], f"{target}/MatMul"
        if scheme.is_exact:
            return [helper.make_node("MatMul", [source, stored], [target], product)]
        block, restored = whole_block(scheme, widths[stored]), f"{stored}{RESTORED}"
        parts = [f"{stored}{CODES}", f"{stored}{SCALES}"]
        words: dict[str, Any] = {"axis": 0, "block_size": block}
        name = f"{target}/DequantizeLinear"
        found = [helper.make_node("DequantizeLinear", parts, [restored], name, **words)]
        if bits_of(scheme) == 4:
            return [*found, helper.make_node("MatMul", [source, restored], [target], product)]
        by_codes = f"{target}/by_codes"
        found.append(helper.make_node("MatMul", [source, restored], [by_codes], product))
        return [*found, *_one_step_more(stored, source, by_codes, target)]

    return nodes


def _one_step_more(stored: str, source: str, by_codes: str, target: str) -> list[NodeProto]:
    """Adds the step that codes of 8 bits with a negative scale are short of; see `_int8`."""
    blocked, summed, step = f"{target}/blocked", f"{target}/summed", f"{target}/step"
    return [
        helper.make_node("Reshape", [source, f"{stored}{BLOCKS}"], [blocked], f"{blocked}/Reshape"),
        helper.make_node("ReduceSum", [blocked, LAST], [summed], f"{summed}/ReduceSum", keepdims=0),
        helper.make_node("MatMul", [summed, f"{stored}{STEPS}"], [step], f"{step}/MatMul"),
        helper.make_node("Add", [by_codes, step], [target], f"{target}/Add"),
    ]


def whole_block(scheme: Scheme, width: int) -> int:
    """The largest block that a row consists of whole ones of, with the scales of the scheme's.

    TensorRT takes no short last block: 576 codes in blocks of 128 are nine blocks of 64, each
    scale but the last one standing twice.
    """
    assert scheme.block is not None
    return math.gcd(scheme.block, width)


def _matrix(
    data: ExternalData,
    stored: StoredTensors,
    matrix: DecoderWeight,
    scheme: Scheme,
    width: int,
    dtype: FloatType,
) -> None:
    """(in, out), as MatMul takes it."""
    if scheme.is_exact:
        data.add(matrix.name, np.ascontiguousarray(stored.array(matrix.name), dtype))
        return
    packed, scales = stored.matrix_rows(matrix, scheme)
    codes = codes_from_packed(packed, width, bits_of(scheme)).T
    block = whole_block(scheme, width)
    assert scheme.block is not None
    of_blocks = scales.reshape(len(packed), -1).T.repeat(scheme.block // block, axis=0)
    of_blocks = of_blocks[: width // block]
    if bits_of(scheme) == 4:
        _add_int4(data, f"{matrix.name}{CODES}", codes)
        data.add(f"{matrix.name}{SCALES}", np.ascontiguousarray(of_blocks, dtype))
    else:
        _add_int8(data, matrix.name, codes, of_blocks, dtype)


def _add_int4(data: ExternalData, name: str, codes: NDArray[np.uint8]) -> None:
    """Codes 0 to 15 of (in, out) as int4 less 8: two in a byte, the first one in the low half."""
    signed = (codes ^ np.uint8(8)).reshape(-1)
    if len(signed) % 2:
        signed = np.append(signed, np.uint8(0))
    packed = signed[0::2] | signed[1::2] << np.uint8(4)
    data.add_pieces(name, packed.dtype, packed.shape, [packed])
    tensor = data.tensors[-1]
    tensor.data_type = TensorProto.INT4
    tensor.dims[:] = codes.shape


def _add_int8(
    data: ExternalData,
    name: str,
    codes: NDArray[np.uint8],
    scales: NDArray[np.float32],
    dtype: FloatType,
) -> None:
    """Codes 0 to 255 of (in, out) as int8 less 128, and their scales, which must be positive here.

    Where a scale s is negative, c · s = (~c) · |s| + |s|, since -c = ~c + 1, and unlike -c a
    complement ~c is never too large. The |s| times all that the block reads is added apart.
    """
    block = len(codes) // len(scales)
    is_turned = np.repeat(scales < 0, block, axis=0)
    signed = np.where(is_turned, ~(codes ^ np.uint8(128)), codes ^ np.uint8(128)).view(np.int8)
    data.add_pieces(f"{name}{CODES}", signed.dtype, signed.shape, [signed])
    steps = np.where(scales < 0, -scales, np.float32(0))
    # A block of zeros has the scale 0, which TensorRT refuses; times its codes, 0, any is as good.
    least = np.finfo(dtype).smallest_subnormal
    data.add(f"{name}{SCALES}", np.maximum(np.abs(scales).astype(dtype), least))
    data.add(f"{name}{STEPS}", np.ascontiguousarray(steps, dtype))
    data.add(f"{name}{BLOCKS}", np.array([1, -1, len(scales), block]))


def check_trt_schemes(shape: DecoderShape, schemes: Mapping[str, Scheme]) -> None:
    """Refuse what TensorRT's operators cannot hold.

    Args:
        shape: of the decoder.
        schemes: name of each parameter that is a matrix → its scheme.

    Raises:
        SchemeUnknown: a matrix is of NF4, or its rows do not consist of blocks.
    """
    sizes = shape.parameters()
    for name, scheme in schemes.items():
        if scheme.weights == "nf4":
            raise SchemeUnknown(
                f"decoder: {name} is {scheme.name}, expected codes of even steps: TensorRT has no "
                "operator for NF4",
                hint="--llm int4, int4-gptq, int8 or fp32",
            )
        if not scheme.is_exact and whole_block(scheme, sizes[name][1]) < LEAST_BLOCK:
            raise SchemeUnknown(
                f"decoder: {name} has rows of {sizes[name][1]}, expected a multiple of "
                f"{LEAST_BLOCK}: TensorRT takes whole blocks alone",
                hint="--llm fp32, which it multiplies in float16",
            )
