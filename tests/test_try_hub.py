"""`make test-hub`, the whole of it, on a folder in the layout of the Hub's cache."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

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


@pytest.mark.medium
def test_without_a_network_it_says_so_and_fails(tmp_path):
    done = made(tmp_path, "HUB_MODELS=nobody/nothing")
    assert done.returncode != 0 and "Traceback" not in done.stderr
    assert len(re.findall(r"^error\[checkpoint-missing\]: .+$", done.stderr, re.MULTILINE)) == 1
    assert "cannot be downloaded now" in done.stderr and not (tmp_path / "hub.lock").exists()


@pytest.mark.slow
def test_a_model_of_the_cache_is_pinned_exported_and_answers(tmp_path):
    pytest.importorskip("torch", reason="exporting needs PyTorch")
    import torch

    from .hub_checkpoints import in_hub_cache, save_hub
    from .models.test_smolvlm import PREPROCESSOR, STOP, TEMPLATE, TOKENIZER, tiny_smolvlm

    model = tiny_smolvlm()
    model.generation_config.eos_token_id = STOP
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.ndim == 1 and "norm" in name:
                weight.mul_(1.05)  # no initialisation leaves them so: it may speak
    made_of = save_hub(
        tmp_path / "made", model, TOKENIZER, chat_template=TEMPLATE, preprocessor=PREPROCESSOR
    )
    in_hub_cache(made_of, tmp_path / "home" / "hub", "acme/tiny", COMMIT)
    done = made(tmp_path, "HUB_MODELS=acme/none acme/tiny", "HUB_EXPORT=--vision fp32 --llm fp32")
    told = done.stdout
    assert "error[checkpoint-missing]" in done.stderr and done.returncode != 0, "of acme/none"
    assert (tmp_path / "hub.lock").read_text() == f"acme/tiny {COMMIT}\n"
    assert re.search(r"^passed .*acme--tiny", told, re.MULTILINE), done.stderr
    assert re.search(r"^  agreement +decoder +worst +1 ", told, re.MULTILINE)
    for question in ("What do you see?", "What happened?"):
        assert question in told, told


def test_a_pinned_model_stays_at_its_commit(tmp_path):
    spec = importlib.util.spec_from_file_location("try_hub", ROOT / "scripts" / "try_hub.py")
    try_hub = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(try_hub)
    lock = tmp_path / "hub.lock"
    lock.write_text(f"acme/other {'f' * 40}\nacme/tiny {COMMIT}\n")
    assert try_hub.pinned("acme/tiny", "main", lock) == COMMIT
