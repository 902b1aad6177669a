"""A bundle taken apart: what comes out runs without us and says the same."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest

from edgestream.edge.cli import main
from edgestream.export.hub_folder import unpack_bundle
from edgestream.export.hub_program import QUESTION
from edgestream.runtime.arena import Arena
from edgestream.runtime.bundle import open_bundle
from edgestream.runtime.engines.lane import OpenLane
from edgestream.runtime.engines.ort import OrtBackend
from edgestream.runtime.errors import (
    BundleFileRefused,
    CheckpointInvalid,
    CheckpointMissing,
    OutputExists,
)
from edgestream.runtime.language_model import LanguageModel
from edgestream.runtime.prompt import PromptParts, prompt_embeds
from edgestream.runtime.prompt_plan import planned_prompt, segment_positions

from ..bundles import write_small_bundle

pytest.importorskip("torch", reason="the law of families compares with PyTorch")

from .. import qwen2_5_vl_checkpoint, qwen3_vl_checkpoint
from ..models import test_smolvlm

ROOT = Path(__file__).parents[2]
REFERENCE = ROOT / "assets" / "reference"
# Whoever has left has none of these.
WITHOUT_US = "import sys\nfor name in ('edgestream', 'torch', 'transformers', 'onnx'):\n" \
             "    sys.modules[name] = None\n"  # fmt: skip


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory):
    """(bundle, folder) of the reference assistant."""
    folder = tmp_path_factory.mktemp("hub") / "reference"
    bundle = open_bundle(REFERENCE)
    unpack_bundle(bundle, folder)
    return bundle, folder


def engine_of(bundle, role):
    return OrtBackend("cpu").open(bundle.path(bundle.variant(role).file))


def ids_by_us(bundle, frames=()):
    """The ids of a greedy answer to `QUESTION`, by our runtime."""
    manifest, kv_dtype = bundle.manifest, bundle.variant("decoder").kv_dtype
    layout, arena = manifest.layout(), Arena(manifest.cache, manifest.positions, dtype=kv_dtype)
    said: list[int] = []
    with engine_of(bundle, "decoder") as engine:
        model = LanguageModel(engine, arena, bundle.token_rows(), OpenLane())
        parts = PromptParts(QUESTION, [(0.0, one) for one in frames])
        plan = planned_prompt(layout, encoder_of(bundle), parts, arena.capacity)
        embeds = np.concatenate([one.as_embeds(model.rows) for one in plan.segments])
        grid = arena.frame_grid
        places = None if grid is None else segment_positions(plan.segments, grid)
        logits = model.append(embeds, positions=places)
        while len(said) < layout.max_answer_tokens:
            best = int(logits.argmax())
            if best in layout.stop_ids:
                break
            said.append(best)
            logits = model.step(best)
    return said


def grey_frame(bundle):
    """Its embeds."""
    height, width = bundle.manifest.input.size_px
    pixels = np.zeros((1, 3, height, width), np.float32)
    with engine_of(bundle, "vision") as vision, engine_of(bundle, "connector") as connector:
        tokens = vision.run({"pixels": pixels})["tokens"]
        return connector.run({"tokens": tokens})["embeds"][0]


def encoder_of(bundle):
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(bundle.path("tokenizer.json")))
    return lambda text: tokenizer.encode(text, add_special_tokens=False).ids


def ids_by_the_card(folder):
    """What the program in README.md prints, in a process that has numpy and onnxruntime alone."""
    program = re.search(r"```python\n(.*?)```", (folder / "README.md").read_text(), re.DOTALL)
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_US + program[1]],
        cwd=folder, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def ids_by_genai(folder, prompt, most):
    og = pytest.importorskip("onnxruntime_genai", reason="it comes with the extra export")
    model = og.Model(str(folder))
    parameters = og.GeneratorParams(model)
    parameters.set_search_options(max_length=len(prompt) + most)
    generator = og.Generator(model, parameters)
    generator.append_tokens(np.array(prompt, np.int32))
    while not generator.is_done():
        generator.generate_next_token()
    ids = [int(one) for one in generator.get_sequence(0)[len(prompt) :]]
    stops = json.loads((folder / "genai_config.json").read_text())["model"]["eos_token_id"]
    stops = stops if isinstance(stops, list) else [stops]
    return ids[:-1] if ids and ids[-1] in stops else ids


def prompt_ids(bundle):
    """Of `QUESTION` without a frame."""

    def rows(ids):
        return np.array(ids, np.float32)[:, None]

    embeds = prompt_embeds(bundle.manifest.layout(), encoder_of(bundle), rows, (), QUESTION)
    return [int(one) for one in embeds[:, 0]]


@pytest.mark.medium
def test_numpy_and_onnxruntime_alone_say_the_same(unpacked):
    bundle, folder = unpacked
    said = ids_by_us(bundle)
    assert len(said) >= 2 and ids_by_the_card(folder) == said


def test_genai_says_the_same(unpacked):
    bundle, folder = unpacked
    said = ids_by_us(bundle)
    assert ids_by_genai(folder, prompt_ids(bundle), bundle.manifest.layout().max_answer_tokens) == (
        said
    )


# One position a token; three, and the frame's tokens in a grid; and rows wider than the table.
FAMILIES = {"smolvlm": test_smolvlm, "qwen2_5_vl": qwen2_5_vl_checkpoint,
            "qwen3_vl": qwen3_vl_checkpoint}  # fmt: skip


@pytest.fixture(scope="module", params=FAMILIES)
def seeing(request, tmp_path_factory):
    """(bundle, checkpoint) of a tiny model of the Hub, float32."""
    from edgestream.export.build import ExportChoice, export_bundle
    from edgestream.export.graphs import Schemes

    place = tmp_path_factory.mktemp("seeing")
    checkpoint, _ = FAMILIES[request.param].tiny_folder(place / "checkpoint", is_tied=False)
    choice = ExportChoice(schemes=Schemes.named("fp32", "fp32"), name="seeing")
    export_bundle(checkpoint, place / "bundle", choice, lambda *told: None)
    return open_bundle(place / "bundle"), checkpoint


@pytest.mark.slow
def test_a_frame_is_seen_the_same(seeing, tmp_path):
    bundle, checkpoint = seeing
    unpack_bundle(bundle, tmp_path / "hub", checkpoint)
    said = ids_by_us(bundle, [grey_frame(bundle)])
    assert len(said) >= 32 and len(set(said)) >= 10
    assert ids_by_the_card(tmp_path / "hub") == said
    answer = ids_by_us(bundle)
    assert answer != said, "the frame changes nothing"
    most = bundle.manifest.layout().max_answer_tokens
    assert ids_by_genai(tmp_path / "hub", prompt_ids(bundle), most) == answer
    config = json.loads((tmp_path / "hub" / "config.json").read_text())
    own = json.loads((checkpoint / "config.json").read_text())
    assert own.items() <= config.items() and config["model_type"] in FAMILIES
    unpack_bundle(bundle, tmp_path / "alone")
    transformers = pytest.importorskip("transformers", reason="it comes with the extra export")
    alone = transformers.AutoConfig.from_pretrained(tmp_path / "alone")
    assert alone.model_type == own["model_type"]
    assert alone.get_text_config().hidden_size == own["text_config"]["hidden_size"]


@pytest.mark.slow
def test_a_cache_of_half_precision_has_its_room_from_the_beginning(tmp_path):
    checkpoint, _ = test_smolvlm.tiny_folder(tmp_path / "checkpoint")
    out = tmp_path / "bundle"
    kept = ["--vision", "fp32", "--llm", "fp32", "--kv", "fp16", "--json"]
    assert main(["export", str(checkpoint), "--out", str(out), *kept]) == 0
    bundle = open_bundle(out)
    unpack_bundle(bundle, tmp_path / "hub")
    assert ", 512, one.shape[3]), types[one.type])" in (tmp_path / "hub/README.md").read_text()
    said, text = ids_by_us(bundle, [grey_frame(bundle)]), ids_by_us(bundle)
    assert len(said) >= 32 and len(set(said)) >= 10 and said != text
    assert ids_by_the_card(tmp_path / "hub") == said
    most = bundle.manifest.layout().max_answer_tokens
    assert ids_by_genai(tmp_path / "hub", prompt_ids(bundle), most) == text


def test_it_is_the_layout_that_people_expect(unpacked):
    bundle, folder = unpacked
    names = {file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file()}
    assert names == {
        "README.md", "config.json", "generation_config.json", "genai_config.json", "gate.json",
        "preprocessor_config.json", "prompt.json", "tokenizer.json", "tokenizer_config.json",
        "onnx/vision_encoder.onnx", "onnx/multi_modal_projector.onnx", "onnx/gate.onnx",
        "onnx/embed_tokens.onnx", "onnx/embed_tokens.onnx_data", "onnx/model.onnx",
        "onnx/decoder_model_merged.onnx", "onnx/decoder_model_merged.onnx_data",
    }  # fmt: skip
    card = (folder / "README.md").read_text()
    assert card.startswith("---\nlicense: apache-2.0\n") and bundle.sha256 in card
    for name in names - {"README.md"}:
        assert name.removesuffix("_data") in card or name.endswith(".json"), name
    for file in (folder / "onnx").glob("*.onnx"):
        graph = onnx.load(str(file), load_external_data=False).graph
        for tensor in graph.initializer:
            for entry in tensor.external_data:
                assert entry.key != "location" or f"onnx/{entry.value}" in names


def test_the_graphs_are_the_bundles(unpacked):
    """Vision, connector and gate give the very numbers of the bundle, under the Hub's names."""
    bundle, folder = unpacked
    rng = np.random.default_rng(0)
    for role, name, renamed in (
        ("vision", "vision_encoder", {"pixels": "pixel_values"}),
        ("connector", "multi_modal_projector", {"embeds": "image_features"}),
        ("gate", "gate", {}),
    ):
        with (
            engine_of(bundle, role) as ours,
            OrtBackend("cpu").open(folder / "onnx" / f"{name}.onnx") as theirs,
        ):
            inputs = {
                spec.name: rng.standard_normal(spec.shape).astype(np.float32)
                for spec in ours.inputs
            }
            got = theirs.run({renamed.get(key, key): value for key, value in inputs.items()})
            for key, value in ours.run(inputs).items():
                assert np.array_equal(value, got[renamed.get(key, key)]), (role, key)


def test_transformers_reads_its_configs(unpacked):
    transformers = pytest.importorskip("transformers", reason="it comes with the extra export")
    bundle, folder = unpacked
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    encode = encoder_of(bundle)
    assert tokenizer("Is it dark?", add_special_tokens=False).input_ids == encode("Is it dark?")
    layout = bundle.manifest.layout()
    assert (tokenizer.bos_token_id, tokenizer.eos_token_id) == (layout.bos_id, layout.stop_ids[0])
    generation = transformers.GenerationConfig.from_pretrained(folder)
    assert generation.max_new_tokens == layout.max_answer_tokens and not generation.do_sample
    made = json.loads((ROOT / "assets/reference-checkpoint/config.json").read_text())["text_config"]
    found = json.loads((folder / "config.json").read_text())
    assert found.pop("edgestream_family") == "reference" and found.pop("transformers.js_config")
    for key in set(found) - {"eos_token_id", "pad_token_id", "bos_token_id"}:
        assert found[key] == made[key], key
    config = transformers.AutoConfig.from_pretrained(folder)
    assert (config.model_type, config.hidden_size) == ("llama", made["hidden_size"])
    assert "has no\nmodel type for the family `reference`" in (folder / "README.md").read_text()


def test_families_go_by_the_names_that_transformers_has_for_them():
    transformers = pytest.importorskip("transformers", reason="it comes with the extra export")
    from edgestream.export.hub_configs import MODEL_TYPES
    from edgestream.models.families import FAMILIES

    known = transformers.CONFIG_MAPPING.keys()
    names = {name: [kind for kind in one.model_types if kind in known]
             for name, one in FAMILIES.items()}  # fmt: skip
    assert {name: kinds[0] for name, kinds in names.items() if kinds} == dict(MODEL_TYPES)


def test_the_checkpoints_own_configs_are_taken_over(unpacked, tmp_path):
    bundle, _ = unpacked
    checkpoint = tmp_path / "checkpoint"
    checkpoint.mkdir()
    shutil.copy(ROOT / "assets/reference-checkpoint/config.json", checkpoint)
    (checkpoint / "chat_template.jinja").write_text("{{ messages }}")
    unpack_bundle(bundle, tmp_path / "hub", checkpoint)
    config = json.loads((tmp_path / "hub" / "config.json").read_text())
    assert config["vision_config"]["patch_size"] == 16 and "transformers.js_config" in config
    assert (tmp_path / "hub" / "chat_template.jinja").read_text() == "{{ messages }}"
    config["text_config"]["hidden_size"] = 96
    (checkpoint / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointInvalid, match=r"has hidden_size 96, but .* has 192"):
        unpack_bundle(bundle, tmp_path / "other", checkpoint)
    (checkpoint / "config.json").unlink()
    with pytest.raises(CheckpointMissing, match=r"no config\.json"):
        unpack_bundle(bundle, tmp_path / "other", checkpoint)
    assert not (tmp_path / "other").exists()


@pytest.mark.medium
def test_what_stands_there_is_not_replaced(unpacked, tmp_path, capsys):
    bundle, _ = unpacked
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("dear")
    with pytest.raises(OutputExists):
        unpack_bundle(bundle, tmp_path / "mine", force=True)
    assert [file.name for file in (tmp_path / "mine").iterdir()] == ["letter.txt"]
    words = ["unpack", str(REFERENCE), "--out", str(tmp_path / "hub")]
    assert main(words) == 0 and main([*words, "--json"]) == 8
    capsys.readouterr()
    assert main([*words, "--json", "--force"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert "onnx/model.onnx" in told["files"] and told["bytes"] > 6_000_000


def test_a_bundle_without_a_language_model_is_refused(tmp_path):
    def without_embeddings(facts):
        del facts["embeddings"]

    write_small_bundle(tmp_path / "small", change_facts=without_embeddings)
    with pytest.raises(BundleFileRefused, match="no token embeddings"):
        unpack_bundle(open_bundle(tmp_path / "small"), tmp_path / "hub")
    assert not (tmp_path / "hub").exists()


@pytest.mark.medium
def test_it_needs_onnx_and_no_pytorch(tmp_path):
    program = "from edgestream.edge.cli import main\nsys.exit(main(sys.argv[1:]))"
    words = ["unpack", str(REFERENCE), "--out", str(tmp_path / "hub")]
    for without, code in (("onnx", 4), ("torch", 0)):
        hidden = f"import sys\nsys.modules[{without!r}] = None\n"
        done = subprocess.run(
            [sys.executable, "-c", hidden + program, *words],
            capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        assert done.returncode == code, done.stderr
        assert ("pip install onnx" in done.stderr) == (without == "onnx")
