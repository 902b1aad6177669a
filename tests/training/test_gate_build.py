"""A new gate on another one's extractor: where it begins, with and without when it last spoke."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from edgestream.models.families import load_checkpoint
from edgestream.models.gate_heads import HeadShape
from edgestream.training.gate_build import ExtractorSize, gate_for

from ..reference_checkpoints import small_reference_checkpoint

pytestmark = pytest.mark.medium

FRAMES = 6


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return load_checkpoint(small_reference_checkpoint(tmp_path_factory.mktemp("base") / "base"))


def made(checkpoint, head="linear", **heard):
    return gate_for(checkpoint, HeadShape(head), ExtractorSize(), seed=5,
                    **{"asked": False, **heard}).eval()  # fmt: skip


def logits_of(gate, **heard):
    random, shape = torch.Generator().manual_seed(1), gate.shape
    sizes = (
        (shape.tokens, shape.dim),
        (shape.dim,),
        (len(shape.map_std), shape.cells, shape.cells),
    )
    seen = [torch.randn(1, FRAMES, *size, generator=random) for size in sizes]
    with torch.no_grad():
        return gate.sequence(*seen, torch.full((1, FRAMES), 0.25), **heard).logits


def hearing(checkpoint):
    """A base whose gate was trained to hear when it last spoke."""
    gate = made(checkpoint, spoken=True)
    with torch.no_grad():
        gate.since.told.weight.normal_(generator=torch.Generator().manual_seed(2))
    return replace(checkpoint, gate=gate)


SOON = torch.full((1, FRAMES), 0.2)


def test_a_linear_gate_that_hears_begins_where_one_that_does_not_would(checkpoint):
    ours = logits_of(made(checkpoint, spoken=True), spoken=SOON)
    for other in (made(checkpoint), checkpoint.gate):
        torch.testing.assert_close(ours, logits_of(other), atol=1e-5, rtol=0)


def test_another_head_begins_anew_and_tells_the_same_events(checkpoint):
    ours = logits_of(made(checkpoint, "mlp", spoken=True), spoken=SOON)
    theirs = logits_of(checkpoint.gate)
    torch.testing.assert_close(ours[..., 1:], theirs[..., 1:], atol=1e-5, rtol=0)
    assert (ours - theirs)[..., 0].abs().max() > 1e-3
    assert torch.equal(ours, logits_of(made(checkpoint, "mlp")))


def test_a_gate_that_heard_already_goes_on_with_what_it_heard(checkpoint):
    base = hearing(checkpoint)
    assert torch.equal(
        logits_of(made(base, spoken=True), spoken=SOON), logits_of(base.gate, spoken=SOON)
    )
    assert (logits_of(base.gate, spoken=SOON) - logits_of(base.gate))[..., 0].abs().min() > 1e-3


@pytest.mark.parametrize("heard", [{}, {"asked": True}, {"asked": True, "spoken": True}])
def test_on_a_base_that_hears_any_gate_tells_the_events_of_the_base(checkpoint, heard):
    """Also one whose linear layer has a row of `speak` that the base's has not."""
    base = hearing(checkpoint)
    ours, theirs = logits_of(made(base, **heard)), logits_of(base.gate)
    torch.testing.assert_close(ours[..., 1:], theirs[..., 1:], atol=1e-5, rtol=0)
