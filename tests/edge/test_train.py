"""`edgestream train reference`: what it refuses, and that its help needs nothing heavy."""

from __future__ import annotations

import subprocess
import sys

import pytest

from edgestream.edge.cli import main


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ([], "expected one of them"),
        (["--minutes", "3", "--quick"], "expected one of them"),
        (["--steps", "vision=x"], "expected a stage of vision, cache, text, stream"),
        (["--minutes", "3", "--device", "tpu"], "expected cpu, cuda or auto"),
        (["--minutes", "inf"], "expected a number"),
        (["--minutes", "-1"], "minutes"),
        (["--quick", "--processes", "0"], "processes"),
        (["--quick", "--seed", "-1"], "seed"),
    ],
)
def test_it_says_what_it_does_not_take(options, said, tmp_path, capsys):
    pytest.importorskip("torch", reason="training needs the extra `train`")
    assert main(["train", "reference", "--out", str(tmp_path / "out"), *options]) == 2
    told = capsys.readouterr().err
    assert said in told and "try:" in told
    assert not (tmp_path / "out").exists()


def test_a_device_is_told_what_training_needs(tmp_path, capsys, monkeypatch):
    for name in [one for one in sys.modules if one.startswith("edgestream.training")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "torch", None)
    assert main(["train", "reference", "--quick", "--out", str(tmp_path / "out")]) == 4
    told = capsys.readouterr().err
    assert "training needs torch" in told and "edgestream[train]" in told
    assert not (tmp_path / "out").exists()


def test_out_must_be_named(capsys):
    assert main(["train", "reference", "--quick"]) == 2
    assert "--out" in capsys.readouterr().err


@pytest.mark.medium
@pytest.mark.parametrize("command", ["train", "eval"])
def test_help_imports_nothing_heavy(command):
    code = (
        "import sys\n"
        "from edgestream.edge.cli import main\n"
        f"assert main(['{command}', 'reference', '--help']) == 0\n"
        "heavy = {'torch', 'transformers', 'onnxruntime', 'numpy', 'rich.progress'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)
