"""Adapters that share one decoder: their matrices are inputs of its graph, bound while it runs.

Each matrix that an adapter changes gets two inputs of free rank, A and B, whose defaults have the
rank 0 and add nothing, bit for bit. The scales are in B. Where the graph holds several layers in
one matrix, A holds theirs side by side and B is block diagonal, which is exact.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, helper, numpy_helper

from ..models.decoder_weights import DecoderWeights
from ..models.lora_matrices import LoraMatrices
from ..runtime.errors import EngineError
from ..runtime.values import Float32
from .decoder_onnx import DecoderWeight, decoder_weights

FOLDER, SUFFIX = "adapters", ".onnx_adapter"
_MATMULS = ("MatMul", "MatMulNBits", "MatMulBnb4")


@dataclass(frozen=True, slots=True, eq=False)
class PackedAdapter:
    """One adapter as the graph takes it.

    Attributes:
        name: what it is chosen by.
        tensors: input of the graph → float32 array: A (in, rank) and B (rank, out).
        sha256: of PEFT's file that it was made from.
        rank: the largest of its layers'.
    """

    name: str
    tensors: Mapping[str, Float32]
    sha256: str
    rank: int

    @property
    def file(self) -> str:
        """Where it stands in a bundle."""
        return f"{FOLDER}/{self.name}{SUFFIX}"


def changed_matrices(
    weights: DecoderWeights, adapters: Sequence[Mapping[str, LoraMatrices]]
) -> tuple[DecoderWeight, ...]:
    """The matrices of a decoder's graph that one of the adapters changes, in order."""
    changed = {module for adapter in adapters for module in adapter}
    shape = weights.shape
    matrices = decoder_weights(shape.layers, is_tied=shape.is_tied)
    return tuple(one for one in matrices if changed.intersection(_modules(one)))


def packed_adapter(
    name: str,
    sha256: str,
    adapter: Mapping[str, LoraMatrices],
    matrices: Sequence[DecoderWeight],
    weights: DecoderWeights,
) -> PackedAdapter:
    """An adapter's matrices, those of layers that the graph holds together put together."""
    sizes = weights.shape.parameters()
    tensors: dict[str, Float32] = {}
    for matrix in matrices:
        heights = [sizes[parameter][0] for parameter in matrix.parameters]
        width = sizes[matrix.parameters[0]][1]
        pairs = [adapter.get(module) for module in _modules(matrix)]
        ranks = sum(pair.a.shape[1] for pair in pairs if pair is not None)
        a, b = np.zeros((width, ranks), np.float32), np.zeros((ranks, sum(heights)), np.float32)
        row = column = 0
        for pair, height in zip(pairs, heights, strict=True):
            if pair is not None:
                rows = slice(row, row + pair.a.shape[1])
                a[:, rows], b[rows, column : column + height] = pair.a, pair.b
                row = rows.stop
            column += height
        tensors |= dict(zip(_names(matrix), (a, b), strict=True))
    rank = max(int(one.a.shape[1]) for one in adapter.values())
    return PackedAdapter(name, tensors, sha256, rank)


def add_adapter_inputs(
    path: Path, matrices: Sequence[DecoderWeight], weights: DecoderWeights
) -> None:
    """Give a decoder's graph the inputs of these matrices; its weights are not touched.

    Args:
        path: of the graph, written over.
        matrices: that adapters change.
        weights: of the decoder.

    Raises:
        EngineError: the graph multiplies with one of them other than once.
    """
    model = onnx.load(str(path), load_external_data=False)
    wanted, sizes = {one.name: one for one in matrices}, weights.shape.parameters()
    nodes: list[NodeProto] = []
    found: list[str] = []
    for node in model.graph.node:
        nodes.append(node)
        matrix = wanted.get(_multiplied(node))
        if matrix is None:
            continue
        found.append(matrix.name)
        nodes += _added(node, matrix)
        out = sum(sizes[parameter][0] for parameter in matrix.parameters)
        width = sizes[matrix.parameters[0]][1]
        for name, shape in zip(_names(matrix), ((width, 0), (0, out)), strict=True):
            free: list[Any] = [size or f"rank of {matrix.name}" for size in shape]
            model.graph.input.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, free))
            nothing = np.zeros(shape, np.float32)
            model.graph.initializer.append(numpy_helper.from_array(nothing, name))
    if sorted(found) != sorted(wanted):
        raise EngineError(
            f"the decoder graph multiplies {len(found)} times with the {len(wanted)} matrices that "
            "the adapters change, expected once with each"
        )
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    onnx.save(model, str(path))


def write_adapter(adapter: PackedAdapter, bundle: Path) -> Path:
    """Write its file, as ONNX Runtime reads adapters, into a bundle's folder."""
    import onnxruntime as ort  # type: ignore[import-untyped]

    path = bundle / adapter.file
    path.parent.mkdir(exist_ok=True)
    file = ort.AdapterFormat()
    file.set_adapter_version(1)
    file.set_model_version(1)
    values = {n: ort.OrtValue.ortvalue_from_numpy(one) for n, one in adapter.tensors.items()}
    file.set_parameters(values)
    file.export_adapter(str(path))
    return path


def _modules(matrix: DecoderWeight) -> tuple[str, ...]:
    return tuple(parameter.removesuffix(".weight") for parameter in matrix.parameters)


def _names(matrix: DecoderWeight) -> tuple[str, str]:
    """A and B of a matrix, as inputs of the graph."""
    place = matrix.name.removesuffix(".MatMul.weight")
    return f"{place}.lora_A", f"{place}.lora_B"


def _multiplied(node: NodeProto) -> str:
    """The matrix that a node multiplies with, without the ending of its codes."""
    if node.op_type not in _MATMULS or len(node.input) < 2:
        return ""
    whole, point, _ = str(node.input[1]).partition(".MatMul.weight")
    return f"{whole}{point}"


def _added(node: NodeProto, matrix: DecoderWeight) -> list[NodeProto]:
    """What adds x A B to a node's output, which gets another name."""
    a, b = _names(matrix)
    out = node.output[0]
    place = node.name.rsplit("/MatMul", 1)[0]
    node.output[0] = f"{out}.base"
    return [
        helper.make_node("MatMul", [node.input[0], a], [f"{out}.lora_A"], f"{place}/lora_A/MatMul"),
        helper.make_node(
            "MatMul", [f"{out}.lora_A", b], [f"{out}.lora_B"], f"{place}/lora_B/MatMul"
        ),
        helper.make_node("Add", [f"{out}.base", f"{out}.lora_B"], [out], f"{place}/lora/Add"),
    ]
