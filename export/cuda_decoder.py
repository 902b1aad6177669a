"""The decoder as CUDA runs it: the CPU graph typed float16, with the counts of slots as inputs.

GroupQueryAttention takes 16-bit numbers alone there. The CPU graph works out from a mask how many
slots are in use; those few nodes would run on the CPU, which a strict session refuses and a CUDA
graph cannot hold, so the two counts are inputs. Codes of quantized matrices are not written again:
the graph names them in the file of the CPU variant, which lies beside it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper

from ..runtime.errors import EngineError
from .cache_type import set_cache_type
from .external_data import ExternalData
from .stored_tensors import StoredTensors

FloatType = Literal["float32", "float16"]
USED, TOTAL = "seqlens_k", "total_sequence_length"
"""Inputs: slots in use after the call less one, int32 (batch,); slots in all, int32 (1,)."""
_ATTENTION = "GroupQueryAttention"
_USED_AT, _TOTAL_AT = 5, 6
_PORTION = 1 << 24
"""Numbers that are converted at a time."""


def write_cuda_decoder(source: Path, target: Path, dtype: FloatType) -> None:
    """Write the graph for CUDA beside the CPU's, and `<target>.data` for what it has of its own.

    Args:
        source: a decoder graph that export wrote; its external data lies beside it.
        target: another file in the same folder.
        dtype: of weights, cache and arithmetic; inputs_embeds and logits are float32 in any case.

    Raises:
        EngineError: the graph is no decoder of ours.
    """
    model = onnx.load(str(source), load_external_data=False)
    _counts_from_outside(model.graph)
    for node in model.graph.node:  # it would round what a matrix reads to 8 bits
        kept = [one for one in node.attribute if one.name != "accuracy_level"]
        del node.attribute[:]
        node.attribute.extend(kept)
    set_cache_type(model, dtype)
    del model.graph.value_info[:]
    if dtype == "float16":
        _cast_borders(model.graph)
        _halve(model.graph, StoredTensors(source), target)
    onnx.save(model, str(target))


def _counts_from_outside(graph: GraphProto) -> None:
    """Both counts become inputs; what worked them out from the mask goes."""
    layers = [node for node in graph.node if node.op_type == _ATTENTION]
    if not layers:
        raise EngineError(f"got a decoder graph without {_ATTENTION}, expected one for each layer")
    for node in layers:
        node.input[_USED_AT], node.input[_TOTAL_AT] = USED, TOTAL
    # In graphs of our own writer what worked them out has their names already.
    others = [node for node in graph.node if not {USED, TOTAL}.intersection(node.output)]
    kept = _needed(others, {value.name for value in graph.output})
    del graph.node[:]
    graph.node.extend(kept)
    read = {name for node in kept for name in node.input}
    inputs = [value for value in graph.input if value.name in read]
    batch: list[int | str | None] = ["batch_size"]
    inputs[1:1] = [
        helper.make_tensor_value_info(USED, TensorProto.INT32, batch),
        helper.make_tensor_value_info(TOTAL, TensorProto.INT32, [1]),
    ]
    del graph.input[:]
    graph.input.extend(inputs)
    tensors = [tensor for tensor in graph.initializer if tensor.name in read]
    del graph.initializer[:]
    graph.initializer.extend(tensors)


def _needed(nodes: Sequence[NodeProto], wanted: set[str]) -> list[NodeProto]:
    """The nodes that these tensors come from, in their order."""
    kept: list[NodeProto] = []
    for node in reversed(nodes):
        if wanted.intersection(node.output):
            kept.append(node)
            wanted = wanted.union(node.input)
    return kept[::-1]


def _cast_borders(graph: GraphProto) -> None:
    """Callers hand in and get float32; in between it is float16."""
    narrow, wide = "inputs_embeds.float16", "logits.float16"
    for node in graph.node:
        node.input[:] = [narrow if name == "inputs_embeds" else name for name in node.input]
        node.output[:] = [wide if name == "logits" else name for name in node.output]
    cast = helper.make_node("Cast", ["inputs_embeds"], [narrow], to=TensorProto.FLOAT16)
    graph.node.insert(0, cast)
    graph.node.append(helper.make_node("Cast", [wide], ["logits"], to=TensorProto.FLOAT))


def _halve(graph: GraphProto, stored: StoredTensors, target: Path) -> None:
    """Float tensors as float16 in a file of the graph's own; all others stay where they are."""
    beside = target.with_name(f"{target.name}.data")
    kept = [one for one in graph.initializer if one.data_type != TensorProto.FLOAT]
    with ExternalData(beside) as data:
        for tensor in graph.initializer:
            if tensor.data_type == TensorProto.FLOAT:
                array = stored.array(tensor.name)
                half, shape = np.dtype(np.float16), tuple(array.shape)
                if array.size * half.itemsize <= 1024:
                    data.add(tensor.name, half_of(array))
                else:
                    data.add_pieces(tensor.name, half, shape, _portions(array))
        made = list(data.tensors)
    if not any(one.external_data for one in made):
        beside.unlink()
    del graph.initializer[:]
    graph.initializer.extend([*kept, *made])


def _portions(array: NDArray[Any]) -> Iterator[NDArray[Any]]:
    flat = array.reshape(-1)
    for first in range(0, flat.size, _PORTION):
        yield half_of(flat[first : first + _PORTION])


def half_of(array: NDArray[Any]) -> NDArray[np.float16]:
    """The nearest float16; what is too large for it is refused, not made infinite.

    Raises:
        EngineError: a number is beyond 65504.
    """
    with np.errstate(over="ignore"):
        half = array.astype(np.float16)
    if not np.isfinite(half).all():
        raise EngineError(
            f"got a weight of {np.abs(array).max():.4g}, expected at most 65504, the largest that "
            "float16 holds",
            hint="--target cpu keeps this model in float32",
        )
    return half


def counted(inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """Inputs of a CPU decoder as this one takes them: the mask as its two counts."""
    told = dict(inputs)
    mask = told.pop("attention_mask")
    used = mask.sum(axis=1) - 1
    return {**told, USED: used.astype(np.int32), TOTAL: np.array([mask.shape[1]], np.int32)}


def typed(model: ModelProto) -> FloatType:
    """The type of a decoder's cache, and so of all its arithmetic."""
    past = next(v for v in model.graph.input if v.name.startswith("past_key_values."))
    is_half = past.type.tensor_type.elem_type == TensorProto.FLOAT16
    return "float16" if is_half else "float32"
