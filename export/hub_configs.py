"""The configs of a Hub folder, of what a bundle says of itself: for transformers and genai."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from onnx import GraphProto, NodeProto, helper

from ..runtime.bundle import Bundle
from ..runtime.manifest_values import CacheShape, Embeddings, Positions
from ..runtime.prompt_layout import PromptLayout
from .hub_graphs import FOLDER, IDS, POSITIONS, TEXT, decoder_graph

# Families that transformers knows, by its own names; of others it reads the language model alone.
MODEL_TYPES: Mapping[str, str] = MappingProxyType(
    {
        "llava_onevision": "llava_onevision",
        "qwen2_5_vl": "qwen2_5_vl",
        "qwen3_vl": "qwen3_vl",
        "smolvlm": "smolvlm",
        "videollama3": "video_llama_3",
    }
)
PAST, PRESENT = "past_key_values.%d.", "present.%d."
ATTENTION = "GroupQueryAttention"


def text_config(bundle: Bundle) -> dict[str, Any]:
    """What the decoder's graph is, under the names of a `transformers` config.

    What the graph does not say (the activation, whether its table is shared) is left out.
    """
    manifest, graph = bundle.manifest, decoder_graph(bundle)
    cache, rows, positions = _facts(bundle)
    mlp = [node for node in graph.node if any("mlp.down_proj" in name for name in node.input)]
    norms = [_attribute(node, "epsilon") for node in graph.node if "LayerNorm" in node.op_type]
    turn: dict[str, Any] = {"rope_type": "default", "rope_theta": positions.theta}
    if positions.sections:
        turn["mrope_section"] = list(positions.sections)
    found: dict[str, Any] = {
        "vocab_size": _vocabulary(graph),
        "hidden_size": rows.shape[1],
        "num_hidden_layers": cache.layers,
        "num_attention_heads": _heads(graph),
        "num_key_value_heads": cache.kv_heads,
        "head_dim": cache.head_dim,
        "max_position_embeddings": _context_length(graph, cache),
        "rope_parameters": turn,
        **_special_ids(manifest.layout()),
    }
    if mlp and (width := _width_in(graph, mlp[0])):
        found["intermediate_size"] = width
    if norms and norms[0]:
        found["rms_norm_eps"] = float(f"{norms[0]:.6g}")
    return found


def model_config(bundle: Bundle, given: dict[str, Any] | None, data: Sequence[str]) -> Any:
    """config.json: the checkpoint's own where it is `given`, else what the bundle says.

    Of a family that `transformers` does not know this is the language model's, which it does.

    Args:
        bundle: any.
        given: config.json of the checkpoint.
        data: graphs with a data file beside them, which transformers.js must be told.
    """
    manifest = bundle.manifest
    frame = manifest.input
    found = given
    if found is None and (kind := MODEL_TYPES.get(manifest.source.family)) is not None:
        found = {
            "model_type": kind,
            "text_config": text_config(bundle),
            "vision_config": {
                "image_size": max(frame.size_px),
                "num_channels": frame.channels or 3,
            },
        }
    elif found is None:
        has_biases = any(".attn." in one.name and one.name.endswith("bias")
                         for one in decoder_graph(bundle).initializer)  # fmt: skip
        found = {
            "model_type": "qwen2" if has_biases else "llama",
            "edgestream_family": manifest.source.family,
            **text_config(bundle),
        }
    return {**found, "transformers.js_config": {"use_external_data_format": dict.fromkeys(data, 1)}}


def generation_config(bundle: Bundle) -> dict[str, Any]:
    """generation_config.json: greedy, until one of the layout's stop tokens."""
    layout = bundle.manifest.layout()
    return {
        **_special_ids(layout),
        "do_sample": False,
        "max_new_tokens": layout.max_answer_tokens,
    }


def tokenizer_config(bundle: Bundle) -> dict[str, Any]:
    """tokenizer_config.json for a tokenizer.json that stands for itself."""
    layout = bundle.manifest.layout()
    texts = {role: list(words) for role, words in layout.token_texts.items()}
    found: dict[str, Any] = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "clean_up_tokenization_spaces": False,
    }
    for key, words in (("bos_token", texts.get("bos_id")), ("eos_token", texts.get("stop_ids"))):
        if words:
            found[key] = words[0]
    if "eos_token" in found:
        found["pad_token"] = found["eos_token"]
    return found


def preprocessor_config(bundle: Bundle) -> dict[str, Any]:
    """preprocessor_config.json: the one size that the graphs take, and what is done to pixels."""
    frame = bundle.manifest.input
    height, width = frame.size_px
    return {
        "do_resize": True,
        "size": {"height": height, "width": width},
        "edgestream_resize": frame.resize,
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": bool(frame.mean),
        "image_mean": list(frame.mean or ()),
        "image_std": list(frame.std or ()),
    }


def genai_config(bundle: Bundle) -> dict[str, Any]:
    """genai_config.json: onnxruntime-genai runs the text model, `onnx/model.onnx`.

    It reserves a cache of `max_length`; that is the capacity that the bundle was proven with, and
    may be raised up to `context_length`.
    """
    graph = decoder_graph(bundle)
    cache, _, _ = _facts(bundle)
    context = _context_length(graph, cache)
    model = {
        # Every decoder with such inputs and outputs goes by this type in onnxruntime-genai.
        "type": "llama",
        "context_length": context,
        "vocab_size": _vocabulary(graph),
        **_special_ids(bundle.manifest.layout()),
        "decoder": _genai_decoder(bundle, graph),
    }
    search = {
        "do_sample": False,
        "num_beams": 1,
        "min_length": 0,
        "max_length": min(context, cache.capacity),
        "past_present_share_buffer": True,
    }
    return {"model": model, "search": search}


def _genai_decoder(bundle: Bundle, graph: GraphProto) -> dict[str, Any]:
    cache, rows, _ = _facts(bundle)
    inputs = {
        "input_ids": IDS,
        "attention_mask": "attention_mask",
        "past_key_names": f"{PAST}key",
        "past_value_names": f"{PAST}value",
    }
    if any(value.name == POSITIONS for value in graph.input):
        inputs["position_ids"] = POSITIONS
    return {
        "session_options": {"log_id": "onnxruntime-genai", "provider_options": []},
        "filename": f"{FOLDER}/{TEXT}.onnx",
        "head_size": cache.head_dim,
        "hidden_size": rows.shape[1],
        "inputs": inputs,
        "outputs": {
            "logits": "logits",
            "present_key_names": f"{PRESENT}key",
            "present_value_names": f"{PRESENT}value",
        },
        "num_attention_heads": _heads(graph),
        "num_hidden_layers": cache.layers,
        "num_key_value_heads": cache.kv_heads,
    }


def _facts(bundle: Bundle) -> tuple[CacheShape, Embeddings, Positions]:
    manifest = bundle.manifest
    bundle.embeddings()  # refuses a bundle without a language model
    assert manifest.cache is not None and manifest.embeddings is not None
    return manifest.cache, manifest.embeddings, manifest.positions or Positions(1, 10_000.0)


def _special_ids(layout: PromptLayout) -> dict[str, Any]:
    stops = list(layout.stop_ids)
    found: dict[str, Any] = {} if layout.bos_id is None else {"bos_token_id": layout.bos_id}
    return {**found, "eos_token_id": stops if len(stops) > 1 else stops[0],
            "pad_token_id": stops[0]}  # fmt: skip


def _vocabulary(graph: GraphProto) -> int:
    logits = next(value for value in graph.output if value.name == "logits")
    return int(logits.type.tensor_type.shape.dim[2].dim_value)


def _heads(graph: GraphProto) -> int:
    found = [_attribute(node, "num_heads") for node in graph.node if node.op_type == ATTENTION]
    return int(found[0])


def _context_length(graph: GraphProto, cache: CacheShape) -> int:
    """Positions that the graph has a rotation for; the cache's where it does not say."""
    tables = [one.dims[0] for one in graph.initializer if one.name.endswith("cos_cache")]
    return int(tables[0]) if tables else cache.capacity


def _width_in(graph: GraphProto, node: NodeProto) -> int:
    """Numbers that a matrix reads of a token; 0 for a node that is none."""
    if node.op_type == "MatMulNBits":
        return int(_attribute(node, "K"))
    if node.op_type != "MatMul":
        return 0
    return next((int(one.dims[0]) for one in graph.initializer if one.name == node.input[1]), 0)


def _attribute(node: NodeProto, name: str) -> Any:
    found = [one for one in node.attribute if one.name == name]
    return helper.get_attribute_value(found[0]) if found else None
