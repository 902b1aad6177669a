"""A small reference assistant from its checkpoint to a bundle at work."""

from __future__ import annotations

import json

import numpy as np
import pytest

from edgestream.edge.cli import main
from edgestream.export.build import ExportChoice, export_bundle
from edgestream.export.graphs import Schemes
from edgestream.export.reprove import reproven
from edgestream.models.cognition_gate import CognitionGate
from edgestream.models.families import load_checkpoint
from edgestream.runtime.assembly import attached
from edgestream.runtime.bundle import open_bundle
from edgestream.runtime.engine import backend_for
from edgestream.runtime.engine_pool import EngineRules
from edgestream.runtime.errors import EngineUnusable
from edgestream.runtime.gate_learned import GateBeside, LearnedGate
from edgestream.runtime.golden_check import check_golden
from edgestream.runtime.scripted import render
from edgestream.runtime.scripted_stories import SCRIPTS
from edgestream.runtime.speaking import SpeakingRules
from edgestream.runtime.values import Frame, GateDecision

from ..reference_checkpoints import ATTRIBUTES, EVENTS, QUESTIONS, small_reference_checkpoint
from ..video_files import write_video

pytestmark = pytest.mark.slow

SPEAKS = SpeakingRules(allow_random_weights=True)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """(checkpoint, bundle)."""
    place = tmp_path_factory.mktemp("reference")
    checkpoint = small_reference_checkpoint(place / "checkpoint", looks_trained=True)
    choice = ExportChoice(schemes=Schemes.named("int8", "int4"), name="reference", capacity=256)
    export_bundle(checkpoint, place / "bundle", choice, lambda stage, part: None)
    return checkpoint, place / "bundle"


def frames_of(count=12, side=112):
    script = next(iter(SCRIPTS.values()))
    pictures = render(script, 4.0, 1, (side, side))
    return [Frame(i, i / 4, pixels) for i, (_, pixels) in zip(range(count), pictures, strict=False)]


def test_the_bundle_verifies_and_says_what_it_reads(made):
    bundle = open_bundle(made[1])
    results = list(check_golden(bundle, backend_for))
    assert all(result.passed for result in results)
    assert [result.role for result in results] == [
        "vision", "gate", "connector", "decoder", "evict",
    ]  # fmt: skip
    manifest = bundle.manifest
    assert manifest.input.channels == 9 and manifest.input.motion.maps[4] == "d_luma"
    assert (manifest.memory.topk, manifest.memory.clip_len) == (16, 2)
    assert manifest.gate.events == EVENTS and dict(manifest.gate.attributes) == ATTRIBUTES
    names = {part.role: [spec.name for spec in part.variants[0].inputs] for part in manifest.parts}
    assert names["gate"] == ["tokens", "summary", "motion", "dt_s", "conv", "ssm"]
    assert names["connector"] == ["tokens", "state_summary"]


def test_the_proof_repeats_against_its_checkpoint(made):
    report = reproven(open_bundle(made[1]), made[0])
    checks = [check.name for check in report.checks if check.part == "gate"]
    assert report.passed and "largest error of scores after 32 steps" in checks
    assert "largest error of attribute_colour after 32 steps" in checks


def test_the_gate_on_the_device_is_the_gate_in_training(made):
    """Frames through the engines, one by one, against `sequence` on the same tokens and motion."""
    import torch

    gate: CognitionGate = load_checkpoint(made[0]).gate
    with attached(open_bundle(made[1]), EngineRules(threads=1), SPEAKS) as at_work:
        features = [at_work.encoder.encode(frame) for frame in frames_of()]
        readings = [
            at_work.gate.step(one, None if index == 0 else 0.25)
            for index, one in enumerate(features)
        ]
        told = [[one.tokens for one in features], [one.summary for one in features],
                [one.motion.maps for one in features]]  # fmt: skip
        arrays = [torch.from_numpy(np.stack(part)[None]) for part in told]
        whole = gate.sequence(*arrays, torch.full((1, len(features)), 0.25))
        scores = torch.sigmoid(whole.logits)[0].numpy()
        for index, reading in enumerate(readings):
            assert np.abs(scores[index] - list(reading.scores.values())).max() <= 1e-4
            summary = whole.state_summary[0, index].numpy()
            assert np.abs(summary - reading.state_summary).max() <= 1e-4
        with pytest.raises(EngineUnusable, match="state_summary"):
            at_work.connector.step(features[0], GateDecision(0.0))
        embeds = at_work.connector.step(features[0], at_work.quiet(features[0]))
        assert embeds.shape == (10, 64)


def test_its_gate_is_the_default_and_another_runs_beside_it(made):
    from edgestream.edge.settings_tables import Settings
    from edgestream.edge.staging import staged_run

    settings = Settings()
    for kind, expected in (
        ("auto", LearnedGate),
        ("learned", LearnedGate),
        ("every:1", GateBeside),
    ):
        gate = settings.gate.model_copy(update={"kind": kind})
        chosen = settings.model_copy(update={"gate": gate})
        with staged_run(made[1], chosen, tuple) as staged:
            assert isinstance(staged.stages.gate, expected), kind


def records_of(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.parametrize(
    "extra", [["--gate", "every:1"], ["--set", "gate.open_above={speak=0.01}"]]
)
def test_it_runs_speaks_and_answers(made, tmp_path, extra, capsys):
    video = write_video(
        tmp_path / "clip.mkv", [frame.pixels for frame in frames_of(16)], fps=4,
        codec="ffv1", pix_fmt="bgr0",
    )  # fmt: skip
    out = tmp_path / "records.jsonl"
    asked = f"2:{QUESTIONS[0]}"
    state = ["--state", str(tmp_path / "state")]
    arguments = ["run", str(video), "--bundle", str(made[1]), "--ask", asked, "--jsonl", str(out)]
    for _ in range(2):  # the second run goes on from the state of the first
        assert main([*arguments, *extra, *state]) == 0, capsys.readouterr()
    records = records_of(out)
    finals = [one for one in records if one["type"] == "final"]
    assert {one["cause"] for one in finals} == {"question", "event"}
    assert [one for one in records if one["type"] == "opened"]
    assert not [one for one in records if one["type"] == "warning" and "gate" in one["code"]]


def test_a_bundle_without_a_gate_says_so(random_bundle, made, tmp_path, capsys):
    video = write_video(tmp_path / "clip.mkv", [frame.pixels for frame in frames_of(4)], fps=4,
                        codec="ffv1", pix_fmt="bgr0")  # fmt: skip
    code = main(["run", str(video), "--bundle", str(random_bundle), "--gate", "learned"])
    told = capsys.readouterr().err
    assert code == 2 and "has no gate of its own" in told
    assert main(["inspect", str(made[1])]) == 0
    assert "learned: cut, dark, pan, enter" in capsys.readouterr().out
