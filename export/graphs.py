"""The graphs of a bundle: each part written as its scheme says, with its manifest entry."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
from onnx import ModelProto
from transformers import PreTrainedModel

from ..models.family import Checkpoint
from ..models.transformers_parts import DECODERS
from ..quant.schemes import Scheme, scheme_named
from ..runtime.engines.ort import OrtBackend
from .decoder_onnx import write_decoder
from .evict_graph import evict_graph
from .int8_large import int8_from_large, is_large
from .int8_vision import int8_from_float
from .layer_writer import write_layers
from .onnx_from_torch import onnx_from_torch, write_large
from .part_inputs import TracedPart, traced_parts
from .stored_tensors import StoredTensors
from .traced_weights import TracedWeight, traced_constants

Tell = Callable[[str], None]
LARGEST_FOR_BUILDER = 500_000_000
"""Parameters; the builder takes 12 bytes of memory for each, and its files as much again."""


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
        traced: of a large graph, where each quantized weight came from, in the place of that.
    """

    role: str
    variant: str
    path: Path
    scheme: Scheme
    float_model: ModelProto | None = None
    traced: tuple[TracedWeight, ...] | None = None

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
    checkpoint: Checkpoint,
    schemes: Schemes,
    tokenizer_file: Path,
    folder: Path,
    tell: Tell,
    *,
    roles: Collection[str] | None = None,
) -> tuple[Graph, ...]:
    """Write every part of a checkpoint into a folder, in the order in which a frame meets them.

    Args:
        checkpoint: full precision.
        schemes: how each part is kept.
        tokenizer_file: of the checkpoint.
        folder: gets the files.
        tell: called with the name of each part before it is written.
        roles: of vision, gate, connector and decoder, those that are wanted; None for all.

    Raises:
        EngineError: a part cannot be turned into ONNX, or a quantizer left something out.
        BundleError: the decoder's builder would misread the checkpoint.
    """
    graphs = []
    for role, part in traced_parts(checkpoint).items():
        if roles is not None and role not in roles:
            continue
        tell(role)
        # The gate costs a tenth of vision and carries its errors along: it stays as it is.
        scheme = scheme_named("fp32") if role == "gate" else schemes.vision
        graphs.append(_float_or_int8(role, part, scheme, folder))
    if roles is not None and "decoder" not in roles:
        return tuple(graphs)
    tell("decoder")
    return (*graphs, *_decoder(checkpoint, schemes.decoder, tokenizer_file, folder))


def _float_or_int8(role: str, part: TracedPart, scheme: Scheme, folder: Path) -> Graph:
    path = folder / f"{role}.onnx"
    names, examples = list(part.inputs), list(part.inputs.values())
    if is_large(part.module):
        traced = write_large_part(part, scheme, path)
        variant = "cpu-fp32" if traced is None else f"cpu-{scheme.name}"
        return Graph(role, variant, path, scheme, traced=traced)
    if scheme.weights == "float32":
        onnx_from_torch(part.module, examples, names, part.outputs, path)
        return Graph(role, "cpu-fp32", path, scheme)
    work = folder / f"{role}.float.onnx"
    float_model = onnx_from_torch(part.module, examples, names, part.outputs, work)
    int8_from_float(work, path)
    work.unlink()
    return Graph(role, f"cpu-{scheme.name}", path, scheme, float_model)


def write_large_part(
    part: TracedPart, scheme: Scheme, path: Path
) -> tuple[TracedWeight, ...] | None:
    """A part whose weights lie beside its graph.

    Returns:
        Where each quantized weight came from; None of a float32 graph.
    """
    names, examples = list(part.inputs), list(part.inputs.values())
    if scheme.weights == "float32":
        write_large(part.module, examples, names, part.outputs, path)
        return None
    work = path.with_name(f"{path.stem}.float.onnx")
    write_large(part.module, examples, names, part.outputs, work)
    quantized = int8_from_large(work, path)
    traced = traced_constants(StoredTensors(work).array, quantized, part.module)
    work.unlink()
    work.with_name(f"{work.name}.data").unlink()
    return traced


def is_for_builder(checkpoint: Checkpoint) -> bool:
    """Whether onnxruntime-genai's builder writes the decoder; all others are ours to write.

    Its graph is the same as ours, but it holds a model several times over, and knows neither
    decoders that stay in their files nor the text parts of models that see.
    """
    known = tuple(model for _, model in DECODERS.values())
    is_small = checkpoint.decoder_weights().shape.n_parameters() <= LARGEST_FOR_BUILDER
    return isinstance(checkpoint.decoder, known) and checkpoint.stored_decoder is None and is_small


def _decoder(
    checkpoint: Checkpoint, scheme: Scheme, tokenizer_file: Path, folder: Path
) -> tuple[Graph, Graph]:
    name, weights = f"decoder.cpu-{scheme.name}", checkpoint.decoder_weights()
    if is_for_builder(checkpoint):
        assert isinstance(checkpoint.decoder, PreTrainedModel)
        write_decoder(checkpoint.decoder, tokenizer_file, scheme, folder, name)
    else:
        write_layers(weights, scheme, folder, name)
    decoder = Graph("decoder", f"cpu-{scheme.name}", folder / f"{name}.onnx", scheme)
    evict = evict_graph(weights.shape.kv_heads, weights.shape.head_dim)
    path = folder / "evict.cpu-fp32.onnx"
    onnx.save(evict, str(path))
    return decoder, Graph("evict", "cpu-fp32", path, scheme_named("fp32"))
