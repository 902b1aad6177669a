"""The decoder graph, from onnxruntime-genai's model builder, with its traps guarded.

The builder fuses QKV and gate/up, adds GroupQueryAttention with rotary positions inside, and gives
the logits of the last position alone. It writes float32; matrices are stored by our own arithmetic
(`decoder_matmuls.py`), so that each may have a scheme of its own. It takes any linear layer that is
as wide as the vocabulary for the LM head, without a word; that is refused before it can happen.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import onnx
from onnx import ModelProto
from torch import nn
from transformers import PreTrainedModel

from ..calibration.cache_ranges import CacheScales
from ..models.text_decoder import Decoder
from ..quant.schemes import Scheme
from ..quant.stored import operator_of
from ..runtime.errors import BundleError, EngineError
from ..runtime.values import Float32
from .cache_type import CacheType, set_cache_type
from .decoder_matmuls import Hessian, store_matrices
from .quiet import quiet


@dataclass(frozen=True, slots=True)
class DecoderWeight:
    """One matrix of the graph and the parameters that its rows come from.

    Attributes:
        name: as the builder calls it, for example `model.layers.0.attn.qkv_proj.MatMul.weight`.
        parameters: names in the PyTorch model, in the order of their rows.
    """

    name: str
    parameters: tuple[str, ...]


def decoder_weights(layers: int, *, is_tied: bool) -> tuple[DecoderWeight, ...]:
    """Every matrix that the builder quantizes, for a decoder of Llama, Qwen2 or Mistral type."""
    found: list[DecoderWeight] = []
    for layer in range(layers):
        ours, theirs = f"model.layers.{layer}", f"model.layers.{layer}"
        qkv = tuple(f"{theirs}.self_attn.{one}_proj.weight" for one in "qkv")
        found += [
            DecoderWeight(f"{ours}.attn.qkv_proj.MatMul.weight", qkv),
            DecoderWeight(
                f"{ours}.attn.o_proj.MatMul.weight", (f"{theirs}.self_attn.o_proj.weight",)
            ),
            DecoderWeight(
                f"{ours}.mlp.gate_up_proj.MatMul.weight",
                (f"{theirs}.mlp.gate_proj.weight", f"{theirs}.mlp.up_proj.weight"),
            ),
            DecoderWeight(
                f"{ours}.mlp.down_proj.MatMul.weight", (f"{theirs}.mlp.down_proj.weight",)
            ),
        ]
    head = "model.embed_tokens.weight" if is_tied else "lm_head.weight"
    return (*found, DecoderWeight("lm_head.MatMul.weight", (head,)))


def write_decoder(
    decoder: PreTrainedModel,
    tokenizer_file: Path,
    scheme: Scheme | Mapping[str, Scheme],
    folder: Path,
    name: str,
    hessian: Hessian | None = None,
    *,
    cache: CacheType = "float32",
    cache_scales: Sequence[CacheScales] | None = None,
) -> None:
    """Write `<name>.onnx` and `<name>.onnx.data`.

    Args:
        decoder: a causal language model of Llama, Qwen2 or Mistral type, float32.
        tokenizer_file: tokenizer.json; the builder does not start without one.
        scheme: how its matrices are kept; or of each parameter, by name.
        folder: gets the two files; a folder `<name>.work` in it is used and removed.
        name: of the files.
        hessian: what a matrix reads in calibration, for data-aware schemes.
        cache: type of keys and values.
        cache_scales: of each layer, for a cache of int8.

    Raises:
        BundleError: a layer is as wide as the vocabulary.
        EngineError: the builder failed, or left a matrix unquantized.

    Cost: about 10 s and 2 GB for 135 M parameters (float32 copy, files and graph).
    """
    refuse_head_lookalikes(decoder)
    weights = weights_of(decoder)
    if isinstance(scheme, Scheme):
        scheme = {one: scheme for weight in weights for one in weight.parameters}
    work = folder / f"{name}.work"
    checkpoint, built = work / "checkpoint", work / "built"
    with quiet():
        decoder.save_pretrained(checkpoint)
    (checkpoint / "tokenizer.json").write_bytes(tokenizer_file.read_bytes())
    (checkpoint / "tokenizer_config.json").write_text(
        '{"tokenizer_class": "PreTrainedTokenizerFast"}'
    )
    _build(checkpoint, built)
    graph = onnx.load(str(built / "model.onnx"))
    parameters = dict(decoder.named_parameters(remove_duplicate=False))

    def matrix(parameter: str) -> Float32:
        found: Float32 = parameters[parameter].detach().numpy()
        return found

    store_matrices(graph, weights, scheme, matrix, hessian)
    _check_counts(graph, weights, scheme)
    _fix_head_size(graph, decoder)
    set_cache_type(graph, cache, cache_scales)
    onnx.save(
        graph,
        str(folder / f"{name}.onnx"),
        save_as_external_data=True,
        location=f"{name}.onnx.data",
        size_threshold=1024,
    )
    (folder / f"{name}.onnx.data").chmod(0o644)  # onnx makes it for its owner alone
    for file in sorted(work.rglob("*"), reverse=True):
        file.rmdir() if file.is_dir() else file.unlink()
    work.rmdir()


def weights_of(decoder: Decoder) -> tuple[DecoderWeight, ...]:
    """Every matrix of a decoder's graph."""
    config = decoder.config
    return decoder_weights(config.num_hidden_layers, is_tied=config.tie_word_embeddings)


def refuse_head_lookalikes(decoder: PreTrainedModel) -> None:
    """Refuse a model in which the builder would take some layer for the LM head.

    Raises:
        BundleError: names the layer.
    """
    vocabulary = decoder.config.vocab_size
    for name, module in decoder.named_modules():
        is_linear = isinstance(module, nn.Linear) and not name.endswith("lm_head")
        if is_linear and module.out_features == vocabulary:
            raise BundleError(
                f"the layer {name} is {vocabulary} wide, as wide as the vocabulary; the decoder's "
                "builder would take it for the LM head",
                hint="pad the vocabulary by a few tokens that are never used",
            )


def _build(checkpoint: Path, built: Path) -> None:
    from onnxruntime_genai.models.builder import create_model, parse_extra_options

    options = [
        "hf_token=false",
        "exclude_embeds=true",
        "prune_lm_head=true",
        "fuse_mlp_gate_up=true",
    ]
    arguments = (None, str(checkpoint), str(built), "fp32", "cpu", str(built))
    with quiet() as said:
        try:
            create_model(*arguments, **parse_extra_options(*arguments, options))
        except Exception as error:  # the builder raises bare Exceptions; the cause is kept
            raise EngineError(
                f"the decoder could not be built: {error}",
                hint=f"its last words were: {said.getvalue().strip().splitlines()[-1:]}",
            ) from error


def _check_counts(
    graph: ModelProto, weights: tuple[DecoderWeight, ...], schemes: Mapping[str, Scheme]
) -> None:
    """Each matrix is multiplied by once, by the operator of its scheme."""
    found = {
        name: node.op_type
        for node in graph.graph.node
        for name in node.input[1:2]
        if node.op_type.startswith("MatMul")
    }
    expected = {}
    for weight in weights:
        scheme = schemes[weight.parameters[0]]
        if scheme.is_exact:
            expected[weight.name] = "MatMul"
        else:
            operator = operator_of(scheme)
            expected[weight.name + operator.suffixes[0]] = operator.op_type
    if found != expected:
        differing = sorted(found.items() ^ expected.items())
        raise EngineError(
            f"the decoder graph has {len(found)} matrices, expected {len(expected)}; first that "
            f"differs: {differing[0]}: some matrix was left out or quantized twice"
        )


def _fix_head_size(graph: ModelProto, decoder: PreTrainedModel) -> None:
    """Write the size of a head into the cache's shape, which the builder leaves open."""
    config = decoder.config
    head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    for value in (*graph.graph.input, *graph.graph.output):
        if value.name.startswith(("past_key_values.", "present.")):
            value.type.tensor_type.shape.dim[3].dim_value = head_dim
