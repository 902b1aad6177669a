"""A decoder that reads wide rows, against transformers' text model with its mask of pictures."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from transformers import Qwen3VLTextConfig, Qwen3VLTextModel

from edgestream.models.deepstack_decoder import DeepStackDecoder

from ..qwen3_vl_checkpoint import TEXT_SIZES

HIDDEN, LEVELS, VOCABULARY = TEXT_SIZES["hidden_size"], 2, 90


@pytest.fixture(scope="module")
def decoder():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        text = Qwen3VLTextModel(Qwen3VLTextConfig(vocab_size=VOCABULARY, **TEXT_SIZES))
        made = DeepStackDecoder(text, nn.Linear(HIDDEN, VOCABULARY, bias=False), LEVELS)
        for parameter in made.parameters():
            if parameter.ndim == 2:
                parameter.data.mul_(3.0)
    return made.eval().requires_grad_(False)


@pytest.fixture
def rows():
    """Two prompts of nine rows, pictures at other places in each; zero behind the text's."""
    made = torch.randn(2, 9, HIDDEN * (1 + LEVELS), generator=torch.Generator().manual_seed(1))
    made[0, :3, HIDDEN:] = 0
    made[0, 7:, HIDDEN:] = 0
    made[1, 6:, HIDDEN:] = 0
    return made


def logits_of(decoder, rows, positions):
    """As transformers' whole model calls the text model: pictures by a mask."""
    first, *deep = rows.split(HIDDEN, -1)
    is_seen = rows[..., HIDDEN:].any(-1)
    told = decoder.model(
        inputs_embeds=first,
        position_ids=positions,
        visual_pos_masks=is_seen,
        deepstack_visual_embeds=[level[is_seen] for level in deep],
    )
    return decoder.lm_head(told.last_hidden_state)


def places(batch, count):
    """Three axes that differ."""
    ids = torch.arange(count).expand(3, batch, count).clone()
    ids[1, :, 3:6] += 1
    ids[2, :, 4:7] += 2
    return ids


@torch.inference_mode()
def test_wide_rows_say_what_a_mask_says(decoder, rows):
    expected = logits_of(decoder, rows, places(2, 9))
    found = decoder(inputs_embeds=rows, position_ids=places(2, 9)).logits
    assert (found - expected).abs().max() < 1e-5
    left_out = decoder(inputs_embeds=rows[..., :HIDDEN], position_ids=places(2, 9)).logits
    assert (left_out - expected).abs().max() > 0.05, "what is added counts"
    last = decoder(inputs_embeds=rows, position_ids=places(2, 9), logits_to_keep=1).logits
    assert last.shape == (2, 1, VOCABULARY) and (last - expected[:, -1:]).abs().max() < 1e-5


@torch.inference_mode()
def test_a_cache_goes_on_where_the_rows_end(decoder, rows):
    whole = decoder(inputs_embeds=rows[:1], position_ids=places(1, 9)).logits
    past, parts = None, []
    for part in (slice(0, 4), slice(4, 8), slice(8, 9)):
        out = decoder(
            inputs_embeds=rows[:1, part],
            position_ids=places(1, 9)[..., part],
            past_key_values=past,
            use_cache=True,
        )
        past = out.past_key_values
        parts.append(out.logits)
    assert (torch.cat(parts, 1) - whole).abs().max() < 1e-4


@torch.inference_mode()
def test_a_narrow_row_is_a_row_of_text(decoder):
    ids = torch.tensor([[3, 1, 4, 1, 5]])
    narrow = decoder.get_input_embeddings()(ids)
    wide = nn.functional.pad(narrow, (0, HIDDEN * LEVELS))
    told = [decoder(inputs_embeds=narrow), decoder(inputs_embeds=wide), decoder(input_ids=ids)]
    assert all((one.logits - told[0].logits).abs().max() < 1e-5 for one in told)


@torch.inference_mode()
def test_a_row_of_another_width_is_refused(decoder):
    with pytest.raises(AssertionError, match="1 levels in a row of 128"):
        decoder(inputs_embeds=torch.zeros(1, 2, 2 * HIDDEN))
