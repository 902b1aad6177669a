"""Towers and decoders of `transformers`, built from a config without initialising a weight."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from huggingface_hub.errors import StrictDataclassError
from transformers import (
    CLIPVisionConfig,
    CLIPVisionModel,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedConfig,
    PreTrainedModel,
    Qwen2Config,
    Qwen2ForCausalLM,
    SiglipVisionConfig,
    SiglipVisionModel,
)
from transformers.initialization import no_init_weights

from ..runtime.errors import CheckpointInvalid
from ..runtime.json_fields import Fields, plain
from ..runtime.manifest_values import Positions
from .text_decoder import Decoder

Kinds = Mapping[str, tuple[type[PreTrainedConfig], type[PreTrainedModel]]]

TOWERS: Kinds = MappingProxyType(
    {
        "siglip_vision_model": (SiglipVisionConfig, SiglipVisionModel),
        "clip_vision_model": (CLIPVisionConfig, CLIPVisionModel),
    }
)
DECODERS: Kinds = MappingProxyType(
    {
        "llama": (LlamaConfig, LlamaForCausalLM),
        "qwen2": (Qwen2Config, Qwen2ForCausalLM),
        "mistral": (MistralConfig, MistralForCausalLM),
    }
)
# What transformers and torch raise for a config that makes no sense.
REFUSALS = (StrictDataclassError, TypeError, ValueError, ArithmeticError, AttributeError,
             LookupError, RuntimeError, AssertionError)  # fmt: skip


def empty_model(config: Fields, key: str, kinds: Kinds) -> PreTrainedModel:
    """The model that a sub-config describes, float32, in eval mode; its weights hold anything.

    Args:
        config: of the checkpoint.
        key: of the sub-config, in `transformers` form.
        kinds: model_type → its classes.

    Raises:
        CheckpointInvalid: another model_type, or values that make no model.

    Cost: no memory is touched before the weights are copied in.
    """
    below = config.object(key, lambda fields: fields)
    kind = below.text("model_type", one_of=kinds)
    return model_of(config.mapping(key), below.place, kinds[kind])


def model_of(
    described: Mapping[str, Any],
    place: str,
    kind: tuple[type[PreTrainedConfig], type[PreTrainedModel]],
) -> PreTrainedModel:
    """The model that values of a config describe, as `empty_model` gives it.

    Args:
        described: in `transformers` form.
        place: where they stand, for the message.
        kind: its classes.

    Raises:
        CheckpointInvalid: they make no model.
    """
    config_class, model_class = kind
    try:
        # Values of a parsed JSON object, so that plain dicts and lists come out again.
        made = config_class.from_dict(plain(described))
        with no_init_weights():
            model: PreTrainedModel = model_class(made)
        model.tie_weights()
    except REFUSALS as error:
        raise CheckpointInvalid(
            f"{place} makes no {model_class.__name__}: {one_line(error)}",
            hint="write the config as transformers does (config.to_dict())",
        ) from error
    model.eval()  # type: ignore[no-untyped-call]
    model.requires_grad_(False)
    return model


def config_as_json(config: PreTrainedConfig) -> dict[str, Any]:
    """A sub-config as config.json holds it: what differs from the defaults, and the model_type."""
    written: dict[str, Any] = config.to_diff_dict()
    written.pop("transformers_version", None)
    return {**written, "model_type": config.model_type}


def rotary_positions(
    decoder: Decoder, place: str, frame_grid: tuple[int, int] | None = None
) -> Positions:
    """How a decoder rotates its keys.

    Args:
        decoder: with mRoPE where its `rope_parameters` have sections.
        place: of its config, for messages.
        frame_grid: rows and columns of one frame's tokens, for mRoPE.

    Raises:
        CheckpointInvalid: a scaled or partial rotation, which a bundle cannot describe.
    """
    rotation = decoder.config.rope_parameters
    kind, share = rotation.get("rope_type", "default"), rotation.get("partial_rotary_factor", 1.0)
    if kind != "default" or share != 1.0:
        raise CheckpointInvalid(
            f"{place}.rope_parameters: got rope_type {kind!r} over {share:g} of each head, "
            "expected 'default' over all of it",
            hint="scaled rotations (Llama 3.1 and later) cannot be exported yet",
        )
    theta, sections = float(rotation["rope_theta"]), rotation.get("mrope_section")
    if sections is None:
        return Positions(axes=1, theta=theta)
    is_interleaved = rotation.get("mrope_interleaved", False)
    extra = {"interleaved": True} if is_interleaved else {}
    return Positions(len(sections), theta, tuple(sections), frame_grid, extra)


def one_line(error: BaseException) -> str:
    """What an error says, without line feeds."""
    return " ".join(str(error).split())
