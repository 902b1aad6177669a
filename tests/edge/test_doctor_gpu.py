"""doctor on TensorRT, on the ladder of a bundle, and on what never ran on a GPU."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from edgestream.edge import tensorrt_probe
from edgestream.edge.commands.doctor import lines_of
from edgestream.edge.doctor import Report, idle_tensorrt, video_report
from edgestream.edge.ladder_report import climbed
from edgestream.edge.machine import this_machine
from edgestream.edge.provider_probe import PROVEN
from edgestream.edge.tested import NEVER, ROWS, never_on_a_gpu, page, sentence
from edgestream.runtime.engines import trt as trt_backend
from edgestream.runtime.engines import trt_module
from edgestream.runtime.errors import BackendMissing, BundleMissing

from ..bundles import with_outputs, write_small_bundle
from ..scripted_tensorrt import HostDevice, scripted_tensorrt

ROOT = Path(__file__).parents[2]
SCHEMA = ROOT / "runtime" / "schemas" / "result.json"


def faults(report):
    line = json.loads(json.dumps(report.as_json()))
    validator = Draft202012Validator(json.loads(SCHEMA.read_text("utf-8")))
    return [error.message for error in validator.iter_errors(line)]


def report_of(**changes):
    return replace(Report(this_machine(), video_report(), {}, None, ()), **changes)


def test_the_page_is_what_doctor_quotes():
    assert (ROOT / "docs" / "tested.md").read_text("utf-8") == page(), (
        "python -m edgestream.edge.tested > docs/tested.md"
    )
    assert all(row.short for row in ROWS if row.gpu == NEVER)
    text = "\n".join(lines_of(report_of(), None))
    assert never_on_a_gpu() and all(one in text for one in never_on_a_gpu())
    assert report_of().as_json()["never_on_a_gpu"] == list(never_on_a_gpu())
    readme = (ROOT / "README.md").read_text("utf-8")
    assert sentence() in " ".join(readme.split()), "README.md quotes the page"


@pytest.fixture
def scripted(monkeypatch):
    """A TensorRT that adds, and its device."""
    device = HostDevice()
    monkeypatch.setattr(trt_module, "_LOGS", {})
    monkeypatch.setattr(trt_backend, "imported", lambda name: scripted_tensorrt(device))
    monkeypatch.setattr(trt_backend, "first_gpu", lambda: device)
    return device


def test_the_addition_is_compiled_loaded_and_run(scripted):
    assert tensorrt_probe.added("tensorrt") == {"sum": [4.0, 6.0], "refusal": None}
    assert not scripted.blocks and "launch" not in scripted.log
    scripted.is_gone = True
    assert "the GPU is lost" in tensorrt_probe.added("tensorrt")["refusal"]


@pytest.mark.parametrize(
    ("answer", "noise", "verdict"),
    [
        ({"sum": [4.0, 6.0], "refusal": None}, "", PROVEN),
        ({"sum": [4.0, 7.0], "refusal": None}, "", "refused: 1 + 3 and 2 + 4 gave"),
        ({"sum": None, "refusal": "no /home/ada/libnv.so"}, "", "refused: no libnv.so"),
        (None, "the process was ended by signal 11", "refused: the process was ended by signal 11"),
    ],
)
def test_a_verdict_needs_the_right_sum(monkeypatch, answer, noise, verdict):
    monkeypatch.setattr(tensorrt_probe, "answer_of_process", lambda *_, **__: (answer, noise))
    assert tensorrt_probe._verdict("tensorrt").startswith(verdict)


@pytest.mark.medium
def test_a_module_that_is_listed_and_fails_is_refused_with_its_reason(tmp_path):
    """As the wheel of `tensorrt` does where its libraries cannot be had."""
    (tmp_path / "tensorrt").mkdir()
    (tmp_path / "tensorrt" / "__init__.py").write_text("raise ImportError('libnvinfer.so.10')\n")
    code = "from edgestream.edge.tensorrt_probe import tensorrt_report as r; print(r())"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path[1:]])},
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert "'tensorrt': 'refused: tensorrt cannot be imported: libnvinfer.so.10" in done.stdout


def test_a_module_without_a_gpu_is_no_problem_and_with_one_it_is():
    machine, refused = this_machine(), {"tensorrt-rtx": "refused: error 35"}
    assert idle_tensorrt(replace(machine, gpu=None), refused) == ()
    (problem,) = idle_tensorrt(replace(machine, gpu="NVIDIA L4"), refused)
    assert problem.code == "tensorrt-rtx-broken" and "error 35" in problem.message
    assert idle_tensorrt(replace(machine, gpu="NVIDIA L4"), {"tensorrt": PROVEN}) == ()
    report = report_of(tensorrt=refused)
    assert not faults(report)
    assert report.as_json()["machine"]["providers"]["tensorrt-rtx"] == "refused: error 35"
    assert any("error 35" in line for line in lines_of(report, None))


def add_a_gpu_variant(facts):
    for part in facts["parts"]:
        own = part["variants"][0]
        part["variants"].append({**own, "id": "trt", "provider": "tensorrt"})


def test_the_ladder_of_a_bundle_is_shown(tmp_path, monkeypatch):
    def nothing(name):
        raise BackendMissing("tensorrt cannot be imported: it is not here")

    monkeypatch.setattr(trt_backend, "imported", nothing)
    folder = write_small_bundle(tmp_path / "bundle", change_facts=add_a_gpu_variant)
    rungs, without = climbed(folder)
    assert not without and {one.provider for one in rungs.variants.values()} == {"cpu"}
    assert len(rungs.refusals) == 4
    report = report_of(rungs=rungs)
    assert not faults(report)
    text = "\n".join(lines_of(report, None))
    assert "  decoder   proven: cpu on cpu" in text
    assert "  decoder   refused: trt on tensorrt: tensorrt cannot be imported" in text
    assert max(map(len, lines_of(report, 80))) <= 80


@pytest.mark.medium
def test_a_part_that_nothing_runs_is_a_problem(tmp_path):
    def change(calls):
        return [
            with_outputs(call, embeds=call.outputs["embeds"] + 1)
            if "embeds" in call.outputs
            else call
            for call in calls
        ]

    rungs, without = climbed(write_small_bundle(tmp_path / "off", change_calls=change))
    assert list(without) == ["connector"] and "embeds off by 1" in without["connector"]
    assert "connector" not in rungs.variants
    done = subprocess.run(
        [sys.executable, "-m", "edgestream.edge.cli", "doctor", str(tmp_path / "off")],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 4 and "golden call" in done.stdout
    with pytest.raises(BundleMissing):
        climbed(tmp_path / "none")
