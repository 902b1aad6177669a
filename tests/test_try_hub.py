"""`make test-hub`, the whole of it, on a folder in the layout of the Hub's cache."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
COMMIT = "0123456789abcdef0123456789abcdef01234567"


def made(tmp_path, *words):
    """One `make test-hub` with this Python in the place of the developers' environment."""
    environment = {
        **os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "home"),
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
    }  # fmt: skip
    variables = {"BIN": Path(sys.executable).parent, "HUB_OUT": tmp_path / "out",
                 "HUB_LOCK": tmp_path / "hub.lock"}  # fmt: skip
    given = [f"{name}={value}" for name, value in variables.items()]
    command = ["make", "--no-print-directory", "-o", "setup", "test-hub", *given, *words]
    return subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=280, check=False
    )


def cached(tmp_path, name):
    """(snapshot folder to be filled, its name) in a cache as huggingface_hub lays it out."""
    folder = tmp_path / "home" / "hub" / f"models--{name.replace('/', '--')}"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text(COMMIT)
    return folder / "snapshots" / COMMIT


def test_without_a_network_it_says_so_and_fails(tmp_path):
    done = made(tmp_path, "HUB_MODELS=nobody/nothing")
    assert done.returncode != 0 and "Traceback" not in done.stderr
    assert len(re.findall(r"^error\[checkpoint-missing\]: .+$", done.stderr, re.MULTILINE)) == 1
    assert "cannot be downloaded now" in done.stderr and not (tmp_path / "hub.lock").exists()
