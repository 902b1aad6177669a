"""The Q/DQ pairs of a graph that another tool quantized, read and made ready for the CPU."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from ..quant.schemes import Scheme, WeightType, given_scheme
from ..runtime.errors import GraphRefused
from ..runtime.values import Float32

QUANTIZE, DEQUANTIZE = "QuantizeLinear", "DequantizeLinear"
_TYPES: dict[int, WeightType] = {TensorProto.INT8: "int8", TensorProto.INT4: "int4"}
_MOST: dict[int, int] = {TensorProto.INT8: 127, TensorProto.INT4: 7}
# Of a bias, which is as fine as what it is added to.
_NO_WEIGHT = frozenset({TensorProto.INT32})


@dataclass(frozen=True, slots=True, eq=False)
class QdqWeight:
    """A constant that is kept as codes and scales.

    Attributes:
        name: of the constant, for people.
        values: what DequantizeLinear makes of it, float32, in its shape in the graph.
        weights: type of its codes.
        block: codes that share a scale; None for a scale per channel, or one for all.
    """

    name: str
    values: Float32
    weights: WeightType
    block: int | None


@dataclass(frozen=True, slots=True, eq=False)
class QdqGraph:
    """What a graph holds in Q/DQ pairs.

    Attributes:
        weights: constants.
        activations: how many pairs there are of what is computed.
    """

    weights: tuple[QdqWeight, ...]
    activations: int

    def scheme(self) -> Scheme:
        """How most of the numbers are kept.

        Raises:
            GraphRefused: no constant is in pairs.
        """
        sizes: Counter[tuple[WeightType, int | None]] = Counter()
        for one in self.weights:
            sizes[one.weights, one.block] += one.values.size
        if not sizes:
            raise GraphRefused(
                "got a graph without a weight in Q/DQ pairs, expected weights in int8 or int4",
                hint="--vision fp32 keeps full precision, --vision int8 quantizes it here",
            )
        (weights, block), _ = sizes.most_common(1)[0]
        try:
            return given_scheme(weights, block, "int8" if self.activations else "float32")
        except ValueError as error:  # 4 bits in rows, or blocks of a few
            raise GraphRefused(
                f"got {weights} in {'rows' if block is None else f'blocks of {block}'}: {error}",
                hint="block_size=32, 64 or 128",
            ) from error


def read_qdq(model: ModelProto) -> QdqGraph:
    """The pairs of a graph, which becomes as the CPU engine takes it, with the same numbers.

    Constants that are quantized at each start are kept as their codes. Activations in int8 become
    uint8 with a zero point of 128: onnxruntime 1.31 rewrites them so itself, and then fails at a
    product that it had joined with the sum behind it.

    Raises:
        GraphRefused: of float8, with a zero point of weights, or with scales that do not fit.
    """
    graph = _Graph(model)
    weights, activations = [], 0
    for node in graph.nodes(DEQUANTIZE):
        graph.check_type(node)
        made_by = graph.makers.get(node.input[0])
        if made_by is not None and made_by.op_type == QUANTIZE:
            if made_by.input[0] not in graph.constants:
                activations += 1
                graph.as_uint8(made_by)
                continue
            weights.append(graph.weight(node, made_by.input[0], graph.folded(made_by)))
        elif node.input[0] in graph.constants:
            tensor = graph.constants[node.input[0]]
            if tensor.data_type not in _NO_WEIGHT:
                weights.append(graph.weight(node, tensor.name, tensor))
    graph.drop_unused()
    return QdqGraph(tuple(weights), activations)


class _Graph:
    """A graph that is changed in place. State: its constants, and who makes each value."""

    def __init__(self, model: ModelProto) -> None:
        self.graph = model.graph
        self.constants = {tensor.name: tensor for tensor in self.graph.initializer}
        for node in self.nodes("Constant"):
            if len(node.attribute) == 1 and node.attribute[0].name == "value":
                self.constants[node.output[0]] = node.attribute[0].t
        self.makers = {name: node for node in self.graph.node for name in node.output}
        # They tell types that are no longer so; the engine infers them anew.
        del self.graph.value_info[:]

    def nodes(self, op_type: str) -> list[NodeProto]:
        """Of one operator of ONNX's own, in their order."""
        return [one for one in self.graph.node if one.op_type == op_type and not one.domain]

    def check_type(self, node: NodeProto) -> None:
        """Refuse codes that the engine has no products of."""
        given = [node.input[0], *node.input[2:3]]
        types = [self.constants[name].data_type for name in given if name in self.constants]
        names = [TensorProto.DataType.Name(kind) for kind in types]
        if wrong := next((name for name in names if name.startswith("FLOAT")), None):
            raise GraphRefused(
                f"{node.name}: got codes of {wrong.lower()}, expected int8 or int4: the CPU engine "
                "has no products of others",
                hint="quantize_mode='int8' or 'int4'",
            )

    def weight(self, node: NodeProto, name: str, codes: TensorProto) -> QdqWeight:
        """The constant that a DequantizeLinear reads."""
        if codes.data_type not in _TYPES:
            kind = TensorProto.DataType.Name(codes.data_type).lower()
            raise GraphRefused(f"{node.name}: got weights in {kind}, expected int8 or int4")
        if len(node.input) > 2 and self._array(node.input[2]).astype(np.int32).any():
            raise GraphRefused(
                f"{node.name}: got weights with a zero point, expected symmetric ones",
                hint="use_zero_point=False",
            )
        scales, axis, block = self._array(node.input[1]), *_axis_and_block(node)
        array = numpy_helper.to_array(codes)
        try:
            values = dequantized(array.astype(np.int8), scales, axis, block, node.name)
        except GraphRefused as error:
            reader = next(one.name for one in self.graph.node if node.output[0] in one.input)
            hint = f"quantize it without what reads it: nodes_to_exclude=['{reader}']"
            raise GraphRefused(error.message, hint=hint) from error
        return QdqWeight(name, values, _TYPES[codes.data_type], block)

    def folded(self, node: NodeProto) -> TensorProto:
        """The codes that a QuantizeLinear makes of a constant, which take its place."""
        values = numpy_helper.to_array(self.constants[node.input[0]]).astype(np.float32)
        kind = self._type_of_codes(node)
        axis, block = _axis_and_block(node)
        scales = self._array(node.input[1])
        if kind not in _MOST or (
            len(node.input) > 2 and self._array(node.input[2]).astype(np.int32).any()
        ):
            raise GraphRefused(
                f"{node.name}: got weights that are not symmetric int8 or int4",
                hint="use_zero_point=False, quantize_mode='int8' or 'int4'",
            )
        ones = np.ones(values.shape, np.int8)
        ratio = values / dequantized(ones, scales, axis, block, node.name)
        most = _MOST[kind]
        codes = np.clip(np.rint(ratio), -most - 1, most)
        name = node.output[0]
        tensor = numpy_helper.from_array(codes.astype(helper.tensor_dtype_to_np_dtype(kind)), name)
        self.graph.node.remove(node)
        self.graph.initializer.append(tensor)
        self.constants[name] = tensor
        return tensor

    def as_uint8(self, node: NodeProto) -> None:
        """Let an activation in int8 be kept in uint8: the same steps, counted from 128."""
        readers = [one for one in self.graph.node if node.output[0] in one.input]
        pairs = [one for one in readers if one.op_type == DEQUANTIZE and len(one.input) > 2]
        if len(node.input) < 3 or len(pairs) < len(readers):
            return
        zero = self._array(node.input[2])
        if zero.dtype != np.int8:
            return
        name = f"{node.input[2]}_of_uint8"
        if name not in self.constants:
            made = numpy_helper.from_array((zero.astype(np.int16) + 128).astype(np.uint8), name)
            self.graph.initializer.append(made)
            self.constants[name] = made
        kept = [one for one in node.attribute if one.name != "output_dtype"]
        del node.attribute[:]
        node.attribute.extend(kept)
        for one in (node, *pairs):
            one.input[2] = name

    def drop_unused(self) -> None:
        """Constants that nobody reads any more."""
        read = {name for node in self.graph.node for name in node.input}
        read |= {value.name for value in self.graph.output}
        kept = [tensor for tensor in self.graph.initializer if tensor.name in read]
        del self.graph.initializer[:]
        self.graph.initializer.extend(kept)

    def _type_of_codes(self, node: NodeProto) -> int:
        if len(node.input) > 2:
            return int(self.constants[node.input[2]].data_type)
        told = (one.i for one in node.attribute if one.name == "output_dtype")
        return int(next(told, TensorProto.UINT8))

    def _array(self, name: str) -> NDArray[Any]:
        if name not in self.constants:
            raise GraphRefused(f"got {name} as a computed scale or zero point, expected constants")
        return numpy_helper.to_array(self.constants[name])


def _axis_and_block(node: NodeProto) -> tuple[int, int | None]:
    told = {one.name: one.i for one in node.attribute}
    return int(told.get("axis", 1)), int(told.get("block_size", 0)) or None


def dequantized(
    codes: NDArray[np.int8], scales: NDArray[Any], axis: int, block: int | None, name: str
) -> Float32:
    """What DequantizeLinear gives: code times scale, in the type of the scales.

    Args:
        codes: of any shape.
        scales: one; one for each index of `axis`; or one for each `block` of them.
        axis: may count from the end.
        block: None for no blocks.
        name: of the node, for errors.

    Raises:
        GraphRefused: the scales are not as many as the codes need.
    """
    wide = scales
    if block is not None:
        wanted = list(codes.shape)
        wanted[axis] = -(-codes.shape[axis] // block)
        _check_scales(scales.shape, wanted, codes.shape, name)
        wide = np.repeat(scales, block, axis=axis)
        wide = np.take(wide, np.arange(codes.shape[axis]), axis=axis)
    elif scales.size > 1:
        _check_scales(scales.shape, codes.shape[axis : axis + 1 or None], codes.shape, name)
        shape = [1] * codes.ndim
        shape[axis] = -1
        wide = scales.reshape(shape)
    product = codes.astype(np.float32) * wide.astype(np.float32)
    rounded: Float32 = product.astype(scales.dtype).astype(np.float32)
    return rounded


def _check_scales(
    got: Iterable[int], wanted: Iterable[int], codes: Iterable[int], name: str
) -> None:
    if list(got) != list(wanted):
        raise GraphRefused(
            f"{name}: got scales {list(got)} for a weight {list(codes)}, expected {list(wanted)}"
        )
