"""`edgestream export` on what is wrong: one sentence each, an exit code, nothing left behind."""

from __future__ import annotations

import json
import os
import shutil
import subprocess

import pytest

pytest.importorskip("torch", reason="export needs the extra `export`")

from edgestream.edge.cli import main

from ..checkpoints import random_live_checkpoint

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return random_live_checkpoint(
        tmp_path_factory.mktemp("checkpoints") / "tiny", max_shard_bytes=200_000
    )


@pytest.fixture
def copy(whole, tmp_path):
    return shutil.copytree(whole, tmp_path / "checkpoint")


def refused(capsys, tmp_path, *arguments):
    """The exit code and the sentence; no bundle, and no folder of ours, is there."""
    before = sorted(path.name for path in tmp_path.iterdir())
    code = main(["export", *map(str, arguments), "--out", str(tmp_path / "bundle")])
    out, err = capsys.readouterr()
    assert out == "" and "Traceback" not in err
    assert sorted(path.name for path in tmp_path.iterdir()) == before
    (line,) = [line for line in err.splitlines() if line.startswith("error[")]
    return code, line


def test_a_missing_shard(copy, tmp_path, capsys):
    shard = sorted(copy.glob("model-*.safetensors"))[1]
    shard.unlink()
    code, line = refused(capsys, tmp_path, copy)
    assert code == 3 and shard.name in line


def test_a_tokenizer_of_another_vocabulary(copy, tmp_path, capsys):
    file = copy / "tokenizer.json"
    tokenizer = json.loads(file.read_text())
    tokenizer["added_tokens"].append(
        {**tokenizer["added_tokens"][0], "id": 5000, "content": "<new>", "special": True}
    )
    file.write_text(json.dumps(tokenizer))
    code, line = refused(capsys, tmp_path, copy)
    assert code == 3 and "tokenizer" in line


def test_an_adapter_of_another_base(copy, tmp_path, capsys):
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    (adapter / "adapter_config.json").write_text('{"peft_type": "LORA", "r": 4}')
    (adapter / "edgestream_adapter.json").write_text(
        json.dumps({"format": 1, "base_sha256": "0" * 64, "role": "live"})
    )
    import numpy as np
    from safetensors.numpy import save_file

    save_file(
        {"base_model.model.x.lora_A.weight": np.zeros((4, 4))},
        adapter / "adapter_model.safetensors",
    )
    code, line = refused(capsys, tmp_path, copy, "--adapter", adapter)
    assert code == 3 and "adapter" in line and "0000" in line


def test_code_from_elsewhere(copy, tmp_path, capsys):
    file = copy / "config.json"
    config = json.loads(file.read_text())
    config["text_config"]["auto_map"] = {"AutoModel": "modeling.Model"}
    file.write_text(json.dumps(config))
    code, line = refused(capsys, tmp_path, copy)
    assert code == 3 and "auto_map" in line


@pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can make a small disk"
)
@pytest.mark.parametrize("size", ["100k", "400k", "700k", "1200k"])
def test_a_disk_that_is_too_small(whole, tmp_path, capsys, size):
    """A real one: each size runs out of room in another tool."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(disk)], capture_output=True
    )
    if mounted.returncode:
        pytest.skip("this system lets no test mount a small disk")
    try:
        assert main(["export", str(whole), "--out", str(disk / "bundle")]) == 8
        assert "error[output-full]" in capsys.readouterr().err
        assert not list(disk.iterdir())
    finally:
        subprocess.run(["umount", "--lazy", str(disk)], check=True)


def test_a_full_disk(copy, tmp_path, capsys, monkeypatch):
    def full(*arguments):
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(os, "fsync", full)
    code, line = refused(capsys, tmp_path, copy)
    assert (code == 8 and "full" in line) or "space" in line
