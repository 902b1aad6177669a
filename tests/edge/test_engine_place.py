"""--engines of verify, doctor and bench: where engines are found and kept, and what is said."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from edgestream.edge import engine_place
from edgestream.edge.cli import main
from edgestream.edge.engine_place import chosen_folder
from edgestream.runtime.engine_cache import FACTS_FILE
from edgestream.runtime.engines import trt as trt_backend
from edgestream.runtime.engines import trt_module

from ..bundles import write_small_bundle
from ..scripted_tensorrt import HostDevice, scripted_tensorrt


def vision_on_tensorrt(facts):
    own = facts["parts"][0]["variants"][0]
    trt = {**own, "id": "trt", "provider": "tensorrt", "proof": "pending-device", "sizes": {}}
    facts["parts"][0]["variants"].append(trt)


def the_same_calls(calls):
    return [*calls, *(replace(one, variant="trt") for one in calls if one.role == "vision")]


@pytest.fixture
def bundle(tmp_path, monkeypatch):
    """Vision has a variant of TensorRT, and there is a scripted one with a GPU."""
    device = HostDevice()
    module = scripted_tensorrt(device)
    monkeypatch.setattr(trt_module, "_LOGS", {})
    monkeypatch.setattr(trt_backend, "imported", lambda name: module)
    monkeypatch.setattr(trt_backend, "first_gpu", lambda: device)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    return write_small_bundle(
        tmp_path / "bundle", change_facts=vision_on_tensorrt, change_calls=the_same_calls
    )


def kept(folder):
    """Graphs whose engines lie in a folder."""
    return [json.loads(path.read_text())["graph"] for path in folder.glob(f"*/{FACTS_FILE}")]


@pytest.mark.medium
@pytest.mark.parametrize("command", ["verify", "doctor"])
def test_engines_are_kept_in_the_folder_that_was_named(bundle, tmp_path, capsys, command):
    place = tmp_path / "engines"
    for times in (1, 2):
        main([command, str(bundle), "--engines", str(place), "--json"])
        out, err = capsys.readouterr()
        json.loads(out)
        lines = [line for line in err.splitlines() if "compil" in line]
        if times == 1:  # the second time it is there
            before, after = lines
            assert before.startswith("compiling vision (all) for sm86 with tensorrt ")
            assert after.startswith("compiled vision (all) for sm86") and after.endswith(" s")
        else:
            assert not lines
    assert kept(place) == ["vision"]
    assert not (tmp_path / "cache" / "edgestream" / "engines").exists()


@pytest.mark.medium
def test_else_they_are_where_the_settings_say(bundle, tmp_path, monkeypatch, capsys):
    main(["verify", str(bundle)])
    assert kept(tmp_path / "cache" / "edgestream" / "engines") == ["vision"]
    monkeypatch.setenv("EDGESTREAM_ENGINE__ENGINES_DIR", str(tmp_path / "set"))
    main(["verify", str(bundle)])
    assert kept(tmp_path / "set") == ["vision"]
    assert chosen_folder(None) == tmp_path / "set"
    assert chosen_folder(tmp_path / "named") == tmp_path / "named"
    monkeypatch.delenv("EDGESTREAM_ENGINE__ENGINES_DIR")
    assert chosen_folder(None) is None


def test_the_benchmark_opens_with_that_folder(monkeypatch, tmp_path):
    from edgestream.edge import benchmark

    asked = []
    monkeypatch.setattr(benchmark, "bench_bundle", lambda folder, plan, on_step: asked.append(plan))
    with pytest.raises(AttributeError):  # nothing was measured
        main(["bench", str(tmp_path), "--engines", str(tmp_path / "e"), "--json"])
    rules = asked[0].engines("shared")
    assert rules.engines_dir == tmp_path / "e" and rules.tell is engine_place.say


def test_a_folder_of_no_bundle_is_refused(tmp_path, capsys):
    assert main(["doctor", "--engines", str(tmp_path)]) == 2
    assert "--engines needs the BUNDLE" in capsys.readouterr().err
