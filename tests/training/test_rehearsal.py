"""What the reference assistant knew is read in every step: it is to be said as it was before."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from edgestream.models.families.reference import Reference
from edgestream.models.family import LoadOptions
from edgestream.models.reference_checkpoint import save_reference
from edgestream.training.lora_model import LoraModel, LoraShape
from edgestream.training.lora_recipe import usual_of
from edgestream.training.reference_parts import parts_of
from edgestream.training.rehearsal import Rehearsal
from edgestream.training.team import Team

from .tiny import tiny_config


@pytest.fixture(scope="module")
def known(tmp_path_factory):
    """(model, rehearsal, what it was made of) of a small checkpoint."""
    folder = tmp_path_factory.mktemp("known")
    parts = parts_of(3, tiny_config())
    save_reference(folder / "base", parts.model, parts.tokenizer)
    checkpoint = Reference().load(folder / "base", LoadOptions())
    # Both are read rounded: what is said as surely as before is said by what will run.
    shape = LoraShape(rank=4, alpha=8, dropout=0.0, round_to="int4-32")
    model = LoraModel(checkpoint, shape, 0, "cpu")
    given = (model, folder / "base", folder / "cache", Team(), 3, 0)
    return model, Rehearsal(*given), given


def test_it_is_usual_for_a_reference_assistant_alone():
    assert usual_of("reference").rehearse > 0 == usual_of("live").rehearse
    assert usual_of("reference", is_shared=True) == replace(
        usual_of("reference"), rehearse=0, round_to=""
    )
    assert usual_of("reference").is_decoder_only and not usual_of("live").is_decoder_only


@pytest.mark.slow
def test_nothing_is_to_be_learned_again_before_something_was_forgotten(known):
    _, rehearsal, _ = known
    terms, facts = rehearsal.losses(2)
    assert terms.keys() == {"describe", "answer"} and "right_describe" in facts
    assert all(float(one.detach()) == pytest.approx(0.0, abs=1e-6) for one in terms.values())


@pytest.mark.slow
def test_it_calls_back_every_weight_that_was_changed_and_is_the_same_again(known):
    model, rehearsal, given = known
    with torch.no_grad():
        for name, one in model.trained.items():
            if "lora_B" in name or "connector" in name:
                one.add_(0.05 * torch.randn(one.shape, generator=torch.Generator().manual_seed(1)))
    terms, _ = rehearsal.losses(2)
    assert all(float(one.detach()) > 1e-4 for one in terms.values())
    torch.stack(list(terms.values())).sum().backward()
    for name, one in model.trained.items():
        assert float(one.grad.abs().sum()) > 0, name
    written = {path: path.stat().st_mtime_ns for path in given[2].iterdir()}
    again, _ = Rehearsal(*given).losses(2)  # as a run that goes on makes it
    assert {path: path.stat().st_mtime_ns for path in given[2].iterdir()} == written
    for name, one in terms.items():
        assert float(again[name].detach()) == float(one.detach())
