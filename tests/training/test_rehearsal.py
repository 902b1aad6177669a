"""What the reference assistant knew is read in every step, through the trained adapters."""

from __future__ import annotations

import pytest
import torch

from edgestream.models.families.reference import Reference
from edgestream.models.family import LoadOptions
from edgestream.models.reference_checkpoint import save_reference
from edgestream.training.lora_model import LoraModel, LoraShape
from edgestream.training.reference_parts import parts_of
from edgestream.training.rehearsal import Rehearsal
from edgestream.training.team import Team

from .tiny import tiny_config


@pytest.mark.slow
def test_it_teaches_the_adapters_and_is_the_same_again(tmp_path):
    parts = parts_of(3, tiny_config())
    save_reference(tmp_path / "base", parts.model, parts.tokenizer)
    checkpoint = Reference().load(tmp_path / "base", LoadOptions())
    model = LoraModel(checkpoint, LoraShape(rank=4, alpha=8, dropout=0.0), 0, "cpu")
    given = (model, tmp_path / "base", tmp_path / "cache", Team(), 3, 0)
    terms, facts = Rehearsal(*given).losses(2)
    assert terms.keys() == {"describe", "answer"} and "right_describe" in facts
    torch.stack(list(terms.values())).sum().backward()
    for name, one in model.trained.items():
        if "lora_B" in name or "connector" in name:
            assert float(one.grad.abs().sum()) > 0, name
    written = {path: path.stat().st_mtime_ns for path in (tmp_path / "cache").iterdir()}
    again, _ = Rehearsal(*given).losses(2)  # as a run that goes on makes it
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "cache").iterdir()} == written
    for name, one in terms.items():
        assert float(again[name].detach()) == float(one.detach())
