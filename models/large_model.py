"""A model of the Hub whose decoder stays in its files: loaded without it, whole in its shape."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedConfig

from . import decoder_weights
from .decoder_weights import EMBEDDINGS, HEAD, FileWeights
from .weights import Stored

_PARTS = ("embed_tokens", "layers", "norm")


def decoder_names(stored: Mapping[str, Stored]) -> dict[str, str]:
    """Canonical name → name in the files, of the decoder of a model that sees.

    What stands before `embed_tokens` in the files differs from model to model and from release to
    release; it is the same before all of a decoder's layers.
    """
    table = EMBEDDINGS.removeprefix("model.")
    prefix = next((name.removesuffix(table) for name in stored if name.endswith(table)), None)
    if prefix is None:
        return {}
    found = {
        f"model.{name.removeprefix(prefix)}": name
        for name in stored
        if name.startswith(prefix) and name.removeprefix(prefix).split(".")[0] in _PARTS
    }
    head = next((name for name in stored if f".{name}".endswith(f".{HEAD}")), None)
    return found if head is None else {**found, HEAD: head}


def is_too_large(stored: Mapping[str, Stored]) -> bool:
    """Whether the decoder in these files has more parameters than are loaded whole."""
    names = set(decoder_names(stored).values())
    sizes = (torch.Size(stored[name].shape).numel() for name in names)
    return sum(sizes) > decoder_weights.LARGEST_IN_MEMORY


def without_layers(config: PreTrainedConfig) -> PreTrainedConfig:
    """The same model with a decoder of no layers."""
    bare = copy.deepcopy(config)
    text = bare.get_text_config()
    text.num_hidden_layers = 0
    if getattr(text, "layer_types", None) is not None:
        text.layer_types = []
    return bare


def is_of_layers(name: str, names: Mapping[str, str]) -> bool:
    """Whether a tensor that was left over belongs to the layers which were not asked for.

    Args:
        name: as the model calls it, or the files.
        names: of `decoder_names`.
    """
    at = name.find("layers.")
    return at >= 0 and f"model.{name[at:]}" in names


def put_decoder_on_meta_(model: Any, config: PreTrainedConfig) -> None:
    """Give a model without layers its decoder, whole in its shape, on the device `meta`.

    Args:
        model: loaded with `without_layers(config)`.
        config: the whole one.
    """
    bare = model.get_decoder()
    place = next(name for name, module in model.named_modules() if module is bare)
    is_tied = model.lm_head.weight is bare.get_input_embeddings().weight
    with torch.device("meta"):
        whole = type(bare)(config.get_text_config())
    model.set_submodule(place, whole)
    model.lm_head.to("meta")
    if is_tied:
        model.lm_head.weight = whole.get_input_embeddings().weight
    model.config = config


def decoder_in_files(decoder: nn.Module, stored: Mapping[str, Stored]) -> FileWeights | None:
    """The weights of a decoder on the device `meta`; None of one that is in memory.

    Raises:
        BundleError: the decoder has a part that cannot be exported.
        CheckpointInvalid: a tensor is missing or has another shape.
    """
    if not next(decoder.parameters()).is_meta:
        return None
    config = decoder.config
    assert isinstance(config, PreTrainedConfig)
    deep_levels = int(getattr(decoder, "deep_levels", 0))
    return FileWeights(config, stored, decoder_names(stored), deep_levels)
