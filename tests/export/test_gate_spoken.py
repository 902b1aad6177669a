"""A gate that hears when it last spoke, beside a checkpoint without a gate: exported and proven."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from edgestream.edge.cli import main
from edgestream.export.build import ExportChoice, export_bundle
from edgestream.export.calibration_of_export import calibration_for
from edgestream.export.graphs import Graph, Schemes
from edgestream.export.proof_data import proof_data
from edgestream.export.prove import prove
from edgestream.models.families import load_checkpoint
from edgestream.models.other_gate import with_gate
from edgestream.quant.schemes import scheme_named
from edgestream.runtime.assembly import attached
from edgestream.runtime.bundle import open_bundle
from edgestream.runtime.engine import backend_for
from edgestream.runtime.engine_pool import EngineRules
from edgestream.runtime.engines.ort import OrtBackend
from edgestream.runtime.file_names import GOLDEN_FILE
from edgestream.runtime.gate_learned import LearnedGate
from edgestream.runtime.golden import read_golden
from edgestream.runtime.golden_check import check_golden
from edgestream.runtime.last_spoke import spoken_along, spoken_of
from edgestream.runtime.learned_phases import LearnedRules
from edgestream.runtime.phases import PhaseRules
from edgestream.runtime.speaking import SpeakingRules

from ..checkpoints import random_live_checkpoint
from ..gate_folders import random_gate_folder
from .test_gate_query import LIVE, frames_of

pytestmark = pytest.mark.slow

HEARS = replace(LIVE, reads=("tokens", "summary", "motion", "spoken"), query_dim=0)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    """A bundle of random weights, for CUDA too; checkpoint and gate lie beside it."""
    folder = tmp_path_factory.mktemp("hears")
    checkpoint = random_live_checkpoint(folder / "checkpoint")
    gate = random_gate_folder(folder / "gate", HEARS)
    choice = ExportChoice(Schemes.named("fp32", "int8"), "hears", capacity=256, gate=gate,
                          target="cuda")  # fmt: skip
    export_bundle(checkpoint, folder / "hears", choice, lambda *told: None)
    return folder / "hears"


def checkpoint_of(bundle):
    return with_gate(load_checkpoint(bundle.parent / "checkpoint"), bundle.parent / "gate")


def test_the_bundle_says_that_its_gate_hears_it_and_verifies(bundle, capsys):
    opened = open_bundle(bundle)
    checked = [one for one in check_golden(opened, backend_for) if not one.is_skipped]
    assert all(one.passed for one in checked) and "gate" in {one.role for one in checked}
    assert opened.manifest.gate.reads_spoken and opened.manifest.gate.query_dim is None
    variants = opened.manifest.part("gate").variants
    assert len(variants) == 2
    for variant in variants:
        names = [one.name for one in variant.inputs]
        assert names[:5] == ["tokens", "summary", "motion", "spoken", "dt_s"]
        calls = [one.inputs["spoken"].item() for one in read_golden(opened.path(GOLDEN_FILE))
                 if (one.role, one.variant) == ("gate", variant.id)]  # fmt: skip
        fps = opened.manifest.input.fps
        assert calls == [1.0, pytest.approx(float(spoken_of(31 / fps)), abs=1e-6)]
    assert main(["inspect", str(bundle)]) == 0
    assert "hears when it last spoke" in capsys.readouterr().out
    again = ["--against", str(bundle.parent / "checkpoint"), "--gate", str(bundle.parent / "gate")]
    assert main(["verify", str(bundle), *again]) == 0, capsys.readouterr()


class Deaf:
    """An engine that is never told that the gate spoke."""

    def __init__(self, engine):
        self._engine, self.inputs, self.outputs = engine, engine.inputs, engine.outputs

    def run(self, arrays):
        return self._engine.run({**arrays, "spoken": np.ones_like(arrays["spoken"])})

    def __enter__(self):
        return self

    def __exit__(self, *told):
        self._engine.__exit__(*told)


@pytest.mark.parametrize("is_deaf", [False, True])
def test_the_proof_hears_whether_it_is_read(bundle, is_deaf):
    checkpoint = checkpoint_of(bundle)
    data = proof_data(checkpoint, calibration_for(checkpoint, None))
    graph = Graph("gate", "cpu-fp32", bundle / "gate.onnx", scheme_named("fp32"))

    def opened(path):
        engine = OrtBackend("cpu").open(path)
        return Deaf(engine) if is_deaf else engine

    proof = prove(checkpoint, [graph], data, 1, lambda part: None, opened)
    passed = {check.name.split()[3]: check.passed for check in proof.checks}
    assert passed["scores"] is not is_deaf and passed["state_summary"]


def test_the_gate_on_the_device_is_the_gate_in_training(bundle):
    """Its own decisions come back to it, and `sequence` over the same moments says the same."""
    rules = SpeakingRules(allow_random_weights=True)
    with attached(open_bundle(bundle), EngineRules(threads=1), rules) as model:
        features = [model.encoder.encode(frame) for frame in frames_of(24)]
        middle = np.median([model.gate.step(one, 0.25).scores["speak"] for one in features])
        gate = LearnedGate(model.gate, LearnedRules({}, PhaseRules(float(middle))))
        gate.reset()
        decisions = [gate.step(one, 0.25) for one in features]
    speaks = np.array([one.speaks for one in decisions])
    assert speaks.sum() > 1
    told = [[one.tokens for one in features], [one.summary for one in features],
            [one.motion.maps for one in features]]  # fmt: skip
    arrays = [torch.from_numpy(np.stack(part)[None]) for part in told]
    spoken = torch.from_numpy(spoken_along([one.time_s for one in features], speaks))[None]
    whole = checkpoint_of(bundle).gate.sequence(*arrays, torch.full((1, 24), 0.25), spoken=spoken)
    scores = torch.sigmoid(whole.logits)[0].numpy()
    for index, decision in enumerate(decisions):
        assert np.abs(scores[index] - list(decision.scores.values())).max() <= 1e-4
