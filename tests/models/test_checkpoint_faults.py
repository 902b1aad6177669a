"""Checkpoint folders: each fault is one sentence, with its own kind and exit code 3."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from edgestream.models.families import load_checkpoint
from edgestream.models.weights import INDEX, SINGLE
from edgestream.runtime.errors import (
    BundleError,
    CheckpointInvalid,
    CheckpointMissing,
    FamilyUnknown,
    FormatTooNew,
    PromptInvalid,
    RemoteCodeNeeded,
    VocabularyMismatch,
)

from ..checkpoints import random_live_checkpoint


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    return random_live_checkpoint(tmp_path_factory.mktemp("whole") / "tiny", has_gate=True)


@pytest.fixture(scope="module")
def sharded(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("shards") / "tiny"
    return random_live_checkpoint(folder, has_gate=True, max_shard_bytes=200_000)


def config(**changes: Any) -> Callable[[Path], None]:
    """Changes config.json; a dotted key reaches into a sub-config, None takes the key away."""

    def change(folder: Path) -> None:
        data = json.loads((folder / "config.json").read_text())
        for key, value in changes.items():
            *path, last = key.split("__")
            place = data
            for name in path:
                place = place[name]
            place[last] = value
            if value is None:
                del place[last]
        (folder / "config.json").write_text(json.dumps(data))

    return change


def tensors(change: Callable[[dict[str, torch.Tensor]], Any]) -> Callable[[Path], None]:
    def changed(folder: Path) -> None:
        data = load_file(folder / SINGLE)
        change(data)
        save_file(data, folder / SINGLE)

    return changed


def write(name: str, text: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).write_text(text) and None


def remove(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


def cut(name: str, left: int) -> Callable[[Path], None]:
    def cut_off(folder: Path) -> None:
        data = (folder / name).read_bytes()
        (folder / name).write_bytes(data[:left] if left > 0 else data[: len(data) + left])

    return cut_off


def more_tokens(folder: Path) -> None:
    data = json.loads((folder / "tokenizer.json").read_text())
    entry = {"id": 480, "content": "<v>", "single_word": False, "lstrip": False, "rstrip": False,
             "normalized": False, "special": True}  # fmt: skip
    data["added_tokens"].append(entry)
    (folder / "tokenizer.json").write_text(json.dumps(data))


HEAD = "model.layers.0.mlp.up_proj.weight"
FAULTS: dict[str, tuple[Callable[[Path], Any], type[BundleError], str]] = {
    "no folder": (shutil.rmtree, CheckpointMissing, "there is no checkpoint folder"),
    "no config": (remove("config.json"), CheckpointMissing, "there is no file"),
    "config is no JSON": (write("config.json", "{"), CheckpointInvalid, "config.json is no JSON"),
    "config is no object": (write("config.json", "[1]"), CheckpointInvalid, "an object"),
    "config is newer": (config(format=2), FormatTooNew, "has the format 2"),
    "no family": (
        config(edgestream_family=None), CheckpointInvalid, "edgestream_family is missing"),
    "unknown family": (
        config(edgestream_family="lvie"), FamilyUnknown, "'lvie', expected one of live"),
    "remote code": (
        config(text_config__auto_map={"AutoModel": "x.Y"}), RemoteCodeNeeded,
        "config.json.text_config.auto_map asks for code"),
    "another decoder": (
        config(text_config__model_type="gpt2"), CheckpointInvalid,
        "got 'gpt2', expected one of llama, qwen2, mistral"),
    "another tower": (
        config(vision_config__model_type="vit"), CheckpointInvalid, "expected one of siglip_"),
    "heads that do not divide": (
        config(text_config__num_attention_heads=7), CheckpointInvalid, "makes no llama model"),
    "a text for a number": (
        config(text_config__hidden_size="64"), CheckpointInvalid, "makes no llama model"),
    "patches that do not fill": (
        config(vision_config__patch_size=15), CheckpointInvalid, "patches of 15 px do not fill"),
    "tokens per frame": (
        config(tokens_per_frame=11), CheckpointInvalid, "11 tokens per frame of 4 x 4"),
    "a tower without head": (
        config(vision_config__vision_use_head=False), CheckpointInvalid, "vision_use_head"),
    "scaled rotation": (
        config(text_config__rope_parameters={"rope_type": "linear", "factor": 2.0,
                                             "rope_theta": 10000.0}),
        CheckpointInvalid, "got rope_type 'linear'"),
    "no frames a second": (config(fps=0), CheckpointInvalid, "config.json.fps: got 0"),
    "no weights": (remove(SINGLE), CheckpointMissing, f"{SINGLE}, expected the weights there"),
    "truncated weights": (cut(SINGLE, -100), CheckpointInvalid, "is truncated"),
    "weights cut in the header": (cut(SINGLE, 100), CheckpointInvalid, "is truncated"),
    "no bytes of weights": (write(SINGLE, ""), CheckpointInvalid, "(0 bytes)"),
    "weights of another kind": (write(SINGLE, "PK" * 99), CheckpointInvalid, "no safetensors file"),
    "a missing tensor": (
        tensors(lambda all_: all_.pop(HEAD)), CheckpointInvalid,
        f"the tensor {HEAD} [192, 64] is missing"),
    "an unexpected tensor": (
        tensors(lambda all_: all_.update(x=torch.ones(1))), CheckpointInvalid,
        "the tensor x in model.safetensors is not part"),
    "another shape": (
        tensors(lambda all_: all_.update({HEAD: torch.ones(192, 63)})), CheckpointInvalid,
        f"the tensor {HEAD} in model.safetensors has the shape [192, 63], expected [192, 64]"),
    "whole numbers": (
        tensors(lambda all_: all_.update({HEAD: torch.ones(192, 64, dtype=torch.int8)})),
        CheckpointInvalid, "has the type I8"),
    "an embedding of another size": (
        config(text_config__vocab_size=481, unused_token_ids=1), CheckpointInvalid,
        "model.embed_tokens.weight in model.safetensors has the shape [480, 64]"),
    "no tokenizer": (remove("tokenizer.json"), CheckpointMissing, "tokenizer.json"),
    "tokenizer is no JSON": (cut("tokenizer.json", 50), CheckpointInvalid, "is no JSON"),
    "tokenizer is none": (write("tokenizer.json", "{}"), CheckpointInvalid, "is no tokenizer"),
    "a token too many": (
        more_tokens, VocabularyMismatch,
        "the token '<v>' with the id 480, but the embedding table has 480 rows"),
    "a table that is too large": (
        config(unused_token_ids=2), VocabularyMismatch, "of which 2 are said to be unused"),
    "a stop text of several tokens": (
        config(prompt__stop="stop here"), PromptInvalid, "config.json.prompt.stop is 'stop here'"),
    "no system prompt": (
        config(prompt__system=None), CheckpointInvalid, "config.json.prompt.system is missing"),
    "a gate without weights": (
        remove("gate.safetensors"), CheckpointMissing, "gate.safetensors"),
    "a gate without facts": (remove("gate.json"), CheckpointMissing, "gate.json"),
    "a gate cut off": (cut("gate.safetensors", -1), CheckpointInvalid, "is truncated"),
    "a gate of other events": (
        write("gate.json", json.dumps({
            "events": ["cut", "dark", "more"], "thresholds": {},
            "architecture": {"reads": ["summary"], "width": 32, "layers": 2, "cells": 7,
                             "map_std": []}})),
        CheckpointInvalid, "the tensor head.weight in gate.safetensors has the shape [3, 32]"),
    "a gate with a foreign threshold": (
        write("gate.json", json.dumps({
            "events": ["cut"], "thresholds": {"fire": 0.5},
            "architecture": {}})),
        CheckpointInvalid, "thresholds for ['fire']"),
}  # fmt: skip


def refused(folder: Path, kind: type[BundleError], message: str) -> None:
    with pytest.raises(BundleError) as caught:
        load_checkpoint(folder)
    assert type(caught.value) is kind, caught.value
    assert message in caught.value.message
    assert caught.value.exit_code == 3 and "\n" not in caught.value.message


@pytest.mark.parametrize(("damage", "kind", "message"), FAULTS.values(), ids=FAULTS)
def test_a_damaged_checkpoint_is_one_sentence(whole, tmp_path, damage, kind, message):
    folder = Path(shutil.copytree(whole, tmp_path / "damaged"))
    damage(folder)
    refused(folder, kind, message)


def _index(change: Callable[[dict[str, str]], Any]) -> Callable[[Path], None]:
    def changed(folder: Path) -> None:
        index = json.loads((folder / INDEX).read_text())
        change(index["weight_map"])
        (folder / INDEX).write_text(json.dumps(index))

    return changed


def _a_shard(folder: Path) -> Path:
    return sorted(folder.glob("model-*.safetensors"))[1]


SHARD_FAULTS: dict[str, tuple[Callable[[Path], Any], type[BundleError], str]] = {
    "missing shard": (
        lambda folder: _a_shard(folder).unlink(), CheckpointMissing, "but model.safetensors.index"),
    "truncated shard": (
        lambda folder: cut(_a_shard(folder).name, -10)(folder), CheckpointInvalid, "is truncated"),
    "index is no JSON": (cut(INDEX, 30), CheckpointInvalid, "no weight_map that can be read"),
    "index without a map": (write(INDEX, "{}"), CheckpointInvalid, "no weight_map"),
    "index with a list": (write(INDEX, '{"weight_map": []}'), CheckpointInvalid, "no weight_map"),
    "index leads away": (
        _index(lambda map_: map_.update(x="../other.safetensors")), CheckpointInvalid,
        "names '../other.safetensors' for 'x', expected a file of its folder"),
    "index promises more": (
        _index(lambda map_: map_.update(x=next(iter(map_.values())))), CheckpointInvalid,
        "says that x is in model-00001-of"),
}  # fmt: skip


@pytest.mark.parametrize(("damage", "kind", "message"), SHARD_FAULTS.values(), ids=SHARD_FAULTS)
def test_damaged_shards_are_one_sentence(sharded, tmp_path, damage, kind, message):
    folder = Path(shutil.copytree(sharded, tmp_path / "damaged"))
    damage(folder)
    refused(folder, kind, message)
