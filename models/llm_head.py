"""The head that is the first layers of a language model: the query's row, then the frame's.

The layers are those of `transformers`, with the rotation of two places and the mask between them as
constants. The frame's row stands behind the query's, so that attention has something to choose; of
one row alone, as StreamMind's released gate has it, it gives that row's own value.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from .decoder_weights import DecoderWeights
from .gate_heads import LLM, START_SCALE, HeadShape
from .text_decoder import Decoder
from .transformers_parts import DECODERS, config_as_json, model_of

LAYERS = "model.layers."
INIT_STD = 0.02
"""Of the layers' matrices at the start, where no language model's are put into them."""


class LlmHead(nn.Module):
    """State (…, width) and query (…, hidden) → logit (…, 1).

    Args:
        shape: of the kind `llm`.
        width: of the state.
        query_dim: 0, or the hidden size of the layers.

    Raises:
        ValueError: the config makes no layers, or its hidden size is not that of the query.

    Cost: a layer of the language model over two rows a frame.
    Source: StreamMind (arXiv 2503.06220), shallow layer transfer; differs: the query stands before
        the frame, and one logit takes the place of two classes.
    """

    cos: Tensor
    sin: Tensor
    mask: Tensor

    def __init__(self, shape: HeadShape, width: int, query_dim: int) -> None:
        super().__init__()
        model = _layers_of(shape)
        hidden = int(model.config.hidden_size)
        if query_dim not in (0, hidden):
            raise ValueError(f"a query of {query_dim} numbers, expected the hidden size {hidden}")
        inner: Any = model.model
        self.layers: nn.ModuleList = inner.layers
        self.layers.requires_grad_(True)
        self.frame = nn.Linear(width, hidden)
        self.last_norm = nn.LayerNorm(hidden)
        self.told = nn.Linear(hidden, 1)
        places = torch.arange(2)[None]
        with torch.no_grad():
            self.frame.weight.mul_(START_SCALE)
            self.frame.bias.zero_()
            cos, sin = inner.rotary_emb(torch.zeros(1, 2, hidden), places)
        unseen = torch.zeros(1, 1, 2, 2)
        unseen[..., 0, 1] = torch.finfo(torch.float32).min
        for name, part in (("cos", cos), ("sin", sin), ("mask", unseen)):
            self.register_buffer(name, part, persistent=False)

    def forward(self, state: Tensor, query: Tensor | None, tokens: Tensor | None) -> Tensor:
        rows = self.frame(state)[..., None, :]
        if query is not None:
            asked = query[..., None, :].expand(*rows.shape)
            rows = torch.cat([asked, rows], dim=-2)
        shape, count = rows.shape, rows.shape[-2]
        x = rows.reshape(-1, *shape[-2:])
        angles = self.cos[:, :count], self.sin[:, :count]
        for layer in self.layers:
            x = layer(x, attention_mask=self.mask[..., :count, :count], position_embeddings=angles)
        logit: Tensor = self.told(self.last_norm(x[:, -1]))
        return logit.reshape(*shape[:-2], 1)


def early_layers(decoder: Decoder, layers: int) -> HeadShape:
    """A head of a decoder's first layers.

    Raises:
        ValueError: its architecture is another than Llama's, Qwen2's or Mistral's, or it has fewer.
    """
    kind, most = str(decoder.config.model_type), int(decoder.config.num_hidden_layers)
    if kind not in DECODERS or layers > most:
        raise ValueError(
            f"the decoder is of the type {kind} with {most} layers, expected {layers} or more of "
            f"one of the types {', '.join(DECODERS)}"
        )
    config = {**config_as_json(decoder.config), "num_hidden_layers": layers, "vocab_size": 2,
              "tie_word_embeddings": True, "bos_token_id": None, "eos_token_id": None,
              "pad_token_id": None}  # fmt: skip
    if "layer_types" in config:
        config["layer_types"] = config["layer_types"][:layers]
    return HeadShape(kind=LLM, layers=layers, decoder=config)


@torch.no_grad()
def fill_from_(head: LlmHead, weights: DecoderWeights) -> None:
    """Put a language model's own first layers into a head.

    Source: StreamMind's code at 4274776, `get_skip_cls_net_weight`.
    """
    for name, parameter in head.layers.named_parameters():
        found = torch.from_numpy(weights.tensor(LAYERS + name).copy())
        parameter.copy_(found.reshape(parameter.shape))


def _layers_of(shape: HeadShape) -> PreTrainedModel:
    kind = str(shape.decoder.get("model_type"))
    if kind not in DECODERS:
        raise ValueError(
            f"a head of layers of the type {kind!r}, expected one of {', '.join(DECODERS)}"
        )
    described = {**shape.decoder, "num_hidden_layers": shape.layers}
    model = model_of(described, "architecture.head.decoder", DECODERS[kind])
    model.config._attn_implementation = "eager"  # the export knows its operators
    for parameter in model.model.layers.parameters():  # it was made without a number in it
        if parameter.ndim == 2:
            nn.init.normal_(parameter, std=INIT_STD)
        else:
            nn.init.zeros_(parameter)
    for name, parameter in model.model.layers.named_parameters():
        if name.endswith("norm.weight"):
            nn.init.ones_(parameter)
    return model
