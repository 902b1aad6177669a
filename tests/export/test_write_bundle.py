"""Writing a bundle: whole or not at all, and the same bytes for the same inputs."""

from __future__ import annotations

import copy
import json
import random
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from edgestream.export.write_bundle import bundle_writer, json_bytes
from edgestream.runtime.bundle import open_bundle
from edgestream.runtime.errors import (
    BundleError,
    BundleMissing,
    ManifestInvalid,
    OutputExists,
    OutputFull,
)

from ..bundles import FACTS, write_small_bundle

KILLS = 20


def bytes_of(folder):
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def small_facts(**changes):
    return {**copy.deepcopy(FACTS), "embeddings": None, "parts": [], **changes}


def test_the_same_inputs_give_the_same_bytes(tmp_path, monkeypatch):
    one = write_small_bundle(tmp_path / "one")
    monkeypatch.setattr(time, "localtime", lambda *_: time.gmtime(10**9))
    monkeypatch.setattr(time, "time", lambda: 2e9)
    other = write_small_bundle(tmp_path / "other")
    assert bytes_of(one) == bytes_of(other)


def test_another_time_changes_the_manifest_alone(tmp_path):
    one = bytes_of(write_small_bundle(tmp_path / "one"))
    later = write_small_bundle(
        tmp_path / "later", change_facts=lambda facts: facts.update(created="2027-01-01T00:00:00Z")
    )
    other = bytes_of(later)
    assert {name for name in one if one[name] != other[name]} == {
        "manifest.json",
        "manifest.json.sha256",
    }


def test_the_order_of_keys_is_not_written():
    assert json_bytes({"b": 1, "a": {"d": "é", "c": 2}}) == json_bytes(
        {"a": {"c": 2, "d": "é"}, "b": 1}
    )
    with pytest.raises(ValueError):
        json_bytes({"a": float("nan")})


def test_every_way_to_write_a_file(tmp_path):
    (tmp_path / "source.txt").write_text("copied")
    with bundle_writer(tmp_path / "out") as writer:
        writer.write_bytes("a.bin", b"a")
        writer.write_text("b/c.txt", "é")
        writer.write_json("d.json", {"x": 1})
        writer.write_arrays("e.npz", {"zero": np.float32(1), "two": np.eye(2)})
        writer.copy("f.txt", tmp_path / "source.txt")
        writer.path("g/h.onnx").write_bytes(b"by a tool")
        sha256 = writer.finish(small_facts())
    bundle = open_bundle(tmp_path / "out")
    assert bundle.sha256 == sha256
    assert set(bundle.manifest.files) == {
        "a.bin",
        "b/c.txt",
        "d.json",
        "e.npz",
        "f.txt",
        "g/h.onnx",
    }
    with np.load(bundle.path("e.npz"), allow_pickle=False) as arrays:
        assert arrays["zero"].shape == () and np.array_equal(arrays["two"], np.eye(2))


@pytest.mark.parametrize(
    "name", ["../a", "/a", "", "manifest.json", "manifest.json.sha256", "a/../b"]
)
def test_a_name_that_leads_out_or_is_ours_is_a_bug(tmp_path, name):
    with pytest.raises(ValueError), bundle_writer(tmp_path / "out") as writer:
        writer.write_bytes(name, b"")
    assert list(tmp_path.iterdir()) == []


def test_a_block_that_does_not_finish_is_a_bug_and_leaves_nothing(tmp_path):
    with pytest.raises(RuntimeError, match="not finished"), bundle_writer(tmp_path / "out"):
        pass
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "changes", [{"name": ""}, {"embeddings": FACTS["embeddings"]}, {"created": "today"}]
)
def test_what_would_not_be_opened_is_not_written(tmp_path, changes):
    with pytest.raises(ManifestInvalid), bundle_writer(tmp_path / "out") as writer:
        writer.finish(small_facts(**changes))
    assert list(tmp_path.iterdir()) == []


def test_a_link_does_not_get_into_a_bundle(tmp_path):
    refused = pytest.raises(ManifestInvalid, match="no plain file")
    with refused, bundle_writer(tmp_path / "out") as writer:
        (writer.folder / "a").symlink_to("/etc/passwd")
        writer.finish(small_facts())
    assert list(tmp_path.iterdir()) == []


def test_an_older_bundle_is_replaced_with_force_alone(tmp_path):
    old = bytes_of(write_small_bundle(tmp_path / "out"))
    with pytest.raises(OutputExists) as fault:
        write_small_bundle(tmp_path / "out")
    assert "--force" in fault.value.hint and bytes_of(tmp_path / "out") == old
    write_small_bundle(
        tmp_path / "out", force=True, change_facts=lambda facts: facts.update(name="newer")
    )
    assert open_bundle(tmp_path / "out").manifest.name == "newer"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_force_does_not_replace_what_is_no_bundle(tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "one.jpg").write_text("dear")
    with pytest.raises(OutputExists, match="nothing that may be replaced"):
        write_small_bundle(tmp_path / "photos", force=True)
    assert (tmp_path / "photos" / "one.jpg").read_text() == "dear"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_leaves_nothing_of_the_new_one_and_all_of_the_old_one(tmp_path):
    old = bytes_of(write_small_bundle(tmp_path / "out"))
    with pytest.raises(OutputFull) as fault, bundle_writer(tmp_path / "out", force=True) as writer:
        writer.write_bytes("a.bin", b"a")
        writer.copy("b.bin", tmp_path / "out" / "vision.onnx")
        Path("/dev/full").write_bytes(bytes(100))
    assert fault.value.exit_code == 8
    assert bytes_of(tmp_path / "out") == old and len(list(tmp_path.iterdir())) == 1


EXPORT = """
import json, sys
from pathlib import Path
from edgestream.export.write_bundle import bundle_writer
facts = json.loads(sys.argv[2])
print("ready", flush=True)
while True:
    with bundle_writer(Path(sys.argv[1]), force=True) as writer:
        for index in range(12):
            writer.write_bytes(f"{index % 3}/{index}.bin", bytes([index]) * 50_000)
        writer.finish(facts)
    if len(sys.argv) == 3:
        break
print("done", flush=True)
"""


def killed_after(seconds, target, *more):
    """One export in a process of its own, killed in the midst of it."""
    command = [sys.executable, "-c", EXPORT, str(target), json.dumps(small_facts()), *more]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as export:
        assert export.stdout.readline() == "ready\n"
        time.sleep(seconds)
        export.kill()


def length_of_an_export(tmp_path):
    begun_s = time.perf_counter()
    command = [sys.executable, "-c", EXPORT, str(tmp_path / "timed"), json.dumps(small_facts())]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as export:
        assert export.stdout.readline() == "ready\n"
        begun_s = time.perf_counter()
        assert export.stdout.readline() == "done\n"
        return time.perf_counter() - begun_s


@pytest.mark.slow
def test_a_kill_at_any_moment_leaves_no_half_bundle(tmp_path):
    """A first export: afterwards there is a whole bundle or none, and the next one tidies up."""
    longest_s = length_of_an_export(tmp_path)
    moments = random.Random(0)
    ends = {"none": 0, "whole": 0, "left over": 0}
    for kill in range(KILLS):
        place = tmp_path / str(kill)
        place.mkdir()
        killed_after(moments.uniform(0, longest_s), place / "out")
        ends["left over"] += any(path.name != "out" for path in place.iterdir())
        try:
            open_bundle(place / "out")
            ends["whole"] += 1
        except BundleMissing as fault:
            assert "no such folder" in fault.message
            ends["none"] += 1
        with bundle_writer(place / "out", force=True) as writer:
            writer.finish(small_facts())
        assert [path.name for path in place.iterdir()] == ["out"]
    assert ends["none"] and ends["left over"], ends


@pytest.mark.slow
def test_a_kill_while_it_is_replaced_leaves_the_old_or_the_new_bundle(tmp_path):
    length_s = length_of_an_export(tmp_path)
    moments = random.Random(1)
    target = tmp_path / "here" / "out"
    target.parent.mkdir()
    with bundle_writer(target) as writer:
        writer.finish(small_facts())
    for _ in range(KILLS):
        killed_after(moments.uniform(0, 3 * length_s), target, "again and again")
        try:
            assert open_bundle(target).is_checked
        except BundleError as fault:  # pragma: no cover
            pytest.fail(f"a half bundle: {fault}")
    with bundle_writer(target, force=True) as writer:
        writer.finish(small_facts())
    assert [path.name for path in target.parent.iterdir()] == ["out"]
