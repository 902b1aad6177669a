"""Adapters over HTTP: one request's choice is its own, and a name that is none is refused."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from .serving import CLIP, serving, until

openai = pytest.importorskip("openai", reason="the official client is not installed")
pytest.importorskip("peft", reason="exporting needs PyTorch")

CHECKPOINT = Path(__file__).resolve().parents[3] / "assets" / "reference-checkpoint"
ASK = [{"role": "user", "content": "What do you see?"}]


@pytest.fixture(scope="module")
def adapted(tmp_path_factory):
    """The reference assistant with two adapters of random matrices, one of them nearly nothing."""
    from edgestream.export.build import ExportChoice, export_bundle
    from edgestream.export.graphs import Schemes
    from edgestream.models.families import load_checkpoint

    from ...lora_adapters import random_adapter

    folder = tmp_path_factory.mktemp("adapted")
    base = load_checkpoint(CHECKPOINT)
    adapters = {
        "faint": random_adapter(folder / "faint", base, 1, std=1e-4),
        "loud": random_adapter(folder / "loud", base, 2, std=0.3),
    }
    choice = ExportChoice(Schemes.named("int8", "fp32"), "adapted", adapters=adapters)
    export_bundle(CHECKPOINT, folder / "bundle", choice, lambda *told: None)
    return folder / "bundle"


def answered(service, **more):
    with openai.OpenAI(
        base_url=f"{service.url}/v1", api_key="none", max_retries=0, timeout=120
    ) as client:
        told = client.chat.completions.create(model="adapted", messages=ASK, extra_body=more)
    text, turn = told.choices[0].message.content, told.edgestream["turn_id"]

    def adapters():
        records = service.get("/v1/records?types=final&limit=1000")["records"]
        return [one["adapter"] for one in records if one["turn_id"] == turn]

    return text, until(adapters)  # a record comes a moment after whoever asked has it


@pytest.mark.slow
def test_each_request_is_answered_by_the_adapter_that_it_names(adapted):
    with serving(f"door=loop:{CLIP}", "--bundle", str(adapted)) as service:
        base, adapters = answered(service)
        assert adapters == [None]
        loud, adapters = answered(service, adapter="loud")
        assert adapters == ["loud"] and loud != base
        assert answered(service, adapter="base")[1] == [None]
        assert answered(service, adapter="faint")[1] == ["faint"]
        with pytest.raises(openai.BadRequestError, match="base or faint or loud"):
            answered(service, adapter="calm")


@pytest.mark.slow
def test_a_run_takes_the_adapter_of_its_settings(adapted, tmp_path):
    log = tmp_path / "log.jsonl"
    words = [
        sys.executable,
        "-m",
        "edgestream.edge.cli",
        "run",
        str(CLIP),
        "--bundle",
        str(adapted),
    ]
    done = subprocess.run([*words, "--adapter", "loud", "--jsonl", str(log)], capture_output=True)
    assert done.returncode == 0, done.stderr
    records = [json.loads(line) for line in log.read_text().splitlines()]
    assert {one["adapter"] for one in records if one["type"] == "final"} == {"loud"}
    done = subprocess.run([*words, "--adapter", "calm"], capture_output=True, text=True)
    assert done.returncode == 3 and "base, faint, loud" in done.stderr


@pytest.mark.slow
def test_a_camera_whose_cache_holds_every_frame_keeps_its_adapter(adapted):
    sets = ("--set", "context.kind=continuous", "--set", "session.adapter=faint")
    with serving(f"door=loop:{CLIP}", "--bundle", str(adapted), *sets) as service:
        assert answered(service)[1] == ["faint"]
        with pytest.raises(openai.BadRequestError, match="expected faint"):
            answered(service, adapter="loud")
