"""A bundle of a Hub model without a gate of its own: run on the sample clip, from id to answer."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from edgestream.edge.cli import main

from ..hub_checkpoints import save_hub
from ..models.test_smolvlm import PREPROCESSOR, TEMPLATE, TOKENIZER, tiny_smolvlm

pytestmark = pytest.mark.slow
SAMPLE = Path(__file__).parents[2] / "assets" / "sample.mp4"


def test_it_watches_with_the_gate_change_and_answers(tmp_path):
    model = tiny_smolvlm(image_size=128)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "norm" in name and weight.ndim == 1:
                weight.mul_(1.25)  # what was never trained may not speak
    folder = tmp_path / "checkpoint"
    save_hub(folder, model, TOKENIZER, chat_template=TEMPLATE, preprocessor=PREPROCESSOR)
    bundle, log = tmp_path / "bundle", tmp_path / "log.jsonl"
    plain = ["--vision", "fp32", "--llm", "fp32"]
    assert main(["export", str(folder), "--out", str(bundle), *plain]) == 0
    facts = json.loads((bundle / "manifest.json").read_text())
    assert (facts["tokens_per_frame"], facts["cache"]["capacity"]) == (64, 512)
    asked = ["--ask", "6:Is it dark?", "--ask", "12:What happened?"]
    assert main(["run", str(SAMPLE), "--bundle", str(bundle), *asked, "--jsonl", str(log)]) == 0
    records = [json.loads(line) for line in log.read_text().splitlines()]
    finals = [one for one in records if one["type"] == "final"]
    assert [one["question"] for one in finals if one["cause"] == "question"] == [
        "Is it dark?", "What happened?"
    ]  # fmt: skip
    assert all(one["text"] for one in finals if one["cause"] == "question")
    assert not [one for one in finals if one["ended_by"] == "fault"]
    assert any(one["cause"] == "event" for one in finals)
    assert {"cut", "dark"} <= {one["event"] for one in records if one["type"] == "opened"}
