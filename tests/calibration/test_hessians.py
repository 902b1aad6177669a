"""What the matrices of a decoder read, against the same worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from edgestream.calibration.decoder_calls import Stretch
from edgestream.calibration.hessians import Hessians

Q, DOWN, HEAD = (
    "model.layers.0.self_attn.q_proj.weight",
    "model.layers.1.mlp.down_proj.weight",
    "model.embed_tokens.weight",
)


@pytest.fixture(scope="module")
def decoder():
    config = LlamaConfig(
        hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, vocab_size=101, tie_word_embeddings=True,
    )  # fmt: skip
    torch.manual_seed(0)
    return LlamaForCausalLM(config).eval()


@pytest.fixture(scope="module")
def prompts():
    random = np.random.default_rng(0)
    return [Stretch(random.standard_normal((n, 32), np.float32)) for n in (5, 9, 5, 7)]


def test_the_mean_is_over_every_position_of_every_prompt(decoder, prompts):
    found = Hessians(decoder, [Q, DOWN, HEAD], prompts)
    with torch.inference_mode():
        norm = decoder.model.layers[0].input_layernorm
        read = [
            norm(torch.from_numpy(prompt.embeds)).numpy().astype(np.float64) for prompt in prompts
        ]
        last = [
            decoder.model(inputs_embeds=torch.from_numpy(prompt.embeds)[None])[0][0].numpy()
            for prompt in prompts
        ]
    for name, inputs in ((Q, read), (HEAD, last)):
        rows = np.concatenate(inputs).astype(np.float64)
        np.testing.assert_allclose(found.of(name), rows.T @ rows / 26, rtol=1e-4, atol=1e-6)
    assert found.of(DOWN).shape == (48, 48)


def test_a_small_budget_collects_in_turns_and_finds_the_same(decoder, prompts):
    names = [Q, DOWN, HEAD]
    whole = Hessians(decoder, names, prompts)
    bit_by_bit = Hessians(decoder, names, prompts, budget_bytes=1)
    for name in (*names, Q):
        np.testing.assert_array_equal(bit_by_bit.of(name), whole.of(name))


def test_nothing_of_ours_stays_on_the_decoder(decoder, prompts):
    Hessians(decoder, [Q], prompts).of(Q)
    assert not decoder.model.layers[0].self_attn.q_proj._forward_pre_hooks


def test_a_matrix_that_was_not_named_is_refused(decoder, prompts):
    with pytest.raises(KeyError, match="down_proj"):
        Hessians(decoder, [Q], prompts).of(DOWN)
