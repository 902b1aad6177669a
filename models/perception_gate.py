"""StreamMind's extractor with its cognition gate: a frame's perception token, and whether to speak.

The gate is the first layers of the language model with a head of two classes. It reads one token
with nothing before it, so that attention gives that token's own value, whatever queries and keys
say: they are stored, and take no part.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from transformers import MistralConfig, MistralForCausalLM

from .cognition_gate import GateSequence, GateShape
from .event_extractor import EventExtractor, ExtractorShape

CLASSES = 2
"""Silence and response, in this order."""
RESPONSE = "response"
"""The event that the second class stands for."""


class ShallowLayers(nn.Module):
    """The gate's layers, named as in the released code."""

    def __init__(self, decoder: MistralConfig, layers: int) -> None:
        super().__init__()
        self.cls_model = MistralForCausalLM(gate_config(decoder, layers))


class PerceptionGate(EventExtractor):
    """See the file; `forward` is one frame as the device runs it, `sequence` whole streams.

    Its outputs are those of a `CognitionGate`: scores (batch, 1), the probability of `response`;
    state_summary (batch, width), the perception token, which the connector hands on; new_conv and
    new_ssm. The state is that of `EventExtractor`.

    Args:
        shape: of the extractor.
        decoder: config of the language model, whose layers these are.
        layers: of the gate; 4 in the original.

    Cost: 0.9 G parameters at the released sizes, of which 0.8 G are read at each frame.
    Source: StreamMind (arXiv 2503.06220) and its code at 4274776, the gate that sees no question;
        differs: queries and keys, which have no effect, are not computed.
    """

    def __init__(self, shape: ExtractorShape, decoder: MistralConfig, layers: int) -> None:
        super().__init__(shape)
        self.cls_net = ShallowLayers(decoder, layers)
        self.shape = GateShape(
            dim=shape.dim, tokens=1, events=1, width=shape.width, layers=layers, reads=("tokens",)
        )

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """One frame: tokens (batch, 1, dim), conv and ssm → the outputs, in `output_names`."""
        tokens, conv, ssm = inputs
        token, new_conv, new_ssm = self.step(tokens[:, 0], conv, ssm)
        response = torch.softmax(self.judged(token), -1)[..., 1:]
        return response, token, new_conv, new_ssm

    def sequence(
        self,
        tokens: Tensor,
        summary: Tensor,
        motion: Tensor,
        dt_s: Tensor,
        state: tuple[Tensor, Tensor] | None = None,
        query: Tensor | None = None,
    ) -> GateSequence:
        """All frames of some streams at once; the numbers are those of `forward` frame by frame.

        Args:
            tokens: (batch, frames, 1, dim).
            summary, motion, dt_s, query: of other gates; this one reads the tokens alone.
            state: conv and ssm before the first frame; None at the start of the streams.
        """
        conv, ssm = self.first_state(len(tokens)) if state is None else state
        token, conv, ssm = self.scan(tokens[:, :, 0], conv, ssm)
        judged = self.judged(token)
        return GateSequence(judged[..., 1:] - judged[..., :1], {}, token, conv, ssm)

    def judged(self, token: Tensor) -> Tensor:
        """Logits of silence and response, (…, 2), for each token (…, width) by itself."""
        model, x = self.cls_net.cls_model, token
        for layer in self._layers():
            part = layer.self_attn
            value = part.v_proj(layer.input_layernorm(x)).unflatten(-1, (-1, 1, part.head_dim))
            heads = value.expand(*value.shape[:-2], part.num_key_value_groups, -1)
            x = x + part.o_proj(heads.flatten(-3))
            x = x + layer.mlp(layer.post_attention_layernorm(x))
        judged: Tensor = model.lm_head(model.model.norm(x))
        return judged

    def input_names(self) -> list[str]:
        """Names of what `forward` takes, in its order."""
        return ["tokens", "conv", "ssm"]

    def output_names(self) -> list[str]:
        """Names of what `forward` gives, in its order."""
        return ["scores", "state_summary", "new_conv", "new_ssm"]

    def _layers(self) -> Iterator[Any]:
        yield from self.cls_net.cls_model.model.layers


class PerceptionConnector(nn.Module):
    """Hands the gate's perception token on: it is what the language model reads of a frame.

    tokens (1, 1, dim) and state_summary (1, width) → embeds (1, 1, width).
    """

    def forward(self, tokens: Tensor, state_summary: Tensor) -> Tensor:
        return state_summary[:, None]


def gate_config(decoder: MistralConfig, layers: int) -> MistralConfig:
    """The gate's layers: shaped as the language model's, and otherwise as Mistral's first release.

    The original takes the library's default of 1e-6 in the norms whatever the language model has.
    """
    config = copy.deepcopy(decoder)
    config.vocab_size, config.num_hidden_layers, config.rms_norm_eps = CLASSES, layers, 1e-6
    config.tie_word_embeddings = False
    config.pad_token_id = config.bos_token_id = config.eos_token_id = None
    return config
