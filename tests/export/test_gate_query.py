"""A gate that reads a query, out of a folder of its own: exported, proven, and as in PyTorch."""

from __future__ import annotations

import json
import shutil
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
from edgestream.export.reprove import reproven
from edgestream.models.families import load_checkpoint
from edgestream.models.gate_files import load_gate
from edgestream.models.other_gate import with_gate
from edgestream.quant.schemes import scheme_named
from edgestream.runtime.assembly import attached
from edgestream.runtime.bundle import open_bundle
from edgestream.runtime.engine import backend_for
from edgestream.runtime.engine_pool import EngineRules
from edgestream.runtime.engines.ort import OrtBackend
from edgestream.runtime.errors import CheckpointInvalid, CheckpointMissing, HashMismatch
from edgestream.runtime.file_names import GOLDEN_FILE
from edgestream.runtime.golden import read_golden
from edgestream.runtime.golden_check import check_golden
from edgestream.runtime.prompt_layout import ids_of
from edgestream.runtime.scripted import render
from edgestream.runtime.scripted_stories import SCRIPTS
from edgestream.runtime.speaking import SpeakingRules
from edgestream.runtime.values import Frame

from ..checkpoints import random_live_checkpoint
from ..gate_folders import SMALL, random_gate_folder

pytestmark = pytest.mark.slow

RED, BLUE = "Two objects: red", "Is it dark?"
LIVE = replace(SMALL, dim=48)


def frames_of(count=10, side=112):
    pictures = render(next(iter(SCRIPTS.values())), 4.0, 1, (side, side))
    return [Frame(i, i / 4, pixels) for i, (_, pixels) in zip(range(count), pictures, strict=False)]


def beside(bundle, name):
    return bundle.parent / name


def checkpoint_of(bundle):
    return with_gate(load_checkpoint(beside(bundle, "checkpoint")), beside(bundle, "gate"))


def queries_in(bundle, variant):
    """Whether each golden call of a variant of the gate has a query."""
    calls = read_golden(bundle.path(GOLDEN_FILE))
    asked = [call for call in calls if (call.role, call.variant) == ("gate", variant)]
    return [bool(call.inputs["query"].any()) for call in asked]


def test_the_bundle_says_that_its_gate_is_asked_and_verifies(asked_bundle):
    bundle = open_bundle(asked_bundle)
    assert all(result.passed for result in check_golden(bundle, backend_for))
    assert bundle.manifest.gate.query_dim == bundle.manifest.embeddings.shape[1] == 64
    (variant,) = bundle.manifest.part("gate").variants
    assert [one.name for one in variant.inputs][:5] == [
        "tokens", "summary", "motion", "query", "dt_s",
    ]  # fmt: skip
    assert bundle.manifest.source.extra["gate"] == "gate"
    assert any("trained on that of another one" in one for one in bundle.manifest.extra["notes"])
    assert queries_in(bundle, variant.id) == [False, True]


class Deaf:
    """An engine that is never told the query."""

    def __init__(self, engine):
        self._engine, self.inputs, self.outputs = engine, engine.inputs, engine.outputs

    def run(self, arrays):
        return self._engine.run({**arrays, "query": np.zeros_like(arrays["query"])})

    def __enter__(self):
        return self

    def __exit__(self, *told):
        self._engine.__exit__(*told)


@pytest.mark.parametrize("is_deaf", [False, True])
def test_the_proof_hears_whether_the_query_is_read(asked_bundle, is_deaf):
    checkpoint = checkpoint_of(asked_bundle)
    data = proof_data(checkpoint, calibration_for(checkpoint, None))
    graph = Graph("gate", "cpu-fp32", asked_bundle / "gate.onnx", scheme_named("fp32"))

    def opened(path):
        engine = OrtBackend("cpu").open(path)
        return Deaf(engine) if is_deaf else engine

    proof = prove(checkpoint, [graph], data, 1, lambda part: None, opened)
    passed = {check.name.split()[3]: check.passed for check in proof.checks}
    assert passed["scores"] is not is_deaf and passed["state_summary"]


def test_the_proof_repeats_with_its_gate_alone(asked_bundle, tmp_path):
    bundle, folder = open_bundle(asked_bundle), beside(asked_bundle, "checkpoint")
    assert reproven(bundle, folder, gate=beside(asked_bundle, "gate")).passed
    with pytest.raises(HashMismatch, match="got that of the checkpoint, expected gate"):
        reproven(bundle, folder)
    other = random_gate_folder(tmp_path / "other", seed=4)
    with pytest.raises(HashMismatch, match=r"got other \(.*…\), expected gate \("):
        reproven(bundle, folder, gate=other)


def watched(bundle, query):
    """(the query as a vector, features, readings) of a clip on the device's own stages."""
    rules = SpeakingRules(allow_random_weights=True, gate_query=query)
    with attached(open_bundle(bundle), EngineRules(threads=1), rules) as model:
        features = [model.encoder.encode(frame) for frame in frames_of()]
        readings = [
            model.gate.step(one, None if index == 0 else 0.25) for index, one in enumerate(features)
        ]
        return model.gate.query.vector, features, readings


@pytest.mark.parametrize("query", [RED, BLUE, "Something enters.", ""])
def test_the_vector_on_the_device_is_the_mean_in_pytorch(asked_bundle, query):
    checkpoint = load_checkpoint(beside(asked_bundle, "checkpoint"))
    ids = list(ids_of(checkpoint.tokenizer, query))
    expected = checkpoint.embeddings[ids].mean(0) if ids else torch.zeros(64)
    vector, _, _ = watched(asked_bundle, query)
    assert np.abs(vector[0] - expected.numpy()).max() <= 1e-6


@pytest.mark.parametrize("query", ["", RED])
def test_the_gate_on_the_device_is_the_gate_in_training(asked_bundle, query):
    """Frames through the engines, one by one, against `sequence` on the same frames."""
    gate = checkpoint_of(asked_bundle).gate
    vector, features, readings = watched(asked_bundle, query)
    assert vector.any() == bool(query)
    told = [[one.tokens for one in features], [one.summary for one in features],
            [one.motion.maps for one in features]]  # fmt: skip
    arrays = [torch.from_numpy(np.stack(part)[None]) for part in told]
    dt_s = torch.full((1, len(features)), 0.25)
    whole = gate.sequence(*arrays, dt_s, query=torch.from_numpy(vector.copy()) if query else None)
    scores = torch.sigmoid(whole.logits)[0].numpy()
    for index, reading in enumerate(readings):
        assert np.abs(scores[index] - list(reading.scores.values())).max() <= 1e-4
        summary = whole.state_summary[0, index].numpy()
        assert np.abs(summary - reading.state_summary).max() <= 1e-4


def test_two_queries_tell_two_streams_of_scores(asked_bundle):
    streams = [
        np.array([list(one.scores.values()) for one in watched(asked_bundle, query)[2]])
        for query in (RED, BLUE, "")
    ]
    for left, right in ((0, 1), (0, 2), (1, 2)):
        assert (np.abs(streams[left] - streams[right]).max(axis=1) > 1e-3).all()


@pytest.mark.parametrize("events", [2, 0])
def test_a_gate_beside_a_checkpoint_that_has_none(tmp_path, events, capsys):
    checkpoint = random_live_checkpoint(tmp_path / "checkpoint")
    gate = random_gate_folder(tmp_path / "gate", replace(LIVE, events=events))
    place = tmp_path / "bundle"
    words = ["--gate", str(gate), "--vision", "fp32", "--llm", "fp32", "--capacity", "256"]
    assert main(["export", str(checkpoint), "--out", str(place), *words]) == 0
    bundle = open_bundle(place)
    assert bundle.manifest.gate.query_dim == 64
    assert len(bundle.manifest.gate.events) == events
    assert all(result.passed for result in check_golden(bundle, backend_for))
    _, _, readings = watched(place, "what is it")
    assert len(readings[0].scores) == 1 + events
    again = ["--against", str(checkpoint), "--gate", str(gate)]
    assert main(["verify", str(place), *again]) == 0, capsys.readouterr()


@pytest.mark.parametrize("target", ["cuda", "tensorrt"])
def test_variants_for_a_device_are_asked_too(tmp_path, target):
    checkpoint = random_live_checkpoint(tmp_path / "checkpoint")
    gate = random_gate_folder(tmp_path / "gate", LIVE)
    schemes = Schemes.named("fp32", "int4")
    choice = ExportChoice(schemes, "asked", capacity=256, gate=gate, target=target)
    export_bundle(checkpoint, tmp_path / "bundle", choice, lambda *told: None)
    bundle = open_bundle(tmp_path / "bundle")
    variants = {one.id: one for one in bundle.manifest.part("gate").variants}
    assert len(variants) == 2
    for name, variant in variants.items():
        assert [one.shape for one in variant.inputs if one.name == "query"] == [(1, 64)]
        calls = [
            one
            for one in read_golden(bundle.path(GOLDEN_FILE))
            if (one.role, one.variant) == ("gate", name)
        ]
        assert [call.inputs["query"].any() for call in calls] == [False, True]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"dim": 32}, "gate.safetensors: the gate reads tokens of 32 numbers, expected 64"),
        ({"tokens": 5}, "gate.safetensors: the gate reads frames of 5 tokens, expected 10"),
        ({"dim": 32, "reads": ("summary", "query")}, "reads a summary of 32 numbers, expected 64"),
        ({"query_dim": 48}, "gate.json: architecture.query_dim is 48, expected 64"),
        ({"cells": 5}, "gate.json: the gate reads 6 motion maps of 5 cells a side, expected 6 of"),
        ({"width": 16}, "gate.json: architecture.width is 16, expected 32"),
    ],
)
def test_a_gate_that_does_not_fit_is_refused(asked_bundle, tmp_path, changes, words):
    checkpoint = load_checkpoint(beside(asked_bundle, "checkpoint"))
    folder = random_gate_folder(tmp_path / "gate", replace(SMALL, **changes))
    with pytest.raises(CheckpointInvalid) as fault:
        with_gate(checkpoint, folder)
    assert words in fault.value.message and str(folder) in fault.value.message
    assert fault.value.exit_code == 3


def test_half_a_gate_and_no_gate_are_refused(asked_bundle, tmp_path):
    checkpoint = load_checkpoint(beside(asked_bundle, "checkpoint"))
    folder = random_gate_folder(tmp_path / "gate")
    (folder / "gate.safetensors").unlink()
    with pytest.raises(CheckpointMissing, match=r"gate\.safetensors"):
        with_gate(checkpoint, folder)
    (folder / "gate.json").unlink()
    with pytest.raises(CheckpointMissing, match="there is no gate in"):
        with_gate(checkpoint, folder)


def test_a_checkpoint_whose_own_gate_is_asked_in_other_numbers_is_refused(asked_bundle, tmp_path):
    folder = shutil.copytree(beside(asked_bundle, "checkpoint"), tmp_path / "checkpoint")
    random_gate_folder(folder, replace(SMALL, query_dim=48))
    with pytest.raises(CheckpointInvalid, match=r"gate\.json: architecture\.query_dim is 48"):
        with_gate(load_checkpoint(folder), None)


def test_the_folder_keeps_what_it_is_written_with(tmp_path):
    folder = random_gate_folder(tmp_path / "gate")
    gate, facts = load_gate(folder, SMALL.dim, SMALL.tokens)
    assert gate.shape == SMALL and facts.query_dim == SMALL.query_dim
    assert json.loads((folder / "gate.json").read_text())["architecture"]["query_dim"] == 64
