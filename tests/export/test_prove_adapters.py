"""Golden calls of adapters: each is proven on the device, and another one in its place is found."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgestream.edge.cli import main
from edgestream.export.adapter_inputs import PackedAdapter, write_adapter
from edgestream.export.build import ExportChoice, export_bundle
from edgestream.export.graphs import Schemes
from edgestream.export.prove_adapters import farthest
from edgestream.models.families import load_checkpoint
from edgestream.runtime.adapters import adapters_of
from edgestream.runtime.bundle import Bundle, hash_line, open_bundle, sha256_of_file
from edgestream.runtime.engine import backend_for
from edgestream.runtime.engines.ladder import proven_engine
from edgestream.runtime.errors import EngineUnusable
from edgestream.runtime.golden import golden_of, write_golden
from edgestream.runtime.golden_check import check_golden

from ..checkpoints import random_live_checkpoint
from ..lora_adapters import random_adapter


@pytest.fixture(scope="module")
def bundle(tmp_path_factory) -> Bundle:
    """A small decoder in int4 with two adapters that change little."""
    folder = tmp_path_factory.mktemp("proven")
    source = random_live_checkpoint(folder / "checkpoint", seed=3)
    base = load_checkpoint(source)
    adapters = {name: random_adapter(folder / name, base, seed, 0.1)
                for seed, name in enumerate(("calm", "brief"))}  # fmt: skip
    choice = ExportChoice(schemes=Schemes.named("fp32", "int4-32"), name="two", capacity=256,
                          adapters=adapters)  # fmt: skip
    export_bundle(source, folder / "bundle", choice, lambda *told: None)
    return open_bundle(folder / "bundle")


def changed(bundle: Bundle, folder: Path, change: Callable[[Path], object]) -> Path:
    """A copy in which somebody changed files, and wrote right hashes for them."""
    shutil.copytree(bundle.folder, folder)
    change(folder)
    manifest = folder / "manifest.json"
    told = json.loads(manifest.read_text())
    for name, facts in told["files"].items():
        path = folder / name
        facts.update(sha256=sha256_of_file(path), bytes=path.stat().st_size)
    manifest.write_text(json.dumps(told))
    (folder / "manifest.json.sha256").write_bytes(hash_line(sha256_of_file(manifest)))
    return folder


def swapped(folder: Path) -> None:
    calm, brief = (folder / f"adapters/{name}.onnx_adapter" for name in ("calm", "brief"))
    calm.rename(calm.with_suffix(".kept"))
    brief.rename(calm)
    calm.with_suffix(".kept").rename(brief)


def damaged(folder: Path) -> None:
    """The first layer of one adapter is lost."""
    tensors: dict[str, Any] = dict(adapters_of(open_bundle(folder)).of("calm"))
    for name in list(tensors)[:2]:
        tensors[name] = np.zeros_like(tensors[name])
    write_adapter(PackedAdapter("calm", tensors, "0" * 64, 4), folder)


@pytest.mark.slow
def test_each_adapter_has_a_call_that_passes(bundle, capsys):
    calls = [call for call in golden_of(bundle.folder) if call.adapter is not None]
    assert [call.adapter for call in calls] == ["calm", "brief"]
    results = list(check_golden(bundle, backend_for))
    assert all(one.passed for one in results)
    assert [one.adapter for one in results if one.role == "decoder"] == [None, "calm", "brief"]
    assert main(["verify", str(bundle.folder)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if line.startswith("adapter     passed: brief on cpu-int4-32,")]
    assert main(["verify", str(bundle.folder), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [one.get("adapter") for one in told["variants"] if one["role"] == "decoder"] == [
        *(None, "calm", "brief")
    ]
    assert len({one["name"] for one in told["metrics"]}) == len(told["metrics"])


@pytest.mark.slow
@pytest.mark.parametrize(("change", "named"), [(swapped, {"calm", "brief"}), (damaged, {"calm"})])
def test_another_file_in_its_place_is_found_though_all_hashes_are_right(
    bundle, tmp_path, capsys, change, named
):
    folder = changed(bundle, tmp_path / "changed", change)
    found = list(check_golden(open_bundle(folder), backend_for))
    assert {one.adapter for one in found if not one.passed} == named
    assert main(["verify", str(folder)]) == 6
    assert "failed: calm on cpu-int4-32" in capsys.readouterr().out
    with pytest.raises(EngineUnusable, match="with calm"):  # nor does a run begin with it
        proven_engine(open_bundle(folder), "decoder", backend_for, providers=("cpu",))


@pytest.mark.slow
def test_a_bundle_of_before_runs_but_its_adapters_are_not_proven(bundle, tmp_path, capsys):
    def older(folder: Path) -> None:
        plain = [call for call in golden_of(folder) if call.adapter is None]
        write_golden(folder / "golden.npz", plain)

    folder = changed(bundle, tmp_path / "older", older)
    assert main(["verify", str(folder)]) == 6
    assert "no golden call" in capsys.readouterr().out
    rung = proven_engine(open_bundle(folder), "decoder", backend_for, providers=("cpu",))
    with rung.engine:
        assert rung.variant.id == "cpu-int4-32"


@pytest.mark.slow
def test_the_export_says_how_far_each_is_from_any_other(bundle):
    gates = json.loads((bundle.folder / "parity.json").read_text())["gates"]
    apart = [one for one in gates["engine"]["checks"] if "from those of any other" in one["name"]]
    assert len(apart) == 2 and all(one["advisory"] and one["value"] > 0 for one in apart)
    bounds = [call.tolerances["logits"].min_cosine for call in golden_of(bundle.folder)
              if call.adapter]  # fmt: skip
    for one, bound in zip(apart, bounds, strict=True):
        assert bound == pytest.approx(1 - min(1e-2, max(1e-3, one["value"] / 2)))


def test_the_farthest_row_is_that_whose_nearest_other_is_far():
    own = np.eye(3, dtype=np.float32)
    near = own + np.float32([[0, 0.1, 0], [0, 0, 0.5], [0, 0, 0]])
    at, apart = farthest(own, [near, -own])
    assert at == 1 and apart == pytest.approx(1 - 1 / np.sqrt(1.25))
    assert farthest(own, [own, near]) == (0, pytest.approx(0.0))
