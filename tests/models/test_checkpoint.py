"""Checkpoint folders: what was saved is what is loaded, in at most twice its size."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from edgestream.models.checkpoint import checkpoint_sha256
from edgestream.models.families import FAMILIES, load_checkpoint
from edgestream.models.weights import SINGLE

from ..checkpoints import random_live_checkpoint


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    return random_live_checkpoint(tmp_path_factory.mktemp("whole") / "tiny", has_gate=True)


@pytest.fixture(scope="module")
def sharded(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("shards") / "tiny"
    return random_live_checkpoint(folder, has_gate=True, max_shard_bytes=200_000)


def weights(folder: Path) -> dict[str, torch.Tensor]:
    files = folder.glob("model*.safetensors")
    return {name: part for file in files for name, part in load_file(file).items()}


def test_what_is_loaded_is_what_was_saved(whole):
    loaded, stored = load_checkpoint(whole), weights(whole)
    modules = {"": loaded.decoder, "connector.": loaded.connector, "vision.": loaded.vision.tower}
    found = {prefix + name: part for prefix, module in modules.items()
             for name, part in module.named_parameters()}  # fmt: skip
    assert found.keys() == stored.keys() and "lm_head.weight" not in found
    assert all(torch.equal(part, stored[name]) for name, part in found.items())
    assert not any(part.requires_grad for part in found.values())
    assert loaded.decoder.lm_head.weight.data_ptr() == loaded.embeddings.data_ptr()
    assert loaded.embeddings.shape == (loaded.decoder.config.vocab_size, 64)


def test_shards_hold_the_same_model(whole, sharded):
    assert len(list(sharded.glob("model-*.safetensors"))) > 3 and not (sharded / SINGLE).exists()
    ids = torch.arange(8)[None]
    one, many = load_checkpoint(whole), load_checkpoint(sharded)
    assert torch.equal(one.decoder(input_ids=ids).logits, many.decoder(input_ids=ids).logits)
    assert one.source.sha256 != many.source.sha256


def test_the_same_seed_gives_the_same_bytes(whole, tmp_path):
    again = random_live_checkpoint(tmp_path / "again", has_gate=True)
    other = random_live_checkpoint(tmp_path / "other", seed=1, has_gate=True)
    assert checkpoint_sha256(again) == checkpoint_sha256(whole) != checkpoint_sha256(other)


def test_the_hash_is_that_of_what_sha256sum_prints(whole):
    lines = [
        f"{hashlib.sha256((whole / name).read_bytes()).hexdigest()}  {name}\n"
        for name in ("config.json", "gate.json", "gate.safetensors", SINGLE, "tokenizer.json")
    ]
    assert checkpoint_sha256(whole) == hashlib.sha256("".join(lines).encode()).hexdigest()


def test_half_precision_weights_become_float32(whole, tmp_path):
    folder = Path(shutil.copytree(whole, tmp_path / "half"))
    halves = {name: part.bfloat16() for name, part in weights(whole).items()}
    save_file(halves, folder / SINGLE)
    loaded = load_checkpoint(folder)
    assert loaded.embeddings.dtype == torch.float32
    assert torch.equal(loaded.embeddings, halves["model.embed_tokens.weight"].float())


def test_the_gate_is_loaded_with_its_facts(whole):
    loaded = load_checkpoint(whole)
    assert loaded.gate is not None and loaded.gate_facts is not None
    assert loaded.gate_facts.events == ("cut", "dark")
    assert [(part.name, part.shape) for part in loaded.gate_facts.state] == [
        ("conv", (2, 1, 32, 2)), ("ssm", (2, 1, 64)),
    ]  # fmt: skip
    scores, *_ = loaded.gate(torch.zeros(1, 48), torch.ones(1, 1), *loaded.gate.first_state())
    assert scores.shape == (1, 3), "the wish to speak goes before the events"


def test_the_dictionary_names_each_family_as_it_names_itself():
    names = {name: family.name for name, family in FAMILIES.items()}
    assert names == {name: name for name in names} and {"live", "reference"} < names.keys()
    kinds = [kind for family in FAMILIES.values() for kind in family.model_types]
    assert len(kinds) == len(set(kinds)), "no two families load the same model_type"


PEAK = """
import sys, resource
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from edgestream.models.families import load_checkpoint
def status(key):
    line = next(line for line in open("/proc/self/status") if line.startswith(key))
    return int(line.split()[1]) * 1024
before = status("VmRSS")
loaded = load_checkpoint(Path(sys.argv[1]))
print(status("VmHWM") - before, status("VmRSS") - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc/self/status")
def test_loading_takes_at_most_twice_the_weights(tmp_path):
    folder = random_live_checkpoint(tmp_path / "big", "135m")
    n_bytes = (folder / SINGLE).stat().st_size
    root = str(Path(__file__).parents[2])
    done = subprocess.run(
        [sys.executable, "-c", PEAK, str(folder), root], capture_output=True, text=True, check=True
    )
    peak, resident = map(int, done.stdout.split())
    assert n_bytes > 800e6 and resident >= n_bytes
    assert peak <= 2.1 * n_bytes
