"""`optimum-cli export edgestream`, in optimum's own program, from an installed package."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from edgestream.edge.cli import main
from edgestream.edge.optimum_options import add_export_options, export_words

ROOT = Path(__file__).parents[2]
PROGRAM = Path(sys.executable).parent / "optimum-cli"
LEFT_OUT = ("*.egg-info", "assets", "build", "docs", "node_modules", "runs", "tests", ".*")


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """A folder into which pip has installed this package, as anybody has it."""
    pytest.importorskip("optimum", reason="it comes with the extra export")
    pytest.importorskip("setuptools", reason="it builds the package")
    place = tmp_path_factory.mktemp("installed")
    shutil.copytree(ROOT, place / "source", ignore=shutil.ignore_patterns(*LEFT_OUT))
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps",
               "--disable-pip-version-check", "--no-build-isolation", "--no-index",
               "--target", str(place / "site"), str(place / "source")]  # fmt: skip
    subprocess.run(command, check=True, capture_output=True, timeout=240)
    return place / "site"


@cache
def is_registered_here():
    """Whether this environment has the command already: optimum takes no second one."""
    words = [PROGRAM, "export", "--help"]
    return "edgestream" in subprocess.run(words, capture_output=True, text=True, timeout=240).stdout


def optimum_cli(site, *words):
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    if not is_registered_here():
        environment["PYTHONPATH"] = str(site)
    return subprocess.run(
        [PROGRAM, "export", *words],
        env=environment, capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip


@pytest.mark.slow
def test_it_is_registered_and_shows_our_options(installed, capsys):
    assert (installed / "optimum/commands/register/edgestream.py").is_file()
    assert not list((installed / "optimum").rglob("__init__.py")), "it is a namespace of optimum's"
    assert "edgestream" in optimum_cli(installed, "--help").stdout
    shown = optimum_cli(installed, "edgestream", "--help").stdout
    assert main(["export", "--help"]) == 0
    for word in capsys.readouterr().out.split():
        if word.startswith("--") and word not in ("--out", "--help"):
            assert word in shown, word


@pytest.mark.slow
def test_it_gives_what_edgestream_export_gives(installed, tmp_path):
    from ..checkpoints import random_live_checkpoint

    checkpoint = random_live_checkpoint(tmp_path / "checkpoint")
    options = ["--vision", "fp32", "--llm=int4-32", "--capacity", "128", "--name", "tiny", "--json"]
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    done = optimum_cli(installed, "edgestream", "-m", str(checkpoint), str(theirs), *options)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["bundle"] == str(theirs) and told["parity"]["passed"]
    assert main(["export", str(checkpoint), "--out", str(ours), *options]) == 0
    for file in sorted(ours.iterdir()):
        one, other = file.read_bytes(), (theirs / file.name).read_bytes()
        if file.name == "manifest.json":
            manifests = [json.loads(text) for text in (one, other)]
            for manifest in manifests:
                manifest.pop("created")
            assert manifests[0] == manifests[1]
        elif file.name != "manifest.json.sha256":
            assert one == other, file.name


@pytest.mark.slow
def test_a_fault_is_our_fault_with_our_exit_code(installed, tmp_path):
    done = optimum_cli(installed, "edgestream", "-m", str(tmp_path / "no"), str(tmp_path / "out"))
    assert done.returncode == 3 and "error[checkpoint-missing]: there is no" in done.stderr
    assert "Traceback" not in done.stderr and not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["-m", "A", "B"], ["export", "--out=B", "--", "A"]),
        (
            ["--model", "o/n@main", "B", "--llm", "int8", "--force", "--json"],
            ["export", "--llm=int8", "--force", "--json", "--out=B", "--", "o/n@main"],
        ),
        (["-m", "A", "B", "--name=-x"], ["export", "--name=-x", "--out=B", "--", "A"]),
    ],
)
def test_words_go_over_as_they_were_typed(words, expected):
    parser = argparse.ArgumentParser()
    add_export_options(parser)
    assert export_words(parser.parse_args(words)) == expected
