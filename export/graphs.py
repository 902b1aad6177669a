"""The graphs of a bundle: each part written as its scheme says, with its manifest entry."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
from onnx import ModelProto
from transformers import PreTrainedModel

from ..calibration.hessians import Hessians
from ..models.family import Checkpoint
from ..models.transformers_parts import DECODERS
from ..quant.llm_words import decoder_words, exceptions_as_json, variant_name
from ..quant.plan import Rule
from ..quant.schemes import Scheme, scheme_named
from ..runtime.engines.ort import OrtBackend
from .cache_type import SUFFIXES, CacheType, cache_type_named, cache_type_of
from .decoder_examples import decoder_cache_scales, decoder_hessians
from .decoder_onnx import write_decoder
from .decoder_plan import decoder_schemes
from .evict_graph import evict_graph
from .given_graph import write_given
from .given_weights import GivenWeight
from .int8_large import int8_from_large
from .int8_static import static_from_float
from .int8_vision import int8_from_float
from .layer_writer import write_layers
from .onnx_from_torch import constant_matmuls, has_weights_beside, onnx_from_torch, remove_graph
from .part_inputs import TracedPart, examples_of, traced_parts
from .proof_data import ProofData
from .traced_weights import TracedWeight, traced_weights

Tell = Callable[[str], None]
LARGEST_FOR_BUILDER = 500_000_000
"""Parameters; the builder takes 12 bytes of memory for each, and its files as much again."""


@dataclass(frozen=True, slots=True)
class Schemes:
    """How each part is kept.

    Attributes:
        vision: of vision and connector.
        decoder: of the language model.
        exceptions: for some of its matrices; the first that matches decides.
        cache: type of its keys and values.
        vision_file: graph of vision that another tool quantized; then `vision` is of the connector.
    """

    vision: Scheme
    decoder: Scheme
    exceptions: tuple[Rule, ...] = ()
    cache: CacheType = "float32"
    vision_file: Path | None = None

    @classmethod
    def named(cls, vision: str, llm: str, kv: str = "fp32") -> Schemes:
        """By the words of the command line; for vision also a file whose name ends in .onnx.

        Raises:
            SchemeUnknown: a part's engine cannot run it.
        """
        decoder, exceptions = decoder_words(llm)
        file = Path(vision) if vision.endswith(".onnx") else None
        scheme = scheme_named("int8" if file else vision, "vision")
        return cls(scheme, decoder, exceptions, cache_type_named(kv), file)

    @property
    def are_calibrated(self) -> bool:
        """What is stored depends on calibration data too."""
        each = (self.vision, self.decoder, *(rule.scheme for rule in self.exceptions))
        return self.cache == "int8" or any(scheme.is_calibrated for scheme in each)


@dataclass(frozen=True, slots=True, eq=False)
class Graph:
    """One written graph.

    Attributes:
        role: vision, connector, gate, decoder or evict.
        variant: its id, for example `cpu-int4`.
        path: its file.
        scheme: how its weights are kept.
        traced: which parameter each of its int8 weights came from; None where it has none.
        exceptions: of a decoder: schemes of some of its matrices.
        hessians: of a decoder whose codes depend on what its matrices read.
        provider: that runs it; only `cpu` is run by an export.
        given: of a graph that another tool quantized: its weights.
    """

    role: str
    variant: str
    path: Path
    scheme: Scheme
    traced: tuple[TracedWeight, ...] | None = None
    exceptions: tuple[Rule, ...] = ()
    hessians: Hessians | None = None
    provider: str = "cpu"
    given: tuple[GivenWeight, ...] | None = None

    @property
    def is_float(self) -> bool:
        """No matrix of it is quantized."""
        return self.scheme.is_exact and not self.exceptions

    @property
    def rounds_activations(self) -> bool:
        """Some matrix of it is multiplied in int8: PyTorch's own values are not to be had."""
        each = (self.scheme, *(rule.scheme for rule in self.exceptions))
        return any(scheme.activations == "int8" for scheme in each)

    @property
    def scheme_name(self) -> str:
        """The scheme and how many exceptions there are, for people."""
        words = [f"{rule.pattern}={rule.scheme.name}" for rule in self.exceptions]
        return ", ".join([self.scheme.name, *words])

    def cache_type(self) -> CacheType:
        """Of a decoder: the type of its keys and values."""
        return cache_type_of(onnx.load(str(self.path), load_external_data=False))

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

    def backend(self, threads: int = 1) -> OrtBackend:
        """What opens it on the CPU of the export."""
        return OrtBackend("cpu", threads)

    def facts(self) -> dict[str, Any]:
        """Its entry under `variants` in the manifest; opens it once to read its borders."""
        with self.backend().open(self.path) as engine:
            borders = {
                side: [
                    {"name": spec.name, "dtype": spec.dtype, "shape": list(spec.shape)}
                    for spec in specs
                ]
                for side, specs in (("inputs", engine.inputs), ("outputs", engine.outputs))
            }
        facts: dict[str, Any] = {
            "id": self.variant,
            "provider": self.provider,
            "file": self.path.name,
            "proof": "passed" if self.provider == "cpu" else "pending-device",
            "io_dtype": "float32",
            **borders,
        }
        if self.role == "decoder":
            facts["kv_dtype"] = self.cache_type()
        elif self.role == "evict":
            facts["kv_dtype"] = "float32" if self.provider == "cpu" else "float16"
        if not self.scheme.is_exact or self.exceptions:
            facts["scheme"] = self.scheme.as_json()
        if self.provider != "cpu":
            facts["scheme"] = float16_facts(facts.get("scheme"))
        if self.exceptions:
            facts["scheme"]["except"] = exceptions_as_json(self.exceptions)
        return facts


def float16_facts(scheme: Mapping[str, Any] | None) -> dict[str, Any]:
    """The `scheme` of a variant whose arithmetic is float16; None where no matrix is quantized."""
    kept = {"weights": "float16", "block": None, "symmetric": True} if scheme is None else scheme
    return {**kept, "activations": "float16"}


def write_graphs(
    checkpoint: Checkpoint,
    schemes: Schemes,
    tokenizer_file: Path,
    folder: Path,
    tell: Tell,
    examples: ProofData | None = None,
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
        examples: what calibrated schemes are calibrated on; others need none.
        roles: of vision, gate, connector and decoder, those that are wanted; None for all.

    Raises:
        EngineError: a part cannot be turned into ONNX, or a quantizer left something out.
        BundleError: the decoder's builder would misread the checkpoint; GraphRefused: see
            `write_given`.
    """
    graphs = []
    for role, part in traced_parts(checkpoint).items():
        if roles is not None and role not in roles:
            continue
        tell(role)
        if role == "vision" and schemes.vision_file is not None:
            path = folder / f"{role}.onnx"
            given = write_given(schemes.vision_file, part, path)
            name = f"cpu-{given.scheme.name}"
            graphs.append(Graph(role, name, path, given.scheme, given=given.weights))
            continue
        # The gate costs a tenth of vision and carries its errors along: it stays as it is.
        scheme = scheme_named("fp32") if role == "gate" else schemes.vision
        graphs.append(_float_or_int8(role, part, scheme, folder, examples))
    if roles is not None and "decoder" not in roles:
        return tuple(graphs)
    tell("decoder")
    return (*graphs, *_decoder(checkpoint, schemes, tokenizer_file, folder, examples))


def _float_or_int8(
    role: str, part: TracedPart, scheme: Scheme, folder: Path, examples: ProofData | None
) -> Graph:
    path = folder / f"{role}.onnx"
    names, example = list(part.inputs), list(part.inputs.values())
    if scheme.is_exact:
        onnx_from_torch(part.module, example, names, part.outputs, path)
        return Graph(role, "cpu-fp32", path, scheme)
    work = folder / f"{role}.float.onnx"
    float_model = onnx_from_torch(part.module, example, names, part.outputs, work)
    if scheme.ranges is None and has_weights_beside(work):
        int8_from_large(work, path)
    elif scheme.ranges is None:
        int8_from_float(work, path)
    else:
        assert examples is not None, "a scheme with static ranges comes with its calibration"
        static_from_float(work, path, scheme.ranges, examples_of(role, names, examples))
    traced = traced_weights(float_model, constant_matmuls(float_model), part.module, folder)
    remove_graph(work)
    return Graph(role, f"cpu-{scheme.name}", path, scheme, traced)


def is_for_builder(checkpoint: Checkpoint) -> bool:
    """Whether onnxruntime-genai's builder writes the decoder; all others are ours to write.

    Its graph is the same as ours, but it holds a model several times over, and knows neither
    decoders that stay in their files nor the text parts of models that see.
    """
    known = tuple(model for _, model in DECODERS.values())
    is_small = checkpoint.decoder_weights().shape.n_parameters() <= LARGEST_FOR_BUILDER
    return isinstance(checkpoint.decoder, known) and checkpoint.stored_decoder is None and is_small


def _decoder(
    checkpoint: Checkpoint,
    schemes: Schemes,
    tokenizer_file: Path,
    folder: Path,
    examples: ProofData | None,
) -> tuple[Graph, Graph]:
    scheme, weights = schemes.decoder, checkpoint.decoder_weights()
    words = variant_name(scheme, schemes.exceptions) + SUFFIXES[schemes.cache]
    name = f"decoder.cpu-{words}"
    each = decoder_schemes(checkpoint.decoder, scheme, schemes.exceptions)
    hessians = None
    if any(one.method != "nearest" for one in each.values()):
        assert examples is not None, "a data-aware scheme comes with its calibration"
        hessians = decoder_hessians(checkpoint, examples)
    scales = None
    if schemes.cache == "int8":
        assert examples is not None, "an int8 cache comes with its calibration"
        scales = decoder_cache_scales(checkpoint, examples)
    reads = None if hessians is None else hessians.of
    how: dict[str, Any] = {"cache": schemes.cache, "cache_scales": scales}
    if is_for_builder(checkpoint):
        assert isinstance(checkpoint.decoder, PreTrainedModel)
        write_decoder(checkpoint.decoder, tokenizer_file, each, folder, name, reads, **how)
    else:
        write_layers(weights, each, folder, name, reads, **how)
    decoder = Graph("decoder", f"cpu-{words}", folder / f"{name}.onnx", scheme,
                    exceptions=schemes.exceptions, hessians=hessians)  # fmt: skip
    evict = evict_graph(weights.shape.kv_heads, weights.shape.head_dim)
    path = folder / "evict.cpu-fp32.onnx"
    onnx.save(evict, str(path))
    return decoder, Graph("evict", "cpu-fp32", path, scheme_named("fp32"))
