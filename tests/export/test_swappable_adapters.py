"""Several adapters on one decoder: chosen per call, exact, and the base untouched without one."""

from __future__ import annotations

import copy
import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file

from edgestream.export.build import ExportChoice, export_bundle
from edgestream.export.graphs import Graph, Schemes
from edgestream.export.prove_decoder import left_of_weights
from edgestream.export.swappable_adapters import adapters_from_words, read_adapters
from edgestream.models.families import load_checkpoint
from edgestream.models.family import Checkpoint
from edgestream.quant.schemes import scheme_from_json
from edgestream.runtime.adapters import adapters_of
from edgestream.runtime.arena import Arena
from edgestream.runtime.bundle import Bundle, open_bundle
from edgestream.runtime.engines.lane import OpenLane
from edgestream.runtime.engines.ort import OrtBackend
from edgestream.runtime.errors import (
    AdapterMismatch,
    AdapterUnknown,
    BundleError,
    CheckpointInvalid,
    CheckpointMissing,
    InputMismatch,
    UsageError,
)
from edgestream.runtime.language_model import LanguageModel

from ..checkpoints import random_live_checkpoint
from ..lora_adapters import random_adapter as adapter

ALL = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
ANSWER = 64


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Any:
    """The base, the adapters, the bundle in float32 and twice in int4, the checkpoint's folder."""
    folder = tmp_path_factory.mktemp("adapters")
    source = random_live_checkpoint(folder / "checkpoint", seed=3)
    base = load_checkpoint(source)
    folders = {
        "calm": adapter(folder / "calm", base, 1),
        "brief": adapter(folder / "brief", base, 2, r=8, target_modules=ALL, use_rslora=True),
    }
    bundles = {}
    for scheme in ("fp32", "int4-32", "int4-32-a32"):
        choice = ExportChoice(schemes=Schemes.named("fp32", scheme), name="two", capacity=256,
                              adapters=folders)  # fmt: skip
        export_bundle(source, folder / scheme, choice, lambda *told: None)
        bundles[scheme] = open_bundle(folder / scheme)
    return base, folders, bundles, source


def model_of(bundle: Bundle) -> LanguageModel:
    variant = bundle.manifest.part("decoder").variants[0]  # type: ignore[union-attr]
    engine = OrtBackend("cpu", 1).open(bundle.path(variant.file), variant)
    turn = bundle.manifest.part("evict").variants[0]  # type: ignore[union-attr]
    evict = OrtBackend("cpu", 1).open(bundle.path(turn.file), turn)
    cache, positions = bundle.manifest.cache, bundle.manifest.positions
    assert cache is not None and positions is not None
    arena = Arena(cache, positions, dtype="float32", turn=evict)
    return LanguageModel(engine, arena, bundle.token_rows(), OpenLane())


def answer(model: LanguageModel, prompt: np.ndarray) -> tuple[list[int], list[np.ndarray]]:
    """ANSWER greedy tokens, and the logits that they were taken from."""
    model.arena.reset()
    logits = model.append(prompt).copy()
    ids, all_logits = [], []
    for _ in range(ANSWER):
        all_logits.append(logits)
        ids.append(int(logits.argmax()))
        logits = model.step(ids[-1]).copy()
    return ids, all_logits


def dequantized(base: Checkpoint, bundle: Bundle) -> Any:
    variant = bundle.manifest.part("decoder").variants[0]  # type: ignore[union-attr]
    assert variant.scheme is not None
    scheme = scheme_from_json(variant.scheme)
    graph = Graph("decoder", variant.id, bundle.path(variant.file), scheme)
    left = copy.deepcopy(base.decoder)
    left_of_weights(graph, base.decoder, left)
    return left


def read_by_peft(decoder: Any, folder: Path | None, rows: np.ndarray) -> Any:
    """(ANSWER, vocabulary) logits of PyTorch with the adapter unmerged, before each token."""
    model = copy.deepcopy(decoder)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing`", FutureWarning)
        if folder is not None:
            model = PeftModel.from_pretrained(model, str(folder))
    with torch.inference_mode():
        return model(inputs_embeds=torch.from_numpy(rows[None])).logits[0, -ANSWER:].numpy()


def read(model: LanguageModel, prompt: np.ndarray, ids: list[int]) -> np.ndarray:
    """Every row that the model had read when it chose the last of these ids."""
    return np.concatenate([prompt, model.rows(ids[:-1])])


@pytest.mark.slow
def test_each_adapter_says_what_pytorch_says_with_it_unmerged(made):
    base, folders, bundles, _ = made
    model, adapters = model_of(bundles["fp32"]), adapters_of(bundles["fp32"])
    prompt = model.rows(list(range(5, 30)))
    said: dict[str | None, list[int]] = {}
    for name in (None, "calm", "brief", None, "brief", "calm"):
        model.use(adapters.of(name))
        ids, logits = answer(model, prompt)
        assert said.setdefault(name, ids) == ids, "the same after others were in use"
        expected = read_by_peft(base.decoder, folders.get(name), read(model, prompt, ids))
        # Greedy, fed with what was said: the whole answer is PyTorch's own.
        assert expected.argmax(-1).tolist() == ids, name
        np.testing.assert_allclose(np.stack(logits), expected, atol=2e-4)
    assert max(len(set(ids)) for ids in said.values()) >= 10
    assert len({tuple(ids) for ids in said.values()}) == 3, "an adapter changed nothing"


@pytest.mark.slow
def test_on_an_int4_base_it_is_what_pytorch_says_over_what_is_left_of_the_weights(made):
    base, folders, bundles, _ = made
    model, adapters = model_of(bundles["int4-32"]), adapters_of(bundles["int4-32"])
    left, prompt = dequantized(base, bundles["int4-32"]), model.rows(list(range(5, 30)))
    for name, folder in folders.items():
        model.use(adapters.of(name))
        ids, logits = answer(model, prompt)
        rows = read(model, prompt, ids)
        expected = read_by_peft(left, folder, rows)
        # The engine rounds activations of int4 to int8; near ties of random weights may turn.
        cosine = np.sum(np.stack(logits) * expected, -1) / (
            np.linalg.norm(np.stack(logits), axis=-1) * np.linalg.norm(expected, axis=-1)
        )
        assert cosine.mean() > 0.995 and cosine.min() > 0.98
        assert np.mean(expected.argmax(-1) == ids) >= 0.8, name
        wrong = read_by_peft(left, None, rows)
        assert np.mean(wrong.argmax(-1) == ids) < 0.5, "the adapter makes the difference"


@pytest.mark.slow
def test_on_int4_with_float32_activations_it_says_what_pytorch_says(made):
    base, folders, bundles, _ = made
    bundle = bundles["int4-32-a32"]
    model, adapters = model_of(bundle), adapters_of(bundle)
    left, prompt = dequantized(base, bundle), model.rows(list(range(5, 30)))
    said: dict[str | None, list[int]] = {}
    for name in (None, "calm", "brief", "calm", None):  # swapped for each answer
        model.use(adapters.of(name))
        ids, logits = answer(model, prompt)
        assert said.setdefault(name, ids) == ids
        expected = read_by_peft(left, folders.get(name), read(model, prompt, ids))
        assert expected.argmax(-1).tolist() == ids, name
        np.testing.assert_allclose(np.stack(logits), expected, atol=2e-4)
    assert len({tuple(ids) for ids in said.values()}) == 3
    codes = [next(b.folder.glob("decoder*.data")).read_bytes() for b in
             (bundle, bundles["int4-32"])]  # fmt: skip
    assert codes[0] == codes[1], "the same weights, stored once"


@pytest.mark.slow
def test_without_an_adapter_the_graph_is_the_base_bit_for_bit(made, tmp_path):
    _, _, bundles, source = made
    bundle = bundles["int4-32"]
    choice = ExportChoice(schemes=Schemes.named("fp32", "int4-32"), name="base", capacity=256)
    export_bundle(source, tmp_path / "base", choice, lambda *told: None)
    plain = open_bundle(tmp_path / "base")
    prompt = model_of(plain).rows(list(range(5, 30)))
    for one, other in zip(answer(model_of(bundle), prompt)[1], answer(model_of(plain), prompt)[1],
                          strict=True):  # fmt: skip
        np.testing.assert_array_equal(one, other)
    sizes = [sum(file.stat().st_size for file in b.folder.glob("decoder*.data")) for b in
             (bundle, plain)]  # fmt: skip
    assert sizes[0] == sizes[1], "the base is stored once"


@pytest.mark.slow
def test_the_bundle_says_what_it_has_and_its_proof_ran_with_each(made):
    _, folders, bundles, _ = made
    bundle = bundles["int4-32"]
    facts = bundle.manifest.adapters
    assert facts is not None and [one.name for one in facts] == list(folders)
    # 3 layers: attention alone is in one packed matrix each, all linears are in four.
    assert [(one.rank, one.tensors) for one in facts] == [(4, 24), (8, 24)]
    gates = json.loads((bundle.folder / "parity.json").read_text())["gates"]
    named = [one["name"] for one in gates["engine"]["checks"] if "adapter" in one["name"]]
    assert {name.rsplit(" ", 1)[1] for name in named} == set(folders)


@pytest.mark.slow
def test_a_part_of_an_adapter_and_an_unknown_one_are_refused(made):
    bundle = made[2]["fp32"]
    model, adapters = model_of(bundle), adapters_of(bundle)
    whole = dict(adapters.of("calm"))
    left_out = min(whole)
    part = {name: array for name, array in whole.items() if name != left_out}
    prompt = model.rows(list(range(5, 30)))
    model.use(whole)
    before = answer(model, prompt)[0]
    with pytest.raises(InputMismatch):
        model.use(part)
    assert answer(model, prompt)[0] == before, "the old one stays"
    with pytest.raises(AdapterUnknown, match="base, calm, brief"):
        adapters.of("loud")
    wrong = {**whole, left_out: np.zeros((3, 4), np.float32)}
    with pytest.raises(InputMismatch, match=left_out.replace(".", r"\.")):
        model.use(wrong)


@pytest.mark.slow
def test_a_damaged_file_and_another_base_are_refused(made, tmp_path):
    import shutil

    bundle = made[2]["fp32"]
    folder = tmp_path / "damaged"
    shutil.copytree(bundle.folder, folder)
    file = folder / bundle.manifest.adapters[0].file
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(bytes(content))
    with pytest.raises(BundleError):
        open_bundle(folder)
    told = json.loads((bundle.folder / "manifest.json").read_text())
    told["adapters"][0]["base_sha256"] = "0" * 64
    from edgestream.runtime.manifest import manifest_from_json

    with pytest.raises(BundleError, match="calm"):
        manifest_from_json(told)


@pytest.mark.slow
def test_what_cannot_be_swapped_is_refused_before_anything_is_written(made, tmp_path):
    base = made[0]
    dora = adapter(tmp_path / "dora", base, 5, use_dora=True)
    with pytest.raises(CheckpointInvalid, match=r"use_dora.*plain LoRA"):
        read_adapters(base, {"dora": dora})
    head = adapter(tmp_path / "head", base, 6, target_modules=["q_proj", "lm_head"])
    with pytest.raises(CheckpointInvalid, match="lm_head"):
        read_adapters(base, {"head": head})
    torn = adapter(tmp_path / "torn", base, 7)
    weights = load_file(torn / "adapter_model.safetensors")
    name = min(weights)
    save_file({**weights, name: weights[name][:, :-1].contiguous()},
              torn / "adapter_model.safetensors")  # fmt: skip
    with pytest.raises(AdapterMismatch, match="expected"):
        read_adapters(base, {"torn": torn})
    save_file({key: one for key, one in weights.items() if key != name},
              torn / "adapter_model.safetensors")  # fmt: skip
    with pytest.raises(CheckpointInvalid, match="no pair"):
        read_adapters(base, {"torn": torn})


@pytest.mark.slow
def test_files_that_hold_no_adapter_are_refused(made, tmp_path):
    base = made[0]
    with pytest.raises(CheckpointMissing, match="adapter_config"):
        read_adapters(base, {"gone": tmp_path / "gone"})
    empty = adapter(tmp_path / "empty", base, 8)
    save_file({}, empty / "adapter_model.safetensors")
    with pytest.raises(CheckpointInvalid, match="no matrices"):
        read_adapters(base, {"empty": empty})
    config = empty / "adapter_config.json"
    for alpha in ("32", 1e308):
        told = adapter(tmp_path / f"alpha{alpha}", base, 9) / config.name
        told.write_text(json.dumps({**json.loads(told.read_text()), "lora_alpha": alpha}))
        with pytest.raises(CheckpointInvalid, match=r"lora_alpha|scales"):
            read_adapters(base, {"alpha": told.parent})


@pytest.mark.parametrize(
    "words",
    [
        ["calm"],
        ["=x"],
        ["base=x"],
        ["a=x", "a=y"],
        ["a/b=x"],
        ["a="],
        ["BASE=x"],
        ["a=x", "A=y"],
        ["a=x", "b=./x"],
    ],
)
def test_words_that_name_no_adapter_are_refused(words):
    with pytest.raises(UsageError, match="got --adapters") as caught:
        adapters_from_words(words)
    assert "NAME" in str(caught.value) or "name" in str(caught.value)
