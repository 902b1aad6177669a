"""The text part of a model that sees, with the surface of a causal language model."""

from __future__ import annotations

from typing import Any, TypeAlias

from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.cache_utils import Cache
from transformers.modeling_outputs import CausalLMOutputWithPast


class TextDecoder(nn.Module):
    """A text model of `transformers` with its head, called as any causal language model.

    Its parameters are named as those of Llama: `model.embed_tokens.weight`, `model.layers.N.…`,
    `model.norm.weight`, `lm_head.weight`.

    Args:
        model: for example `Qwen2_5_VLTextModel`; embeds in, states after its last norm out.
        lm_head: without a bias; its weight may be the table of token embeddings itself.

    Attributes:
        config: of the text model, with `tie_word_embeddings` as the weights are.
    """

    def __init__(self, model: PreTrainedModel, lm_head: nn.Linear) -> None:
        super().__init__()
        self.model, self.lm_head = model, lm_head
        self.config: PreTrainedConfig = model.config
        self.config.tie_word_embeddings = lm_head.weight is self.get_input_embeddings().weight

    def get_input_embeddings(self) -> nn.Embedding:
        """The table of token embeddings."""
        table = self.model.get_input_embeddings()
        assert isinstance(table, nn.Embedding)
        return table

    def read(self, embeds: Tensor, **given: Any) -> Any:
        """What the text model gives for these embeds."""
        return self.model(inputs_embeds=embeds, **given)

    def forward(
        self,
        inputs_embeds: Tensor | None = None,
        position_ids: Tensor | None = None,
        past_key_values: Cache | None = None,
        use_cache: bool | None = None,
        logits_to_keep: int = 0,
        *,
        input_ids: Tensor | None = None,
    ) -> CausalLMOutputWithPast:
        """Logits, and the cache where it is used.

        Args:
            inputs_embeds: (batch, tokens, hidden) float32.
            position_ids: (axes, batch, tokens) int64, or (batch, tokens) for equal ones on every
                axis; None goes on by one.
            past_key_values: cache of the tokens before.
            use_cache: give a cache back.
            logits_to_keep: of the last so many tokens; 0 for all.
            input_ids: (batch, tokens), in the place of their embeds.

        Returns:
            `logits` (batch, tokens, vocabulary) float32 and `past_key_values`.
        """
        if inputs_embeds is None:
            assert input_ids is not None, "a decoder reads embeds or ids"
            inputs_embeds = self.get_input_embeddings()(input_ids)
        out = self.read(
            inputs_embeds,
            position_ids=position_ids,
            past_key_values=past_key_values,
            use_cache=use_cache,
        )
        states = out.last_hidden_state
        kept = states[:, -logits_to_keep:] if logits_to_keep else states
        return CausalLMOutputWithPast(
            logits=self.lm_head(kept), past_key_values=out.past_key_values
        )


Decoder: TypeAlias = PreTrainedModel | TextDecoder
