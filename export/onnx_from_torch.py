"""ONNX graphs of vision, connector and gate, from their PyTorch modules, at fixed shapes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

import onnx
import torch
from onnx import ModelProto
from torch import Tensor, nn
from torch.onnx import ONNXProgram

from ..runtime.errors import EngineError
from .quiet import quiet
from .translations import translations_read_once

# Attention, RMSNormalization and RotaryEmbedding are single ops from here on.
OPSET = 23
LARGEST_INSIDE = 1_500_000_000
"""Bytes of weights in one .onnx file: protobuf reads no more than 2 GiB."""

# id of a module → that module, which thereby lives on, and its graph; None: nothing is kept.
_TRACED: ContextVar[dict[int, tuple[nn.Module, ModelProto]] | None] = ContextVar(
    "traced", default=None
)


@contextmanager
def traced_once() -> Iterator[None]:
    """Within this block each module is traced one time, and its graph kept in memory.

    For exports of the same modules, which must not change, by several plans.
    """
    before = _TRACED.set({})
    try:
        yield
    finally:
        _TRACED.reset(before)


def onnx_from_torch(
    module: nn.Module,
    inputs: Sequence[Tensor],
    input_names: Sequence[str],
    output_names: Sequence[str],
    path: Path,
    largest_inside: int = LARGEST_INSIDE,
) -> ModelProto:
    """Write the graph of a module and return it.

    Args:
        module: in eval mode; takes `inputs` in this order.
        inputs: example arrays; their shapes and dtypes are those of the graph.
        input_names: one per input.
        output_names: one per output.
        path: of the .onnx file; weights are inside.
        largest_inside: bytes of weights; those of a larger module go into `<path>.data` one by one,
            and the graph that is returned names them there.

    Raises:
        EngineError: PyTorch could not export the module.

    Cost: seconds; twice the weights in memory. Within `traced_once`, once for each module.
    """
    if _n_bytes(module) > largest_inside:
        return _weights_beside(_program(module, inputs, input_names, output_names), path)
    kept = _TRACED.get()
    if kept is None or id(module) not in kept:
        graph = without_traces(_program(module, inputs, input_names, output_names).model_proto)
        if kept is not None:
            kept[id(module)] = (module, graph)
    else:
        graph = kept[id(module)][1]
    onnx.save(graph, str(path))
    return graph


def has_weights_beside(path: Path) -> bool:
    """Whether a graph's weights are too many to be in the graph."""
    return path.with_name(f"{path.name}.data").exists()


def remove_graph(path: Path) -> None:
    """Remove a graph and the weights beside it, if any."""
    path.unlink()
    path.with_name(f"{path.name}.data").unlink(missing_ok=True)


def _n_bytes(module: nn.Module) -> int:
    return sum(part.nbytes for part in (*module.parameters(), *module.buffers()))


def _weights_beside(program: ONNXProgram, path: Path) -> ModelProto:
    program.save(path, external_data=True)
    graph = without_traces(onnx.load(str(path), load_external_data=False))
    onnx.save(graph, str(path))
    path.with_name(f"{path.name}.data").chmod(0o644)
    return graph


def _program(
    module: nn.Module,
    inputs: Sequence[Tensor],
    input_names: Sequence[str],
    output_names: Sequence[str],
) -> ONNXProgram:
    module.eval()
    try:
        with quiet(), translations_read_once():
            program = torch.onnx.export(
                module,
                tuple(inputs),
                dynamo=True,
                opset_version=OPSET,
                input_names=list(input_names),
                output_names=list(output_names),
                verbose=False,
            )
    except Exception as error:  # the exporter raises many kinds; the cause is kept
        raise EngineError(
            f"{type(module).__name__} could not be turned into ONNX: {str(error).splitlines()[0]}",
            hint="use parts that torch.onnx.export(dynamo=True) takes",
        ) from error
    assert program is not None
    return program


def without_traces(graph: ModelProto) -> ModelProto:
    """The graph without the exporter's notes: they hold paths of a machine and change each time."""
    del graph.metadata_props[:]
    del graph.graph.metadata_props[:]
    for node in graph.graph.node:
        del node.metadata_props[:]
        node.doc_string = ""
    for value in (
        *graph.graph.input,
        *graph.graph.output,
        *graph.graph.value_info,
        *graph.graph.initializer,
    ):
        del value.metadata_props[:]
        value.doc_string = ""
    graph.doc_string = ""
    return graph


def constant_matmuls(graph: ModelProto) -> tuple[str, ...]:
    """Names of the weights that a MatMul or Gemm multiplies by, in the order of the graph.

    These are what int8 quantization must replace, each and every one.
    """
    weights = {tensor.name for tensor in graph.graph.initializer if len(tensor.dims) == 2}
    names = [
        node.input[1]
        for node in graph.graph.node
        if node.op_type in ("MatMul", "Gemm") and node.input[1] in weights
    ]
    return tuple(dict.fromkeys(names))
