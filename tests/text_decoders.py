"""Tiny decoders with random weights of every build that can be exported, each with its quirks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)
from transformers.models.qwen2_5_vl.configuration_qwen2_5_vl import Qwen2_5_VLTextConfig
from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import Qwen2_5_VLTextModel
from transformers.models.qwen3_vl.configuration_qwen3_vl import Qwen3VLTextConfig
from transformers.models.qwen3_vl.modeling_qwen3_vl import Qwen3VLTextModel

VOCABULARY, HIDDEN, DEEP_LEVELS = 211, 64, 2
COMMON: Mapping[str, Any] = {
    "vocab_size": VOCABULARY, "hidden_size": HIDDEN, "intermediate_size": 160,
    "num_hidden_layers": 3, "num_attention_heads": 4, "num_key_value_heads": 2,
    "max_position_embeddings": 2048, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip


def rotation(theta: float, **more: Any) -> dict[str, Any]:
    return {"rope_type": "default", "rope_theta": theta, **more}


CAUSAL: Mapping[str, tuple[type, type, dict[str, Any]]] = {
    "llama": (LlamaConfig, LlamaForCausalLM, {"tie_word_embeddings": True}),
    "llama with biases": (
        LlamaConfig,
        LlamaForCausalLM,
        {"attention_bias": True, "mlp_bias": True},
    ),
    "qwen2": (Qwen2Config, Qwen2ForCausalLM, {"rope_parameters": rotation(1e6)}),
    # A window that the prompts of the tests are longer than, so that its size matters.
    "mistral": (MistralConfig, MistralForCausalLM, {"sliding_window": 8}),
    "qwen3": (Qwen3Config, Qwen3ForCausalLM, {"head_dim": 32, "tie_word_embeddings": True}),
}
TEXT: Mapping[str, tuple[type, type, dict[str, Any]]] = {
    "qwen2_5_vl": (Qwen2_5_VLTextConfig, Qwen2_5_VLTextModel,
                   {"rope_parameters": rotation(1e6, mrope_section=[2, 3, 3])}),
    "qwen3_vl": (Qwen3VLTextConfig, Qwen3VLTextModel,
                 {"head_dim": 32, "rope_parameters": rotation(
                     5e6, mrope_section=[6, 5, 5], mrope_interleaved=True)}),
}  # fmt: skip
KINDS = (*CAUSAL, *TEXT)


def tiny_text_decoder(kind: str, seed: int = 0) -> nn.Module:
    """A decoder of this kind; logits of unlike tokens differ, biases and gains are not trivial."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        config_class, model_class, sizes = {**CAUSAL, **TEXT}[kind]
        config = config_class(**{**COMMON, **sizes})
        model = model_class(config)
        if kind in TEXT:
            model = WithHead(model, config, DEEP_LEVELS if kind == "qwen3_vl" else 0)
        for name, weight in model.named_parameters():
            if weight.ndim == 2:
                weight.data.mul_(1.0 if "embed" in name else 4.0)
            else:
                weight.data.add_(torch.randn_like(weight) * 0.2)
    return model.eval().requires_grad_(False)


class WithHead(nn.Module):
    """A text model and its head; what it reads of a token may be wider than the token's row."""

    def __init__(self, model: nn.Module, config: Any, deep_levels: int) -> None:
        super().__init__()
        self.model, self.config, self.deep_levels = model, config, deep_levels
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        config.tie_word_embeddings = False

    def forward(self, inputs_embeds, position_ids=None, logits_to_keep=0):
        embeds, *deep = inputs_embeds.split(self.config.hidden_size, -1)
        more = {}
        if deep:
            seen = torch.ones(embeds.shape[:2], dtype=torch.bool)
            deep = [one.reshape(-1, self.config.hidden_size) for one in deep]
            more = {"visual_pos_masks": seen, "deepstack_visual_embeds": deep}
        states = self.model(
            inputs_embeds=embeds, position_ids=position_ids, **more
        ).last_hidden_state
        return self.lm_head(states[:, -logits_to_keep:])


def last_logits(decoder: nn.Module, embeds: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
    """Logits of the last position, (vocabulary,).

    Args:
        embeds: (tokens, width).
        positions: [axes, tokens].
    """
    ids = positions[:, None] if len(positions) > 1 else positions
    with torch.inference_mode():
        out = decoder(inputs_embeds=embeds[None], position_ids=ids, logits_to_keep=1)
    logits = out if isinstance(out, torch.Tensor) else out.logits
    return logits[0, -1]
