"""Static int8 as TensorRT takes it: symmetric Q/DQ pairs before what multiplies by a constant.

It is made of the CPU's graph with static ranges: the same codes and scales of the weights, and the
same ranges of what is read. TensorRT takes no zero point, so a range reaches as far on either side
as it does on its longer one; what a product gives goes on as it is, to the sum behind it.
"""

from __future__ import annotations

import numpy as np
from onnx import ModelProto, NodeProto, numpy_helper

from .qdq_graph import DEQUANTIZE, QUANTIZE
from .unsigned_weights import keep_signed

MOST = 127
"""Greatest code; -128 is left out, as TensorRT's own calibration does."""
_PRODUCTS = frozenset({"MatMul", "Gemm"})


def symmetric_graph(model: ModelProto) -> ModelProto:
    """The graph with symmetric pairs, and none but where a product by a constant reads.

    Args:
        model: as `static_from_float` writes it; it is changed.
    """
    graph = _Pairs(keep_signed(model))
    for quantize, dequantize in graph.pairs():
        if graph.is_multiplied(dequantize):
            graph.make_symmetric(quantize, dequantize)
        else:
            graph.take_out(quantize, dequantize)
    graph.drop_unused()
    return model


class _Pairs:
    """A graph that is changed in place. State: its constants, and who reads each value."""

    def __init__(self, model: ModelProto) -> None:
        self.graph = model.graph
        self.constants = {tensor.name: tensor for tensor in self.graph.initializer}
        self.makers = {name: node for node in self.graph.node for name in node.output}
        # They tell types that are no longer so; whoever reads the graph infers them anew.
        del self.graph.value_info[:]

    def pairs(self) -> list[tuple[NodeProto, NodeProto]]:
        """Both nodes of every pair around something computed."""
        made = [(self.makers.get(node.input[0]), node) for node in self.graph.node
                if node.op_type == DEQUANTIZE]  # fmt: skip
        return [(first, second) for first, second in made
                if first is not None and first.op_type == QUANTIZE]  # fmt: skip

    def is_multiplied(self, dequantize: NodeProto) -> bool:
        """Whether a product by codes reads it; whoever else does reads the numbers themselves."""
        readers = [one for one in self.graph.node if dequantize.output[0] in one.input]
        return any(self._is_product(one) and one.input[0] == dequantize.output[0]
                   for one in readers)  # fmt: skip

    def make_symmetric(self, quantize: NodeProto, dequantize: NodeProto) -> None:
        """Codes of int8 around zero, over a range that holds the old one."""
        scale, zero = (self.constants[name] for name in quantize.input[1:3])
        step, low = numpy_helper.to_array(scale), numpy_helper.to_array(zero).astype(np.float32)
        reach = max(float(low), 255 - float(low)) * step
        scale.CopyFrom(numpy_helper.from_array(np.float32(reach / MOST), scale.name))
        zero.CopyFrom(numpy_helper.from_array(np.int8(0), zero.name))
        for node in self.graph.node:
            if not self._is_product(node):
                self._read_instead(node, dequantize.output[0], quantize.input[0])

    def take_out(self, quantize: NodeProto, dequantize: NodeProto) -> None:
        """What was a pair is the number itself."""
        before, behind = quantize.input[0], dequantize.output[0]
        self.graph.node.remove(quantize)
        self.graph.node.remove(dequantize)
        is_border = any(value.name == behind for value in self.graph.output)
        old, new = (before, behind) if is_border else (behind, before)
        for node in self.graph.node:
            self._read_instead(node, old, new)
            node.output[:] = [new if name == old else name for name in node.output]

    def drop_unused(self) -> None:
        """Constants that nobody reads any more."""
        read = {name for node in self.graph.node for name in node.input}
        kept = [tensor for tensor in self.graph.initializer if tensor.name in read]
        del self.graph.initializer[:]
        self.graph.initializer.extend(kept)

    def _is_product(self, node: NodeProto) -> bool:
        by = self.makers.get(node.input[1]) if node.op_type in _PRODUCTS else None
        return by is not None and by.op_type == DEQUANTIZE and by.input[0] in self.constants

    @staticmethod
    def _read_instead(node: NodeProto, old: str, new: str) -> None:
        node.input[:] = [new if name == old else name for name in node.input]
