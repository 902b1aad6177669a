"""Writes a decoder graph one layer at a time: a model of any size in the memory of one layer.

The graph is the one that onnxruntime-genai's builder makes of a Llama, Mistral or Qwen2 (a test
holds one against the other), and goes on where the builder does not: positions on several axes,
norms of queries and keys, and what Qwen3-VL adds after its first layers. Weights are read, kept as
the scheme says, and appended to the file beside the graph; nothing is held for longer.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import NodeProto, helper

from ..calibration.cache_ranges import CacheScales
from ..models.decoder_shape import LINEARS, DecoderShape
from ..models.decoder_weights import DecoderWeights
from ..quant.schemes import Scheme
from ..quant.stored import bits_of, joined, operator_of, quantized_matrix
from ..runtime.values import Float32
from .cache_type import CacheType, set_cache_type
from .decoder_graph import (
    GROUPS,
    MICROSOFT,
    MatMul,
    closing_nodes,
    decoder_inputs,
    decoder_outputs,
    layer_nodes,
    norm_name,
    opening_nodes,
    shared_constants,
)
from .decoder_matmuls import Hessian
from .decoder_onnx import DecoderWeight, decoder_weights
from .external_data import ExternalData
from .kept_rows import kept_rows

OPSET, IR_VERSION = 22, 10
LARGEST_POSITION = 32_768
"""Rows of the rotary tables at most; a longer cache than this is no edge device's."""


def write_layers(
    weights: DecoderWeights,
    scheme: Scheme | Mapping[str, Scheme],
    folder: Path,
    name: str,
    hessian: Hessian | None = None,
    *,
    cache: CacheType = "float32",
    cache_scales: Sequence[CacheScales] | None = None,
) -> None:
    """Write `<name>.onnx` and `<name>.onnx.data`.

    Args:
        weights: of the decoder, from memory or from files.
        scheme: how its matrices are kept; or of each parameter, by name.
        folder: gets the two files.
        name: of the files.
        hessian: what a matrix reads in calibration, for data-aware schemes.
        cache: type of keys and values.
        cache_scales: of each layer, for a cache of int8.

    Raises:
        WeightsInvalid: a weight is NaN or infinite.
        KeyError: a tensor is missing.

    Cost: a portion of weights (kept_rows.PORTION) in float32 a few times over, and of fp32 the
        largest matrix twice; the time is that of the quantization.
    """
    shape = weights.shape
    matrices = decoder_weights(shape.layers, is_tied=shape.is_tied)
    schemes = _scheme_of_each(matrices, scheme)
    matmul = _matmul(schemes)
    nodes, stream = opening_nodes(shape)
    with ExternalData(folder / f"{name}.onnx.data") as data:
        _constants(data, shape)
        for layer in range(shape.layers):
            for vector, numbers in layer_vectors(weights, layer):
                data.add(vector, numbers)
            for matrix in matrices[4 * layer : 4 * layer + 4]:
                _matrix(data, weights, matrix, schemes[matrix.name], hessian)
            more, stream = layer_nodes(shape, layer, stream, matmul)
            nodes += more
        data.add(norm_name(shape.layers, "final_norm"), weights.tensor("model.norm.weight"))
        _matrix(data, weights, matrices[-1], schemes[matrices[-1].name], hessian)
    nodes += closing_nodes(shape, stream, matmul)
    graph = helper.make_graph(
        nodes, "decoder", decoder_inputs(shape), decoder_outputs(shape), data.tensors
    )
    model = helper.make_model(
        graph,
        opset_imports=[helper.make_opsetid("", OPSET), helper.make_opsetid(MICROSOFT, 1)],
        ir_version=IR_VERSION,
        producer_name="edgestream",
    )
    set_cache_type(model, cache, cache_scales)
    onnx.save(model, str(folder / f"{name}.onnx"))


def _scheme_of_each(
    matrices: Sequence[DecoderWeight], scheme: Scheme | Mapping[str, Scheme]
) -> dict[str, Scheme]:
    """Name of each matrix of the graph → its scheme."""
    if isinstance(scheme, Scheme):
        return {one.name: scheme for one in matrices}
    return {one.name: scheme[one.parameters[0]] for one in matrices}


def _matmul(schemes: Mapping[str, Scheme]) -> MatMul:
    """How a matrix is multiplied with: its node, from names and widths."""

    def node(name: str, source: str, target: str, width: int, out: int) -> NodeProto:
        stored = _tensor_name(name)
        scheme = schemes[stored]
        if scheme.is_exact:
            return helper.make_node("MatMul", [source, stored], [target], name)
        operator = operator_of(scheme)
        codes, scales, suffix = operator.suffixes
        words: dict[str, Any] = {"K": width, "N": out, **dict(operator.attributes)}
        return helper.make_node(
            operator.op_type,
            [source, f"{stored}{codes}", f"{stored}{scales}"],
            [target],
            f"{name}{suffix}",
            domain=MICROSOFT,
            **words,
        )

    return node


def _tensor_name(node: str) -> str:
    """As `decoder_weights` calls the matrix of this node."""
    return f"{node[1:].replace('/', '.')}.weight"


def _matrix(
    data: ExternalData,
    weights: DecoderWeights,
    matrix: DecoderWeight,
    scheme: Scheme,
    hessian: Hessian | None,
) -> None:
    if scheme.is_exact:
        rows = [weights.tensor(one) for one in matrix.parameters]
        whole = np.concatenate(rows) if len(rows) > 1 else rows[0]
        data.add(matrix.name, np.ascontiguousarray(whole.T))
    elif scheme.method == "nearest" and scheme.weights != "nf4":
        _rounded_matrix(data, weights, matrix, scheme)
    else:
        read = None
        if scheme.method != "nearest":
            assert hessian is not None, "a data-aware scheme comes with its calibration"
            read = hessian(matrix.parameters[0])
        parts = [
            quantized_matrix(weights.tensor(one), scheme, read, one) for one in matrix.parameters
        ]
        stored, suffixes = joined(parts), operator_of(scheme).suffixes
        data.add(f"{matrix.name}{suffixes[0]}", stored.codes)
        data.add(f"{matrix.name}{suffixes[1]}", stored.scales)


def _rounded_matrix(
    data: ExternalData, weights: DecoderWeights, matrix: DecoderWeight, scheme: Scheme
) -> None:
    """Some rows at a time, which do not depend on each other."""
    sizes = weights.shape.parameters()
    height, width = sum(sizes[one][0] for one in matrix.parameters), sizes[matrix.parameters[0]][1]
    assert scheme.block is not None
    blocks, bits = -(-width // scheme.block), bits_of(scheme)
    of_codes, of_scales, _ = operator_of(scheme).suffixes
    scales: list[Float32] = []

    def codes() -> Iterator[NDArray[np.uint8]]:
        for parameter in matrix.parameters:
            for rows in kept_rows(weights, parameter, scheme):
                packed, of_rows = rows.stored
                scales.append(of_rows)
                yield packed

    shape = (height, blocks, scheme.block * bits // 8)
    data.add_pieces(f"{matrix.name}{of_codes}", np.dtype(np.uint8), shape, codes())
    data.add_pieces(f"{matrix.name}{of_scales}", np.dtype(np.float32), (height, blocks), scales)


def layer_vectors(weights: DecoderWeights, layer: int) -> Iterator[tuple[str, Float32]]:
    """Name in the graph, gain of each norm or bias of a layer."""
    shape, place = weights.shape, f"model.layers.{layer}"
    for which in ("input", "post_attention"):
        yield norm_name(layer, which), weights.tensor(f"{place}.{which}_layernorm.weight")
    if shape.has_qk_norm:
        for one in "qk":
            gain = weights.tensor(f"{place}.self_attn.{one}_norm.weight")
            yield f"{place}.attn.{one}_norm.layernorm.weight", gain
    for group, linears in GROUPS.items():
        if shape.biases.intersection(linears):
            part = "mlp" if LINEARS[linears[0]] == "mlp" else "attn"
            biases = [_bias(weights, place, one) for one in linears]
            yield f"{place}.{part}.{group}.Add.bias", np.concatenate(biases)


def _bias(weights: DecoderWeights, place: str, linear: str) -> Float32:
    if linear in weights.shape.biases:
        return weights.tensor(f"{place}.{LINEARS[linear]}.{linear}.bias")
    return np.zeros(weights.shape.linears()[linear][0], np.float32)


def _constants(data: ExternalData, shape: DecoderShape) -> None:
    for name, numbers in shared_constants(shape).items():
        data.add(name, np.array(numbers, np.int64))
    # In float32 like `transformers`, so that far positions have the angles of the training.
    shares = np.arange(0, shape.head_dim, 2, dtype=np.float32) / np.float32(shape.head_dim)
    frequencies = np.float32(1) / np.float32(shape.theta) ** shares
    rows = min(shape.max_positions, LARGEST_POSITION)
    angles = np.arange(rows, dtype=np.float32)[:, None] * frequencies
    data.add("cos_cache", np.cos(angles))
    data.add("sin_cache", np.sin(angles))
