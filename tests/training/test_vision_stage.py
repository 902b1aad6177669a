"""Vision in training sees what the device sees; shares of a batch average to the whole of it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from edgestream.evaluation.world import ATTRIBUTES, EVENT_TYPES, WorldRules
from edgestream.runtime.motion_input import vision_input
from edgestream.training.reference_parts import parts_of
from edgestream.training.seeing import seen
from edgestream.training.team import Team
from edgestream.training.vision_batches import (
    ATTRIBUTES_OF,
    IGNORED,
    attribute_targets,
    rendered_batch,
)
from edgestream.training.vision_losses import DenseHeads
from edgestream.training.vision_stage import VisionStage

from .tiny import tiny_config, tiny_recipe

RULES = WorldRules(looks=4)


def test_it_sees_what_the_device_sees():
    model = parts_of(1, tiny_config()).model
    batch = rendered_batch([7], 3, RULES)
    pixels = vision_input(
        batch.colours[0].numpy(), batch.maps[0].numpy(), model.config.frame_input()
    )
    with torch.no_grad():
        found = seen(model.vision, batch.colours[0], batch.maps[0])
        expected = model.vision.see(torch.from_numpy(pixels))
    for one, other in zip(found, expected, strict=True):
        assert float((one - other).abs().max()) < 1e-4


def gradients(recipe, team):
    model = parts_of(1, tiny_config()).model
    torch.manual_seed(0)
    stage = VisionStage(model, DenseHeads(32), recipe, team)
    optimiser = stage.optimiser()
    terms, _ = stage.losses(5, 0.0)
    torch.stack(list(terms.values())).sum().backward()
    return {
        name: torch.zeros_like(one) if one.grad is None else one.grad
        for name, one in optimiser.parameters.items()
    }


@pytest.mark.medium
def test_two_halves_of_a_batch_average_to_the_whole():
    recipe = tiny_recipe(clips=2, reused=1.0, other_rates=1.0)
    whole = gradients(replace(recipe, clips=4), Team())
    halves = [gradients(recipe, Team(rank, 2)) for rank in range(2)]
    for name, one in whole.items():
        mean = (halves[0][name] + halves[1][name]) / 2
        assert float((mean - one).abs().max()) < 1e-4 * (1 + float(one.abs().max())), name
    assert any(float((halves[0][n] - halves[1][n]).abs().max()) > 1e-3 for n in whole)


def test_the_same_arguments_give_the_same_batch():
    one = rendered_batch([3, 4], 5, RULES, reused=0.5, other_rates=0.5)
    two = rendered_batch([3, 4], 5, RULES, reused=0.5, other_rates=0.5)
    assert torch.equal(one.colours, two.colours) and torch.equal(one.source, two.source)
    assert torch.equal(one.dt_s, two.dt_s) and torch.equal(one.events, two.events)


@pytest.mark.parametrize("seed", [2, 11, 30])
def test_still_frames_bring_tokens_of_an_earlier_frame_and_nothing_is_missed(seed):
    batch = rendered_batch([seed], 24, RULES, reused=1.0)
    source = batch.source[0].numpy()
    frames = np.arange(24)
    assert (source <= frames).all() and (frames - source < 8).all()
    assert (source[source] == source).all()  # it is a frame that was encoded itself
    assert (source[batch.speak[0].numpy() > 0] == frames[batch.speak[0].numpy() > 0]).all()


def test_attributes_are_asked_for_where_they_are_told_and_a_frame_later():
    events = np.zeros((1, 5, len(EVENT_TYPES)), np.bool_)
    values = {name: np.full((1, 5), -1) for name in ATTRIBUTES}
    events[0, 1, EVENT_TYPES.index("enter")] = True
    values["side"][0, 1] = 2
    events[0, 3, EVENT_TYPES.index("cut")] = True
    found = attribute_targets((events, values))
    no_colour = len(ATTRIBUTES["colour"])
    assert found["side"][0].tolist() == [IGNORED, 2, 2, IGNORED, IGNORED]
    assert found["colour"][0].tolist() == [IGNORED, no_colour, no_colour, IGNORED, IGNORED]
    assert found["direction"][0].tolist() == [IGNORED] * 5
    assert set(ATTRIBUTES_OF) <= set(EVENT_TYPES)
