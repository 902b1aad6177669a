"""An export for TensorRT: variants that wait for a device, proven as far as a CPU can."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import onnx
import pytest

from edgestream.edge.cli import main
from edgestream.export.build import ExportChoice, export_bundle
from edgestream.export.calibration_of_export import calibration_for
from edgestream.export.graphs import Schemes
from edgestream.export.proof_data import proof_data
from edgestream.export.prove import Proof
from edgestream.export.prove_trt import prove_trt
from edgestream.export.trt_variants import TrtGraph
from edgestream.models.families import load_checkpoint
from edgestream.quant.schemes import SCHEMES
from edgestream.runtime.bundle import open_bundle
from edgestream.runtime.engine import backend_for
from edgestream.runtime.engines.ladder import proven_engine
from edgestream.runtime.engines.ort import OrtBackend
from edgestream.runtime.engines.trt_phases import phases_of
from edgestream.runtime.errors import SchemeUnknown
from edgestream.runtime.golden_check import check_golden

from ..checkpoints import random_live_checkpoint

pytestmark = pytest.mark.slow
RTX, CAPACITY = "tensorrt-rtx", 160
ROLES = ("vision", "gate", "connector", "decoder", "evict")


def silent(*words):
    """Nobody listens."""


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """(checkpoint, bundle, report)."""
    place = tmp_path_factory.mktemp("trt")
    folder = random_live_checkpoint(place / "checkpoint", has_gate=True)
    choice = ExportChoice(
        schemes=Schemes.named("int8", "int4-32,head=int8"),
        name="tiny",
        capacity=CAPACITY,
        target=RTX,
    )
    found = export_bundle(folder, place / "bundle", choice, silent)
    return folder, place / "bundle", found.report


@pytest.fixture(scope="module")
def bundle(made):
    return open_bundle(made[1])


def test_every_part_has_a_variant_that_waits_for_its_device(bundle):
    for role in ROLES:
        cpu, trt = bundle.manifest.part(role).variants
        assert (cpu.provider, cpu.proof) == ("cpu", "passed")
        assert (trt.provider, trt.proof) == (RTX, "pending-device")
        assert {one.name for one in trt.inputs} == {one.name for one in cpu.inputs}
        for phase in phases_of(bundle.path(trt.file), trt):
            free = {size for one in trt.inputs for size in one.shape if isinstance(size, str)}
            assert set(phase.sizes) == free, role
    decoder = bundle.manifest.part("decoder").variants[1]
    assert (decoder.io_dtype, decoder.kv_dtype) == ("float32", "float16")
    assert {one.shape for one in decoder.inputs if one.name == "attention_mask"} == {(1, CAPACITY)}
    assert [one.name for one in phases_of(bundle.path(decoder.file), decoder)] == [
        "decode",
        "append",
    ]
    files = {path.name for path in bundle.folder.iterdir()}
    assert not {name for name in files if "float" in name or "exact" in name}


def test_golden_calls_hold_where_the_same_graphs_run(bundle):
    """ONNX Runtime's CPU in the place of TensorRT."""
    results = list(check_golden(bundle, lambda provider: OrtBackend("cpu")))
    assert len(results) == 2 * len(ROLES)
    assert all(one.passed for one in results), [one.failures or one.fault for one in results]
    skipped = [one for one in check_golden(bundle, backend_for) if one.is_skipped]
    assert {one.provider for one in skipped} == {RTX} and len(skipped) == len(ROLES)


def test_without_a_device_the_cpu_goes_on_and_the_reason_is_kept(bundle):
    rung = proven_engine(bundle, "decoder", backend_for, providers=(RTX, "cpu"))
    with rung.engine:
        assert rung.variant.provider == "cpu"
    assert [one.provider for one in rung.refusals] == [RTX] and rung.refusals[0].why


def test_the_proof_has_figures_of_both_types(made):
    found = {check.name: check for check in made[2].checks if "TensorRT" in check.name}
    words = "largest error of logits, for TensorRT in"
    assert found[f"{words} float32"].value <= 1e-3 and found[f"{words} float16"].value <= 2e-2
    assert 0 < found[f"{words} float32"].value < found[f"{words} float16"].value


def test_a_graph_with_one_wrong_scale_is_found(made, bundle, tmp_path):
    checkpoint = load_checkpoint(made[0])
    data = proof_data(checkpoint, calibration_for(checkpoint, None))
    cpu, trt = bundle.manifest.part("decoder").variants
    for name in (cpu.file, trt.file):
        model = onnx.load(str(bundle.path(name)))
        if name == trt.file:
            tensor = next(
                one
                for one in model.graph.initializer
                if one.name.endswith("down_proj.MatMul.weight_scales")
            )
            scales = np.frombuffer(tensor.raw_data, np.float16).copy()
            tensor.raw_data = (scales * np.float16(2)).tobytes()
        onnx.save(model, str(tmp_path / name))
    schemes = Schemes.named("int8", "int4-32,head=int8")
    graph = TrtGraph(
        "decoder", trt.id, tmp_path / trt.file, SCHEMES["int4-32"], provider=RTX,
        exceptions=schemes.exceptions, source=tmp_path / cpu.file,
    )  # fmt: skip
    checks = {one.name: one for one in prove_trt(checkpoint, [graph], data, Proof()).checks}
    assert checks["largest error of logits, for TensorRT in float32"].passed
    assert not checks["largest error of logits, for TensorRT in float16"].passed


def test_a_cache_that_is_rounded_on_the_cpu_is_refused_before_anything_is_written(made, tmp_path):
    schemes = Schemes.named("int8", "int4-32", "fp16")
    choice = ExportChoice(schemes=schemes, name="tiny", target=RTX)
    with pytest.raises(SchemeUnknown, match="cache of float16, expected float32"):
        export_bundle(made[0], tmp_path / "bundle", choice, silent)
    with pytest.raises(SchemeUnknown, match="nf4"):
        nf4 = replace(choice, schemes=Schemes.named("int8", "nf4"))
        export_bundle(made[0], tmp_path / "bundle", nf4, silent)
    assert not list(tmp_path.iterdir())


def test_engines_of_a_target_without_any_are_refused_at_once(made, tmp_path, capsys):
    words = ["export", str(made[0]), "--out", str(tmp_path / "b"), "--engines", str(tmp_path / "e")]
    assert main([*words, "--json"]) == 2
    told = json.loads(capsys.readouterr().out)["error"]
    assert "--engines with --target cpu" in told["message"] and not list(tmp_path.iterdir())
