"""A vision encoder that another tool quantized, such as NVIDIA ModelOpt: checked, then written."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
import torch
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from onnx import ModelProto, TensorProto
from onnx.checker import ValidationError

from ..quant.schemes import Scheme
from ..runtime.engines.ort import OrtBackend
from ..runtime.errors import EngineError, GraphRefused
from .given_weights import GivenWeight, placed
from .onnx_from_torch import LARGEST_INSIDE, OPSET, without_traces
from .part_inputs import TracedPart
from .qdq_graph import read_qdq
from .unsigned_weights import keep_signed, keep_unsigned, with_zero_points

OLDEST_OPSET = 13
"""The first with a scale per channel."""
DOMAINS = frozenset({"", "ai.onnx", "com.microsoft"})
MOST_TIMES = 2
"""Bytes of a file by those of the module in float32: tools copy constants that are shared."""
_START = "start from vision.onnx of a bundle of this checkpoint, made with --vision fp32"


@dataclass(frozen=True, slots=True, eq=False)
class Given:
    """A graph that was taken.

    Attributes:
        scheme: how most of its weights are kept.
        weights: each of them, and where it belongs.
    """

    scheme: Scheme
    weights: tuple[GivenWeight, ...]


def write_given(file: Path, part: TracedPart, target: Path) -> Given:
    """Check a graph of the vision encoder and write it as a bundle keeps it.

    Args:
        file: .onnx, its external data beside it.
        part: what it must be, in full precision.
        target: .onnx to write; large weights go beside it.

    Raises:
        GraphRefused: it is no ONNX, of other borders, operators or weights, or too large; or the
            engine cannot run it.

    Cost: the weights a few times in memory; the module and the engine once over an empty picture.
    """
    model = _read(file)
    try:
        _check_operators(model)
        _check_borders(model, part)
        _check_size(model, part)
        found = read_qdq(model)
        given = Given(found.scheme(), placed(found.weights, part.module))
    except GraphRefused as error:
        raise _named(file, error) from error
    _save(keep_unsigned(with_zero_points(without_traces(model))), target)
    _check_runs(file, part, target)
    return given


def check_given(file: Path) -> None:
    """Refuse what is no graph of a part, before a checkpoint is loaded for it.

    Raises:
        GraphRefused: as `write_given`.

    Cost: the file is read.
    """
    try:
        _check_operators(_read(file))
    except GraphRefused as error:
        raise _named(file, error) from error


def weights_of_given(graph: Path, part: TracedPart) -> tuple[GivenWeight, ...]:
    """The weights of a graph that `write_given` wrote, found again in its file."""
    return placed(read_qdq(keep_signed(onnx.load(str(graph)))).weights, part.module)


def _read(file: Path) -> ModelProto:
    try:
        model = onnx.load(str(file))
    except OSError as error:
        raise GraphRefused(
            f"{file} cannot be read: {error.strerror or error}",
            hint="--vision takes a scheme, or a file whose name ends in .onnx",
        ) from error
    except (DecodeError, ValidationError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise GraphRefused(
            f"{file} is no whole ONNX graph: {reason}",
            hint="copy it again, with the file of its external data beside it",
        ) from error
    if not model.graph.node:
        raise GraphRefused(f"{file} is empty, expected a graph of vision", hint=_START)
    return model


def _named(file: Path, error: GraphRefused) -> GraphRefused:
    if error.message.startswith(str(file)):
        return error
    return GraphRefused(f"{file}: {error.message}", hint=error.hint)


def _check_operators(model: ModelProto) -> None:
    if model.functions:
        raise GraphRefused(
            f"got functions of its own ({model.functions[0].name}), expected none",
            hint="inline them (onnx.inliner.inline_local_functions)",
        )
    for node in model.graph.node:
        if node.domain not in DOMAINS:
            raise GraphRefused(
                f"got the operator {node.op_type} of the domain {node.domain} ({node.name}), "
                "expected ONNX's own",
                hint="quantize it without plugins of TensorRT",
            )
    opset = max((one.version for one in model.opset_import if one.domain in ("", "ai.onnx")),
                default=0)  # fmt: skip
    if not OLDEST_OPSET <= opset <= OPSET:
        raise GraphRefused(
            f"got opset {opset}, expected {OLDEST_OPSET} to {OPSET}, which devices run",
            hint=_START,
        )


def _check_borders(model: ModelProto, part: TracedPart) -> None:
    """Names, types and shapes of what goes in and comes out are those of the module."""
    with torch.inference_mode():
        outputs = part.module(*part.inputs.values())
    inside = {tensor.name for tensor in model.graph.initializer}
    for side, values, wanted in (
        ("inputs", model.graph.input, part.inputs),
        ("outputs", model.graph.output, dict(zip(part.outputs, outputs, strict=True))),
    ):
        got = {one.name: _told(one) for one in values if one.name not in inside}
        expected = {name: f"float {list(one.shape)}" for name, one in wanted.items()}
        if got != expected:
            raise GraphRefused(f"got the {side} {_text(got)}, expected {_text(expected)}",
                               hint=f"{_START} and the same --frame-px and --tokens-per-frame"
                               )  # fmt: skip


def _told(value: Any) -> str:
    tensor = value.type.tensor_type
    shape = [one.dim_value or one.dim_param or "?" for one in tensor.shape.dim]
    kind = TensorProto.DataType.Name(tensor.elem_type).lower()
    return f"{kind} {shape}"


def _text(borders: dict[str, str]) -> str:
    return ", ".join(f"{name} {told}" for name, told in borders.items()) or "none"


def _check_size(model: ModelProto, part: TracedPart) -> None:
    tensors = (*part.module.parameters(), *part.module.buffers())
    most = MOST_TIMES * sum(4 * one.numel() for one in tensors)
    got = model.ByteSize() - _n_bytes_of_nodes(model)
    if got > most:
        raise GraphRefused(
            f"got {got / 1e6:.1f} MB of weights, expected at most {most / 1e6:.1f} MB, twice those "
            f"of {type(part.module).__name__} in float32",
            hint=_START,
        )


def _n_bytes_of_nodes(model: ModelProto) -> int:
    return sum(node.ByteSize() for node in model.graph.node)


def _save(model: ModelProto, target: Path) -> None:
    if model.ByteSize() <= LARGEST_INSIDE:
        onnx.save(model, str(target))
        return
    onnx.save(model, str(target), save_as_external_data=True, location=f"{target.name}.data")


def _check_runs(file: Path, part: TracedPart, target: Path) -> None:
    try:
        with OrtBackend("cpu").open(target) as engine:
            engine.run({name: one.numpy() for name, one in part.inputs.items()})
    except EngineError as error:
        reason = " ".join(error.message.replace(str(target), target.name).split())
        raise GraphRefused(
            f"{file}: the CPU engine does not run it: {reason}",
            hint="quantize it for ONNX Runtime, as docs/modelopt.md says",
        ) from error
