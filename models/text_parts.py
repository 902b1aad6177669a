"""The language model out of a model that sees: the same weights as a decoder of its own."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel, Qwen2Config
from transformers import Qwen2ForCausalLM as Qwen2

from ..runtime.errors import CheckpointInvalid

_KINDS: dict[str, tuple[Any, Any]] = {
    "llama": (LlamaConfig, LlamaForCausalLM),
    "qwen2": (Qwen2Config, Qwen2),
}


def decoder_of(text: nn.Module, head: nn.Module) -> PreTrainedModel:
    """A causal language model of `transformers` that shares the weights it is given.

    Args:
        text: the text model without its head, of Llama or Qwen2 type.
        head: its head; tied where it has the weights of the embeddings.

    Raises:
        CheckpointInvalid: a text model of another type.

    Cost: no weight is copied.
    """
    inner: Any = text
    kind = inner.config.model_type
    if kind not in _KINDS:
        raise CheckpointInvalid(
            f"config.json.text_config.model_type: got {kind!r}, expected one of "
            f"{', '.join(_KINDS)}",
            hint="a checkpoint with another language model needs a family of its own",
        )
    config_class, model_class = _KINDS[kind]
    described = copy.deepcopy(inner.config).to_dict()
    for key in ("architectures", "model_type", "dtype"):
        described.pop(key, None)
    config = config_class(**described)
    weights: Any = head
    config.tie_word_embeddings = weights.weight is inner.get_input_embeddings().weight
    with torch.device("meta"):
        decoder: Any = model_class(config)
    decoder.model, decoder.lm_head = inner, head
    return decoder.eval()  # type: ignore[no-any-return]
