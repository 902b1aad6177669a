"""The matrices of a float decoder graph, replaced by stored ones, each as its scheme says."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from onnx import GraphProto, ModelProto, NodeProto, helper, numpy_helper

from ..quant.schemes import Scheme
from ..quant.stored import Stored, joined, operator_of, quantized_matrix
from ..runtime.values import Float32

if TYPE_CHECKING:
    from .decoder_onnx import DecoderWeight

DOMAIN = "com.microsoft"
Matrix: TypeAlias = Callable[[str], Float32]
Hessian: TypeAlias = Callable[[str], NDArray[np.float64]]


def store_matrices(
    model: ModelProto,
    weights: Sequence[DecoderWeight],
    schemes: Mapping[str, Scheme],
    matrix: Matrix,
    hessian: Hessian | None = None,
) -> None:
    """Replace MatMul nodes in place; nodes keep their order, outputs and names.

    Args:
        model: float32, with a MatMul for each weight.
        weights: all matrices.
        schemes: of each parameter; those of one weight are the same.
        matrix: name of a parameter → (out, in) float32.
        hessian: name of the first parameter of a weight → (in, in); for data-aware schemes.
    """
    wanted = {
        weight.name: weight for weight in weights if not schemes[weight.parameters[0]].is_exact
    }
    made: dict[str, Stored] = {}
    nodes: list[NodeProto] = []
    for node in model.graph.node:
        weight = wanted.get(node.input[1]) if node.op_type == "MatMul" else None
        if weight is None:
            nodes.append(node)
            continue
        scheme = schemes[weight.parameters[0]]
        read = None
        if scheme.method != "nearest":
            assert hessian is not None, "a data-aware scheme comes with its calibration"
            read = hessian(weight.parameters[0])
        parts = [quantized_matrix(matrix(one), scheme, read, one) for one in weight.parameters]
        made[weight.name] = joined(parts)
        nodes.append(_node(node, scheme, _shape(model.graph, weight.name)))
    _replace(model.graph, nodes, made, {name: schemes[wanted[name].parameters[0]] for name in made})


def _shape(graph: GraphProto, name: str) -> tuple[int, int]:
    dims = next(tensor.dims for tensor in graph.initializer if tensor.name == name)
    return dims[0], dims[1]


def _node(node: NodeProto, scheme: Scheme, shape: tuple[int, int]) -> NodeProto:
    """The node that multiplies by the stored form of (in, out)."""
    operator = operator_of(scheme)
    codes, scales, suffix = operator.suffixes
    name = node.input[1]
    words: dict[str, Any] = {"K": shape[0], "N": shape[1], **dict(operator.attributes)}
    return helper.make_node(
        operator.op_type,
        [node.input[0], f"{name}{codes}", f"{name}{scales}"],
        list(node.output),
        f"{node.name}{suffix}",
        domain=DOMAIN,
        **words,
    )


def _replace(
    graph: GraphProto,
    nodes: Sequence[NodeProto],
    made: Mapping[str, Stored],
    schemes: Mapping[str, Scheme],
) -> None:
    kept = [tensor for tensor in graph.initializer if tensor.name not in made]
    for name, stored in made.items():
        codes, scales, _ = operator_of(schemes[name]).suffixes
        kept.append(numpy_helper.from_array(stored.codes, f"{name}{codes}"))
        kept.append(numpy_helper.from_array(stored.scales, f"{name}{scales}"))
    del graph.node[:], graph.initializer[:]
    graph.node.extend(nodes)
    graph.initializer.extend(kept)
