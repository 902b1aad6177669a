"""Scales of an int8 cache: nothing of the calibration is cut off, wherever it stands."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from edgestream.calibration.cache_ranges import cache_scales
from edgestream.calibration.decoder_calls import Stretch


@pytest.fixture(scope="module")
def decoder():
    config = LlamaConfig(
        hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=2, vocab_size=101,
    )  # fmt: skip
    torch.manual_seed(0)
    return LlamaForCausalLM(config).eval()


def prompts(count: int = 4, seed: int = 0) -> list[Stretch]:
    random = np.random.default_rng(seed)
    return [Stretch(random.standard_normal((5 + n % 3, 32), np.float32)) for n in range(count)]


def test_codes_of_all_that_was_read_stay_within_127_at_any_position(decoder):
    scales = cache_scales(decoder, prompts())
    assert len(scales) == 2
    largest = np.zeros(2)
    with torch.inference_mode():
        for prompt in prompts():
            shifted = torch.arange(300, 300 + len(prompt))[None]
            cache = decoder(
                inputs_embeds=torch.from_numpy(prompt.embeds)[None],
                position_ids=shifted,
                use_cache=True,
            ).past_key_values
            for layer, scale in zip(cache.layers, scales, strict=True):
                for which, held in enumerate((layer.keys, layer.values)):
                    codes = held[0].numpy() / scale[which][:, None]
                    largest[which] = max(largest[which], np.abs(codes).max())
    assert largest[0] <= 127.01 and largest[1] == pytest.approx(127, abs=0.01)


def test_both_numbers_of_a_pair_have_one_scale_and_more_data_only_widens(decoder):
    few, many = cache_scales(decoder, prompts(3)), cache_scales(decoder, prompts(9))
    for one, other in zip(few, many, strict=True):
        assert one.key.shape == one.value.shape == (2, 16) and one.key.dtype == np.float32
        np.testing.assert_array_equal(one.key[:, :8], one.key[:, 8:])
        # The last digit of the same product may differ from one place in memory to another.
        for more, less in ((other.key, one.key), (other.value, one.value)):
            assert (more >= less * (1 - 1e-5)).all()
