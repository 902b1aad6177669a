"""The checkpoint folder of a reference assistant: written, trained on, loaded for the export."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
import torch

from edgestream.models.families import load_checkpoint
from edgestream.models.gate_files import GateMeaning
from edgestream.models.reference_checkpoint import (
    embedding_rows,
    load_reference,
    save_reference,
    uncalibrated,
)
from edgestream.models.reference_model import build_reference
from edgestream.runtime.errors import BundleError, CheckpointInvalid, CheckpointMissing
from edgestream.runtime.motion_input import vision_input

from ..reference_checkpoints import (
    EVENTS,
    QUESTIONS,
    SMALL,
    small_reference,
    small_reference_checkpoint,
    small_tokenizer,
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return small_reference_checkpoint(tmp_path_factory.mktemp("reference") / "checkpoint")


def test_the_same_seed_gives_the_same_model_and_leaves_the_generator_alone():
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    one, other = small_reference(3)[0], small_reference(3)[0]
    assert torch.equal(torch.rand(1), expected)
    for (name, left), right in zip(one.named_parameters(), other.parameters(), strict=True):
        assert torch.equal(left, right), name
    assert not torch.equal(one.gate.head.weight, small_reference(4)[0].gate.head.weight)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_a_model_comes_back_as_it_was_kept(tmp_path, dtype):
    model, tokenizer = small_reference()
    save_reference(tmp_path, model, tokenizer, dtype=dtype, trained={"steps": 7, "seed": 0})
    loaded, words, meaning = load_reference(tmp_path)
    for (name, ours), theirs in zip(model.named_parameters(), loaded.parameters(), strict=True):
        assert theirs.dtype == torch.float32 and theirs.requires_grad
        assert torch.equal(ours.to(dtype).float(), theirs), name
    assert words.to_str() == tokenizer.to_str() and meaning == uncalibrated(SMALL)
    assert dataclasses.asdict(loaded.config) == dataclasses.asdict(SMALL)
    save_reference(tmp_path / "again", loaded, words, dtype=dtype, trained={"steps": 7, "seed": 0})
    for file in tmp_path.glob("*.*"):
        assert file.read_bytes() == (tmp_path / "again" / file.name).read_bytes(), file.name


def test_what_was_calibrated_is_kept(tmp_path):
    model, tokenizer = small_reference()
    made_of = {"source": "rendered world", "sha256": "0" * 64, "frames": 96}
    meaning = dataclasses.replace(
        uncalibrated(SMALL),
        thresholds={"speak": 0.61, "cut": 0.3},
        close_ratio=0.7,
        calibrated_on=made_of,
    )
    save_reference(tmp_path, model, tokenizer, meaning, name="trained", card="# True of cuts\n")
    assert load_reference(tmp_path)[2] == meaning
    facts = load_checkpoint(tmp_path).gate_facts
    assert facts.thresholds == {"speak": 0.61, "cut": 0.3} and facts.close_ratio == 0.7
    assert (tmp_path / "MODEL_CARD.md").read_text() == "# True of cuts\n"


def test_the_family_takes_the_same_model_apart(folder):
    model, _, _ = load_reference(folder)
    loaded = load_checkpoint(folder)
    assert loaded.connector_reads_state and loaded.questions == QUESTIONS
    assert loaded.source.checkpoint == "reference-random" and loaded.gate_facts.events == EVENTS
    random = np.random.default_rng(0)
    pixels = random.integers(0, 255, (112, 112, 3)).astype(np.uint8)
    maps = random.standard_normal((6, 7, 7)).astype(np.float32)
    seen = torch.from_numpy(vision_input(pixels, maps, loaded.frame_input))
    with torch.no_grad():
        tokens, summary, patches = model.vision.see(seen)
        again = loaded.vision(seen)
        assert torch.equal(tokens, again[0]) and torch.equal(summary, again[1])
        assert patches.shape == (1, 49, 64)
        state = torch.randn(1, 32)
        embeds = model.connector(tokens, state)
        assert embeds.shape == (1, 10, 64)
        assert torch.equal(embeds, loaded.connector(tokens, state))
        ids = torch.tensor([[1, 5, 9]])
        assert torch.equal(model.narrator(ids).logits, loaded.decoder(ids).logits)


def test_the_state_joins_the_first_token_alone():
    connector = small_reference()[0].connector
    tokens = torch.randn(2, 10, 64)
    with torch.no_grad():
        one, other = connector(tokens, torch.zeros(2, 32)), connector(tokens, torch.ones(2, 32))
        rows = connector.read(connector.norm(tokens)) + connector.place
        rows[:, 0] += connector.read_state(torch.ones(2, 32))
    assert torch.equal(one[:, 1:], other[:, 1:]) and not torch.equal(one[:, 0], other[:, 0])
    assert torch.allclose(other, rows, atol=1e-6)


def test_a_table_is_never_as_high_as_a_layer_is_wide():
    tokenizer = small_tokenizer()
    size = tokenizer.get_vocab_size()
    text = {**SMALL.text, "intermediate_size": size, "hidden_size": 4 * (size + 1)}
    config = dataclasses.replace(SMALL, text={**text, "num_attention_heads": 4})
    config = dataclasses.replace(config, text={**config.text, "num_key_value_heads": 1})
    assert embedding_rows(tokenizer, SMALL) == size
    assert embedding_rows(tokenizer, config) == size + 2


def changed(folder, file, change):
    data = json.loads((folder / file).read_text())
    change(data)
    (folder / file).write_text(json.dumps(data))


@pytest.mark.parametrize(
    ("file", "change", "words"),
    [
        ("config.json", lambda d: d["input"].update(size_px=[96, 96]), "config.json.input"),
        ("config.json", lambda d: d["input"].pop("motion"), "config.json.input"),
        ("config.json", lambda d: d["input"].update(mean=[0.5]), "one per channel"),
        ("config.json", lambda d: d.pop("questions"), "questions"),
        ("config.json", lambda d: d["text_config"].update(model_type="gpt2"), "model_type"),
        ("gate.json", lambda d: d["thresholds"].update(sneeze=0.5), "thresholds"),
        ("gate.json", lambda d: d["attributes_of"].update(cut=["mood"]), "attributes_of"),
        ("gate.json", lambda d: d["architecture"].update(reads=["smell"]), "reads"),
        ("gate.json", lambda d: d["architecture"].update(width=0), "width"),
        ("gate.json", lambda d: d["attributes"].update(colour=["red"]), "heads.colour"),
    ],
)
def test_a_folder_that_does_not_fit_is_refused_in_words(tmp_path, file, change, words):
    folder = small_reference_checkpoint(tmp_path / "checkpoint")
    changed(folder, file, change)
    with pytest.raises(BundleError) as fault:
        load_checkpoint(folder)
    assert words in fault.value.message and fault.value.exit_code == 3


def test_without_its_gate_it_is_not_complete(tmp_path):
    folder = small_reference_checkpoint(tmp_path / "checkpoint")
    for name in ("gate.json", "gate.safetensors"):
        (folder / name).unlink()
    with pytest.raises(CheckpointMissing, match=r"gate\.json"):
        load_checkpoint(folder)


def test_a_checkpoint_of_another_family_is_not_trained_on(tmp_path):
    from ..checkpoints import random_live_checkpoint

    with pytest.raises(CheckpointInvalid, match="expected reference"):
        load_reference(random_live_checkpoint(tmp_path / "live"))


def test_meaning_names_what_it_does_not_have():
    with pytest.raises(CheckpointInvalid, match="sneeze"):
        GateMeaning(("cut",), {"sneeze": 0.5}).check()


def test_vision_takes_any_number_of_frames():
    model = build_reference(SMALL, 64, 0)
    pixels = torch.randn(3, 9, 112, 112)
    with torch.no_grad():
        tokens, summary, patches = model.vision.see(pixels)
        one = model.vision.see(pixels[1:2])
    assert tokens.shape == (3, 10, 64) and patches.shape == (3, 49, 64)
    assert torch.allclose(tokens[1], one[0][0], atol=1e-5)
    assert torch.allclose(summary.norm(dim=-1), torch.ones(3))
