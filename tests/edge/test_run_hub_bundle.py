"""A bundle of a Hub model without a gate of its own: run on the sample clip, from id to answer."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edgestream.edge.cli import main

torch = pytest.importorskip("torch", reason="export needs the extra `export`")

from ..hub_checkpoints import save_hub  # noqa: E402
from ..models.test_smolvlm import PREPROCESSOR, TEMPLATE, TOKENIZER, tiny_smolvlm  # noqa: E402

pytestmark = pytest.mark.slow
SAMPLE = Path(__file__).parents[2] / "assets" / "sample.mp4"


@pytest.fixture(scope="module")
def bundle(tmp_path_factory) -> Path:
    """SmolVLM2's architecture with 64 tokens a frame, in a cache of the default size."""
    work = tmp_path_factory.mktemp("hub")
    model = tiny_smolvlm(image_size=128)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "norm" in name and weight.ndim == 1:
                weight.mul_(1.25)  # what was never trained may not speak
    folder, out = work / "checkpoint", work / "bundle"
    save_hub(folder, model, TOKENIZER, chat_template=TEMPLATE, preprocessor=PREPROCESSOR)
    plain = ["--vision", "fp32", "--llm", "fp32"]
    assert main(["export", str(folder), "--out", str(out), *plain]) == 0
    facts = json.loads((out / "manifest.json").read_text())
    assert (facts["tokens_per_frame"], facts["cache"]["capacity"]) == (64, 512)
    return out


@pytest.mark.parametrize("context", ["auto", "continuous"])
def test_it_watches_with_the_gate_change_and_answers(bundle, tmp_path, context):
    log = tmp_path / "log.jsonl"
    asked = ["--ask", "6:Is it dark?", "--ask", "12:What happened?"]
    chosen = ["--set", f"context.kind={context}", "--jsonl", str(log)]
    assert main(["run", str(SAMPLE), "--bundle", str(bundle), *asked, *chosen]) == 0
    records = [json.loads(line) for line in log.read_text().splitlines()]
    finals = [one for one in records if one["type"] == "final"]
    answers = [one for one in finals if one["cause"] == "question"]
    assert [one["question"] for one in answers] == ["Is it dark?", "What happened?"]
    # What random weights say may be special tokens alone, which are no text.
    assert {one["ended_by"] for one in finals} <= {"model", "limit"} and any(
        one["text"] for one in finals
    )
    assert any(one["cause"] == "event" for one in finals)
    assert {"cut", "dark"} <= {one["event"] for one in records if one["type"] == "opened"}
