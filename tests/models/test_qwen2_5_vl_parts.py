"""Qwen2.5-VL in parts against transformers' whole model: tower, merger, positions, decoder."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from edgestream.models.qwen2_5_vl_vision import Merger, WindowTower
from edgestream.models.text_decoder import TextDecoder
from edgestream.models.transformers_parts import rotary_positions
from edgestream.runtime.prompt import PromptParts
from edgestream.runtime.prompt_layout import PromptLayout, Slot, Text
from edgestream.runtime.prompt_plan import planned_prompt, segment_positions

from ..qwen2_5_vl_checkpoint import (
    SPECIAL,
    image_grid,
    image_values,
    tiny_model,
)

IDS = {name: 300 + at for at, name in enumerate(SPECIAL)}
IMAGE = IDS["<|image_pad|>"]


@pytest.fixture(scope="module")
def model():
    return tiny_model(310, IDS)


def picture(rows, columns, seed=0):
    return np.random.default_rng(seed).standard_normal((3, rows * 28, columns * 28)).astype("f4")


@pytest.mark.parametrize("grid", [(8, 8), (6, 6), (4, 4), (3, 5), (1, 1)])
def test_tower_and_merger_are_the_models_own(model, grid):
    """Windows of one size, of several sizes, and one window alone."""
    pixels = picture(*grid)
    with torch.inference_mode():
        expected = model.model.get_image_features(image_values(pixels), image_grid(pixels))
        tower = WindowTower(model.model.visual, (grid[0] * 2, grid[1] * 2))
        tokens, summary = tower(torch.from_numpy(pixels[None]))
        embeds = Merger(model.model.visual.merger)(tokens)
    (expected,) = expected.pooler_output
    assert tokens.shape == (1, grid[0] * grid[1], 4 * 48) and summary.shape == (1, 48)
    assert float(expected.std()) > 0.1 and embeds.shape == (1, *expected.shape)
    torch.testing.assert_close(embeds[0], expected, rtol=1e-4, atol=1e-4)
    assert float(summary.norm()) == pytest.approx(1.0, abs=1e-5)


def test_windows_and_turns_matter(model):
    """The control of the test above: without either of them its tokens are others."""
    pixels = torch.from_numpy(picture(8, 8)[None])
    towers = [WindowTower(model.model.visual, (16, 16)) for _ in range(3)]
    towers[1].lengths = [256]
    towers[2].sin = -towers[2].sin
    with torch.inference_mode():
        right, *wrong = (tower(pixels)[0] for tower in towers)
    assert all(float((right - one).abs().max()) > 0.1 for one in wrong)


LAYOUT = PromptLayout(
    segments={
        "system": (Text("SS"),),
        "frame": (Text("<"), Slot("embeds"), Text(">")),
        "user": (Slot("question"),),
        "assistant": (Text("AA"),),
    },
    order=("system", "frame*", "user", "assistant"),
    stop_ids=(2,),
    max_answer_tokens=8,
)


@pytest.mark.parametrize(("grid", "frames"), [((8, 8), 1), ((8, 8), 3), ((2, 3), 2), ((5, 2), 2)])
def test_positions_are_those_of_get_rope_index(model, grid, frames):
    count = grid[0] * grid[1]
    shown = [(0.0, np.full((count, 4), number, np.float32)) for number in range(frames)]
    parts = PromptParts("what is it?", shown)
    plan = planned_prompt(LAYOUT, lambda text: [ord(one) for one in text], parts, 10**6)
    ids = [[one for each in plan.segments for one in each.ids or [IMAGE] * count]]
    ids = torch.tensor(ids)
    sizes = torch.tensor([[1, grid[0] * 2, grid[1] * 2]] * frames)
    expected, delta = model.model.get_rope_index(ids, (ids == IMAGE).int(), image_grid_thw=sizes)
    positions = segment_positions(plan.segments, grid)
    assert np.array_equal(positions, expected[:, 0].numpy())
    # What a model says next stands where transformers' generate puts it.
    assert positions.max() + 1 == ids.shape[1] + int(delta)


def test_the_decoder_is_the_language_model_of_the_whole(model):
    decoder = TextDecoder(model.model.language_model, model.lm_head).eval()
    names = {name for name, _ in decoder.named_parameters(remove_duplicate=False)}
    assert {"model.embed_tokens.weight", "model.norm.weight", "lm_head.weight",
            "model.layers.2.self_attn.q_proj.bias"} <= names  # fmt: skip
    assert decoder.config.tie_word_embeddings
    positions = rotary_positions(decoder, "here", (8, 8))
    assert (positions.axes, positions.sections, positions.frame_grid) == (3, (2, 3, 3), (8, 8))
    assert positions.theta == 1_000_000.0 and not positions.extra
    pixels = picture(2, 2)
    ids = torch.tensor([[5, 6, *[IMAGE] * 4, 7, 8]])
    kinds = (ids == IMAGE).int()
    with torch.inference_mode():
        expected = model(
            input_ids=ids,
            mm_token_type_ids=kinds,
            pixel_values=image_values(pixels),
            image_grid_thw=image_grid(pixels),
        ).logits
        embeds = decoder.get_input_embeddings()(ids)
        seen = model.model.get_image_features(image_values(pixels), image_grid(pixels))
        embeds[0, 2:6] = seen.pooler_output[0]
        places, _ = model.model.get_rope_index(ids, kinds, image_grid(pixels))
        first = decoder(inputs_embeds=embeds[:, :5], position_ids=places[..., :5], use_cache=True)
        rest = decoder(
            inputs_embeds=embeds[:, 5:],
            position_ids=places[..., 5:],
            past_key_values=first.past_key_values,
            logits_to_keep=1,
        )
    torch.testing.assert_close(first.logits, expected[:, :5], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(rest.logits, expected[:, -1:], rtol=1e-4, atol=1e-4)
