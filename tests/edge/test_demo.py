"""What `make demo` shows: the committed assistant on the sample clip, held against its truth."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from edgestream.edge.cli import main
from edgestream.evaluation.world_scores import events_in
from edgestream.runtime.bundle import open_bundle

ROOT = Path(__file__).parents[2]
BUNDLE, SAMPLE = ROOT / "assets" / "reference", ROOT / "assets" / "sample.mp4"
SCENE_LIGHT_CAMERA = ("cut", "dark", "bright", "pan", "zoom", "shake", "blur", "fade_in")
ANSWERS = {
    "Which way did the camera pan first?": "Right.",
    "Did the scene change?": "Yes.",
    "What happened last?": "The camera pans up.",
}


@pytest.fixture(scope="module")
def finals(tmp_path_factory):
    path = tmp_path_factory.mktemp("demo") / "log.jsonl"
    asked = [part for question in ANSWERS for part in ("--ask", f"36.5:{question}")]
    assert main(["run", str(SAMPLE), "--bundle", str(BUNDLE), *asked, "--jsonl", str(path)]) == 0
    records = [json.loads(line) for line in path.read_text().splitlines()]
    return [record for record in records if record["type"] == "final"]


@pytest.mark.medium
def test_what_it_says_of_scene_light_and_camera_is_true(finals):
    truth = json.loads((ROOT / "assets" / "sample.truth.json").read_text())["events"]
    want = [
        (event["from_s"], event["event"], event["attributes"].get("direction"))
        for event in truth
        if event["event"] in SCENE_LIGHT_CAMERA and event["from_s"] < 36
    ]
    told = [
        (final["time_s"], event.kind, event.direction)
        for final in finals
        if final["cause"] == "event" and final["time_s"] < 36
        for event in events_in(0, final["text"])
        if event.kind in SCENE_LIGHT_CAMERA
    ]
    assert [one[1:] for one in told] == [one[1:] for one in want]
    for (said_s, *_), (true_s, *_) in zip(told, want, strict=True):
        assert abs(said_s - true_s) <= 0.25 + 0.01


def test_it_sees_the_picture_fade_to_black(finals):
    (fade,) = [final for final in finals if final["time_s"] > 37 and final["cause"] == "event"]
    assert fade["text"] == "The picture fades to black."


def test_its_answers_about_the_past_are_right_and_from_memory(finals):
    answers = {final["question"]: final for final in finals if final["cause"] == "question"}
    assert {question: final["text"] for question, final in answers.items()} == ANSWERS
    assert all(final["context"] == "recall" and final["used"] for final in answers.values())


def test_the_makefile_asks_what_is_checked_here():
    recipe = (ROOT / "Makefile").read_text()
    assert re.findall(r'--ask "36\.5:([^"]+)"', recipe) == list(ANSWERS)


def test_its_bundle_is_whole_and_proven():
    bundle = open_bundle(BUNDLE)
    assert bundle.manifest.parity["passed"] and bundle.manifest.source.licence == "Apache-2.0"


@pytest.mark.slow
def test_the_demo_needs_no_upstream(tmp_path):
    """Without PyTorch, transformers and onnx, as on a device."""
    code = (
        "import sys\n"
        "for name in ('torch', 'transformers', 'onnx'): sys.modules[name] = None\n"
        "from edgestream.edge.cli import main\n"
        f"sys.exit(main(['run', {str(SAMPLE)!r}, '--bundle', {str(BUNDLE)!r}]))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "The camera pans right." in done.stdout


def sha256_as_measured():
    """Of the bundle with its int8 codes as int8 again, as it was when it was measured."""
    onnx = pytest.importorskip("onnx", reason="turning codes back needs onnx")
    from edgestream.export.unsigned_weights import keep_signed

    manifest = (BUNDLE / "manifest.json").read_text()
    grown = 0
    for path in (BUNDLE / "vision.onnx", BUNDLE / "connector.onnx"):
        new = path.read_bytes()
        old = keep_signed(onnx.load_from_string(new)).SerializeToString()
        for now, then in ((str(len(new)), str(len(old))), (sha256(new), sha256(old))):
            assert manifest.count(now) == 1
            manifest = manifest.replace(now, then)
        grown += len(new) - len(old)
    weights = json.loads(manifest)["memory"]["weights_bytes"]
    return sha256(manifest.replace(str(weights), str(weights - grown)).encode())


def sha256(content):
    return hashlib.sha256(content).hexdigest()


@pytest.mark.parametrize("name", ["eval", "footage"])
def test_the_measured_figures_are_of_this_bundle(name):
    line = json.loads((ROOT / "assets" / f"reference.{name}.json").read_text())
    assert line["bundle_sha256"] == sha256_as_measured()


def test_the_page_shows_the_measured_figures():
    scope = {"__name__": "page", "__file__": str(ROOT / "docs" / "reference_page.py")}
    exec((ROOT / "docs" / "reference_page.py").read_text(), scope)
    lines = {name: json.loads(path.read_text()) for name, path in scope["LINES"].items()}
    assert scope["PAGE"].read_text() == scope["page"](lines)
