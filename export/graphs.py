"""The graphs of a bundle: each part written as its scheme says, with its manifest entry."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
import torch
from onnx import ModelProto
from torch import Tensor, nn

from ..models.event_gate import EventGate
from ..models.family import Checkpoint
from ..quant.schemes import Scheme, scheme_named
from ..runtime.engines.ort import OrtBackend
from .decoder_onnx import write_decoder
from .evict_graph import evict_graph
from .int8_vision import int8_from_float
from .onnx_from_torch import onnx_from_torch

Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Schemes:
    """How each part is kept.

    Attributes:
        vision: of vision and connector.
        decoder: of the language model.
    """

    vision: Scheme
    decoder: Scheme

    @classmethod
    def named(cls, vision: str, llm: str) -> Schemes:
        """By the words of the command line.

        Raises:
            SchemeUnknown: a part's engine cannot run it.
        """
        return cls(scheme_named(vision, "vision"), scheme_named(llm, "decoder"))


@dataclass(frozen=True, slots=True, eq=False)
class Graph:
    """One written graph.

    Attributes:
        role: vision, connector, gate, decoder or evict.
        variant: its id, for example `cpu-int4`.
        path: its file.
        scheme: how its weights are kept.
        float_model: the float32 graph it was quantized from; None where it is none of those.
    """

    role: str
    variant: str
    path: Path
    scheme: Scheme
    float_model: ModelProto | None = None

    def loaded(self) -> ModelProto:
        """The graph as its files hold it now, weights included."""
        return onnx.load(str(self.path))

    def files(self) -> tuple[Path, ...]:
        """The graph and its external data."""
        beside = self.path.with_name(self.path.name + ".data")
        return (self.path, beside) if beside.exists() else (self.path,)

    def n_bytes(self) -> int:
        """Size of its files, bytes."""
        return sum(file.stat().st_size for file in self.files())

    def facts(self) -> dict[str, Any]:
        """Its entry under `variants` in the manifest; opens it once to read its borders."""
        with OrtBackend("cpu").open(self.path) as engine:
            borders = {
                side: [
                    {"name": spec.name, "dtype": spec.dtype, "shape": list(spec.shape)}
                    for spec in specs
                ]
                for side, specs in (("inputs", engine.inputs), ("outputs", engine.outputs))
            }
        facts: dict[str, Any] = {
            "id": self.variant,
            "provider": "cpu",
            "file": self.path.name,
            "proof": "passed",
            "io_dtype": "float32",
            **borders,
        }
        if self.role in ("decoder", "evict"):
            facts["kv_dtype"] = "float32"
        if self.scheme.weights != "float32":
            facts["scheme"] = self.scheme.as_json()
        return facts


def write_graphs(
    checkpoint: Checkpoint, schemes: Schemes, tokenizer_file: Path, folder: Path, tell: Tell
) -> tuple[Graph, ...]:
    """Write every part of a checkpoint into a folder, in the order in which a frame meets them.

    Args:
        checkpoint: full precision.
        schemes: how each part is kept.
        tokenizer_file: of the checkpoint.
        folder: gets the files.
        tell: called with the name of each part before it is written.

    Raises:
        EngineError: a part cannot be turned into ONNX, or a quantizer left something out.
        BundleError: the decoder's builder would misread the checkpoint.
    """
    size = checkpoint.frame_input.size_px
    channels = checkpoint.frame_input.channels or 3
    pixels = torch.zeros(1, channels, *size)
    with torch.inference_mode():
        tokens, summary = checkpoint.vision(pixels)
    tell("vision")
    graphs = [
        _float_or_int8(
            "vision",
            checkpoint.vision,
            [pixels],
            ["pixels"],
            ["tokens", "summary"],
            schemes.vision,
            folder,
        )
    ]
    if checkpoint.gate is not None:
        tell("gate")
        graphs.append(_gate(checkpoint.gate, summary, folder))
    tell("connector")
    graphs.append(
        _float_or_int8(
            "connector",
            checkpoint.connector,
            [tokens],
            ["tokens"],
            ["embeds"],
            schemes.vision,
            folder,
        )
    )
    tell("decoder")
    return (*graphs, *_decoder(checkpoint, schemes.decoder, tokenizer_file, folder))


def _float_or_int8(
    role: str,
    module: nn.Module,
    inputs: list[Tensor],
    input_names: list[str],
    output_names: list[str],
    scheme: Scheme,
    folder: Path,
) -> Graph:
    path = folder / f"{role}.onnx"
    if scheme.weights == "float32":
        onnx_from_torch(module, inputs, input_names, output_names, path)
        return Graph(role, "cpu-fp32", path, scheme)
    work = folder / f"{role}.float.onnx"
    float_model = onnx_from_torch(module, inputs, input_names, output_names, work)
    int8_from_float(work, path)
    work.unlink()
    return Graph(role, f"cpu-{scheme.name}", path, scheme, float_model)


def _gate(gate: nn.Module, summary: Tensor, folder: Path) -> Graph:
    """The event gate in float32: it costs a thousandth of vision, so there is nothing to save."""
    assert isinstance(gate, EventGate)
    path = folder / "gate.onnx"
    onnx_from_torch(
        gate,
        [summary, torch.zeros(1, 1), *gate.first_state()],
        ["summary", "dt_s", "conv", "ssm"],
        ["scores", "state_summary", "new_conv", "new_ssm"],
        path,
    )
    return Graph("gate", "cpu-fp32", path, scheme_named("fp32"))


def _decoder(
    checkpoint: Checkpoint, scheme: Scheme, tokenizer_file: Path, folder: Path
) -> tuple[Graph, Graph]:
    config = checkpoint.decoder.config
    name = f"decoder.cpu-{scheme.name}"
    write_decoder(checkpoint.decoder, tokenizer_file, scheme, folder, name)
    decoder = Graph("decoder", f"cpu-{scheme.name}", folder / f"{name}.onnx", scheme)
    head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    evict = evict_graph(config.num_key_value_heads, head_dim)
    path = folder / "evict.cpu-fp32.onnx"
    onnx.save(evict, str(path))
    return decoder, Graph("evict", "cpu-fp32", path, scheme_named("fp32"))
