"""Export as a whole: what it writes, what it refuses, and that it repeats itself."""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from edgestream.calibration.dataset import make_calibration_set
from edgestream.calibration.rendered import default_calibration
from edgestream.edge.cli import main
from edgestream.export.build import ExportChoice, export_bundle
from edgestream.export.calibration_of_export import calibration_for
from edgestream.export.graphs import Schemes, write_graphs
from edgestream.export.proof_data import proof_data
from edgestream.export.prove import prove
from edgestream.export.reprove import reproven
from edgestream.models.families import load_checkpoint
from edgestream.runtime.bundle import open_bundle
from edgestream.runtime.engine import backend_for
from edgestream.runtime.errors import (
    BundleError,
    CalibrationConstant,
    CalibrationInvalid,
    CalibrationNoise,
    CalibrationTooSmall,
    HashMismatch,
    ParityFailed,
    PromptInvalid,
    SchemeUnknown,
)
from edgestream.runtime.golden_check import check_golden

from ..checkpoints import random_live_checkpoint

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def checkpoint_folder(tmp_path_factory):
    return random_live_checkpoint(tmp_path_factory.mktemp("checkpoint") / "tiny", has_gate=True)


def choice(vision="int8", llm="int4", **more):
    return ExportChoice(schemes=Schemes.named(vision, llm), name="tiny", **more)


def silent(*words):
    """Nobody listens."""


@pytest.fixture(scope="module")
def bundle_folder(checkpoint_folder, tmp_path_factory):
    target = tmp_path_factory.mktemp("bundles") / "tiny"
    export_bundle(checkpoint_folder, target, choice(), silent)
    return target


@pytest.mark.parametrize("schemes", [("fp32", "fp32"), ("int8", "int8"), ("int8", "int4-32")])
def test_a_bundle_opens_verifies_and_says_how_it_was_made(checkpoint_folder, tmp_path, schemes):
    told: list[tuple[str, str]] = []
    made = export_bundle(
        checkpoint_folder,
        tmp_path / "tiny",
        choice(*schemes),
        lambda stage, part: told.append((stage, part)),
    )
    bundle = open_bundle(tmp_path / "tiny")
    results = list(check_golden(bundle, backend_for))
    assert made.report.passed and all(result.passed for result in results)
    assert {result.role for result in results} == {
        "vision", "gate", "connector", "decoder", "evict",
    }  # fmt: skip
    assert ("writing", "decoder") in told and ("proving", "decoder") in told
    page = (tmp_path / "tiny" / "report.html").read_text()
    assert "Passed." in page and "http" not in page.replace("http-equiv", "")
    assert "weights look random" in (tmp_path / "tiny" / "MODEL_CARD.md").read_text()
    assert not [name for name in bundle.manifest.files if "work" in name or "float" in name]


def test_the_same_inputs_give_the_same_bytes_but_for_the_date(
    checkpoint_folder, bundle_folder, tmp_path
):
    export_bundle(checkpoint_folder, tmp_path / "tiny", choice(), silent)
    for file in sorted(bundle_folder.iterdir()):
        again = (tmp_path / "tiny" / file.name).read_bytes()
        if file.name == "manifest.json":
            manifests = [json.loads(text) for text in (file.read_bytes(), again)]
            assert manifests[0].pop("created") <= manifests[1].pop("created")
            assert manifests[0] == manifests[1]
        elif file.name != "manifest.json.sha256":
            assert file.read_bytes() == again, file.name


def test_one_flipped_byte_in_any_file_is_refused(bundle_folder, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(bundle_folder, copy)
    for file in sorted(copy.iterdir()):
        content = bytearray(file.read_bytes())
        content[len(content) // 2] ^= 1
        file.write_bytes(content)
        with pytest.raises(BundleError):
            open_bundle(copy)
        content[len(content) // 2] ^= 1
        file.write_bytes(content)
    open_bundle(copy)


def written(checkpoint_folder, folder, schemes=("int8", "int4")):
    """Graphs on disk, before they are proven."""
    checkpoint = load_checkpoint(checkpoint_folder)
    folder.mkdir()
    graphs = write_graphs(
        checkpoint,
        Schemes.named(*schemes),
        checkpoint_folder / "tokenizer.json",
        folder,
        silent,
    )
    data = proof_data(checkpoint, calibration_for(checkpoint, None))
    return checkpoint, {graph.role: graph for graph in graphs}, data


def change_tensor(path: Path, name_part: str, change) -> str:
    """Change one stored tensor of a graph in place; its name."""
    model = onnx.load(str(path))
    tensor = next(one for one in model.graph.initializer if name_part in one.name)
    array = numpy_helper.to_array(tensor).copy()
    change(array)
    tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
    data = path.name + ".data"
    external = {"save_as_external_data": True, "location": data, "size_threshold": 1024}
    if (path.parent / data).exists():
        (path.parent / data).unlink()
        onnx.save(model, str(path), **external)
    else:
        onnx.save(model, str(path))
    return tensor.name


def one_scale(array):
    array.flat[3] *= np.float32(1.02)


def two_rows(array):
    array[[0, 1]] = array[[1, 0]]


@pytest.mark.parametrize(
    ("role", "tensor", "change"),
    [
        ("decoder", "layers.1.mlp.down_proj.MatMul.weight_scales", one_scale),
        ("decoder", "layers.0.attn.qkv_proj.MatMul.weight_Q4", two_rows),
        ("decoder", "lm_head.MatMul.weight_scales", one_scale),
        ("vision", "_scale", one_scale),
        ("connector", "_quantized", two_rows),
    ],
)
def test_a_changed_number_in_a_graph_is_found_and_named(
    checkpoint_folder, tmp_path, role, tensor, change
):
    checkpoint, graphs, data = written(checkpoint_folder, tmp_path / "graphs")
    change_tensor(graphs[role].path, tensor, change)
    proof = prove(checkpoint, [graphs[role]], data, 1, silent)
    failed = [check for check in proof.checks if not check.passed and not check.is_advisory]
    assert failed and all(check.part == role and check.gate == "engine" for check in failed)
    assert any(check.name.startswith("stored") for check in failed)


def test_a_swapped_row_of_a_float_graph_is_found_by_running_it(checkpoint_folder, tmp_path):
    checkpoint, graphs, data = written(checkpoint_folder, tmp_path / "g", ("fp32", "fp32"))
    change_tensor(graphs["decoder"].path, "layers.1.mlp.down_proj.MatMul.weight", two_rows)
    proof = prove(checkpoint, [graphs["decoder"]], data, 1, silent)
    failed = [check for check in proof.checks if not check.passed and not check.is_advisory]
    assert "largest error of logits" in [check.name for check in failed]


def spoilt(checkpoint_folder, folder, name_part):
    """A copy of a checkpoint with one weight that four bits cannot hold: a few huge numbers."""
    from safetensors.numpy import load_file, save_file

    shutil.copytree(checkpoint_folder, folder)
    file = folder / "model.safetensors"
    tensors = {name: array.copy() for name, array in load_file(file).items()}
    name = next(name for name in tensors if name_part in name)
    tensors[name][:, ::64] *= 12
    save_file(tensors, file)
    return name


def test_a_plan_that_ruins_a_layer_is_refused_by_name(checkpoint_folder, tmp_path):
    spoilt(checkpoint_folder, tmp_path / "spoilt", "layers.1.mlp.up_proj")
    with pytest.raises(ParityFailed) as caught:
        export_bundle(
            tmp_path / "spoilt",
            tmp_path / "bundle",
            choice(report=tmp_path / "report.html"),
            silent,
        )
    assert "gate snr_db" in caught.value.message and "layers.1.mlp.up_proj" in caught.value.message
    assert caught.value.exit_code == 6 and not (tmp_path / "bundle").exists()
    assert "Failed: no bundle was written." in (tmp_path / "report.html").read_text()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["report.html", "spoilt"]


def test_a_wrong_prompt_token_is_refused(checkpoint_folder, tmp_path, monkeypatch):
    checkpoint = load_checkpoint(checkpoint_folder)
    ids = dict(checkpoint.layout.text_ids)
    text = next(text for text, row in ids.items() if len(row) > 1)
    ids[text] = (*ids[text][:-1], ids[text][-1] - 1)
    wrong = replace(checkpoint, layout=replace(checkpoint.layout, text_ids=ids))
    monkeypatch.setattr("edgestream.export.build.load_checkpoint", lambda *given: wrong)
    with pytest.raises(PromptInvalid, match=r"prompt\.segments"):
        export_bundle(checkpoint_folder, tmp_path / "bundle", choice(), silent)
    assert not (tmp_path / "bundle").exists()


def calibration_set(folder, frames):
    """A set written around the checks of its maker."""
    default_calibration(folder, (64, 64), ["What is there?"])
    np.savez(folder / "frames.npz", frames=frames, times_s=np.arange(len(frames)) / 4)
    facts = json.loads((folder / "set.json").read_text())
    content = (folder / "frames.npz").read_bytes() + (folder / "prompts.jsonl").read_bytes()
    facts.update(count=len(frames), sha256=hashlib.sha256(content).hexdigest())
    (folder / "set.json").write_text(json.dumps(facts))
    return folder


@pytest.mark.parametrize(
    ("frames", "fault"),
    [
        (np.zeros((0, 64, 64, 3), np.uint8), CalibrationInvalid),
        (np.zeros((8, 64, 64, 3), np.uint8), CalibrationTooSmall),
        (np.full((32, 64, 64, 3), 90, np.uint8), CalibrationConstant),
        (
            np.random.default_rng(0).integers(0, 255, (32, 64, 64, 3), dtype=np.uint8)
            // np.linspace(1, 4, 32).astype(np.uint8)[:, None, None, None],
            CalibrationNoise,
        ),
    ],
)
def test_a_calibration_set_of_no_use_is_refused(checkpoint_folder, tmp_path, frames, fault):
    folder = calibration_set(tmp_path / "set", frames)
    with pytest.raises(fault) as caught:
        export_bundle(checkpoint_folder, tmp_path / "bundle", choice(calibration=folder), silent)
    assert caught.value.exit_code == 6 and not (tmp_path / "bundle").exists()


def test_frames_of_any_size_are_fitted(checkpoint_folder, tmp_path):
    big = default_calibration(tmp_path / "big", (120, 160), ["What is there?"], count=32)
    make_calibration_set(
        tmp_path / "set", big.frames, big.times_s, big.prompts, source="x", licences=["CC0-1.0"]
    )
    checkpoint = load_checkpoint(checkpoint_folder)
    fitted = calibration_for(checkpoint, tmp_path / "set")
    assert fitted.frames.shape == (32, 64, 64, 3)
    assert not fitted.frames[:, :8].any(), "letterbox: black above"


def test_the_proof_repeats_against_its_checkpoint_and_no_other(
    checkpoint_folder, bundle_folder, tmp_path
):
    report = reproven(open_bundle(bundle_folder), checkpoint_folder)
    assert report.passed and len(report.checks) > 50
    spoilt(checkpoint_folder, tmp_path / "other", "layers.1.mlp.up_proj")
    with pytest.raises(HashMismatch, match="was made of"):
        reproven(open_bundle(bundle_folder), tmp_path / "other")


def test_a_block_wider_than_a_row_is_refused_before_anything_is_written(
    checkpoint_folder, tmp_path
):
    with pytest.raises(SchemeUnknown, match=r"decoder: model\.layers"):
        export_bundle(checkpoint_folder, tmp_path / "bundle", choice(llm="int4-128"), silent)
    assert not list(tmp_path.iterdir())


def test_the_command_tells_people_and_programs(checkpoint_folder, tmp_path, capsys):
    out = tmp_path / "bundle"
    assert main(["export", str(checkpoint_folder), "--out", str(out), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["parity"]["passed"] and told["bytes"] > 0 and told["peak_rss_bytes"] > 0
    assert main(["export", str(checkpoint_folder), "--out", str(out)]) == 8
    assert main(["export", str(tmp_path / "none"), "--out", str(tmp_path / "b")]) == 3
    assert main(["export", str(checkpoint_folder), "--out", str(out), "--llm", "int3"]) == 2
    assert main(["export", str(checkpoint_folder), "--out", str(out), "--target", "toaster"]) == 2
    assert main(["verify", str(out), "--against", str(checkpoint_folder)]) == 0
    assert "checks against" in capsys.readouterr().out
