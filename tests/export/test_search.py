"""`export --search`: what it tries, that it exports what it chose, and what it writes down."""

from __future__ import annotations

import json

import pytest

from edgestream.edge.cli import main
from edgestream.export.build import ExportChoice, export_bundle
from edgestream.export.graphs import Schemes
from edgestream.export.search import SearchChoice, search_bundle, words_of
from edgestream.quant.schemes import PART_NAMES, SCHEMES, scheme_named
from edgestream.runtime.bundle import open_bundle
from edgestream.runtime.engine import backend_for
from edgestream.runtime.errors import OutputExists, ParityFailed
from edgestream.runtime.golden_check import check_golden

from ..checkpoints import random_live_checkpoint
from .test_build import spoilt

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def checkpoint_folder(tmp_path_factory):
    return random_live_checkpoint(tmp_path_factory.mktemp("checkpoint") / "tiny")


VISION, LLM = ("fp32", "int8"), ("int8-32", "int4-64", "int4-128", "nf4-64")
SEARCH = SearchChoice(rounds=3, vision=VISION, llm=LLM)


def silent(*words):
    """Nobody listens."""


def test_every_scheme_of_a_part_is_tried_once():
    for part, names in PART_NAMES.items():
        words = words_of(part)
        assert [scheme_named(word, part) for word in words] == [
            scheme for scheme in SCHEMES.values() if scheme.name in names.values()
        ]


@pytest.fixture(scope="module")
def searched(checkpoint_folder, tmp_path_factory):
    target = tmp_path_factory.mktemp("bundles") / "tiny"
    told: list[tuple[str, str]] = []
    choice = ExportChoice(schemes=Schemes.named("fp32", "fp32"), name="tiny")
    made = search_bundle(
        checkpoint_folder, target, choice, SEARCH,
        lambda stage, part: told.append((stage, part)),
    )  # fmt: skip
    return target, made, told


def test_the_bundle_is_sound_and_says_how_it_was_chosen(searched):
    target, made, told = searched
    bundle = open_bundle(target)
    assert made.report.passed
    assert all(result.passed for result in check_golden(bundle, backend_for))
    found = json.loads((target / "search.json").read_text())
    manifest = json.loads((target / "manifest.json").read_text())
    chosen = made.searched.choice.chosen
    assert (found["vision"], found["llm"]) == (chosen.vision, chosen.llm)
    assert {key: found[key] for key in manifest["search"]} == manifest["search"]
    assert len(found["candidates"]) == len(VISION) * len(LLM) == len(made.searched.rows)
    passed = [one for one in found["candidates"] if one["passed"]]
    assert min(passed, key=lambda one: one["busy_ms"]) == passed[0]
    assert all(len(one["busy_ms_rounds"]) == 3 for one in passed)
    (row,) = (one for one in passed if (one["vision"], one["llm"]) == (chosen.vision, chosen.llm))
    assert row["bytes"] < sum(entry["bytes"] for entry in manifest["files"].values())
    page = (target / "report.html").read_text()
    assert made.searched.choice.because in page and "CPU share" in page
    measured = [part for stage, part in told if stage == "measuring"]
    assert measured == [
        f"{part} {word}"
        for part, words in (("vision", VISION), ("decoder", LLM[:2]))
        for word in words
    ]
    wide = [one for one in found["candidates"] if one["llm"] == "int4-128"]
    assert wide and all("narrower than a block" in one["why_not"] for one in wide)


def test_it_is_the_bundle_that_the_chosen_words_give(searched, checkpoint_folder, tmp_path):
    target, made, _ = searched
    chosen = made.searched.choice.chosen
    schemes = Schemes.named(chosen.vision, chosen.llm)
    export_bundle(checkpoint_folder, tmp_path / "tiny", ExportChoice(schemes, "tiny"), silent)
    told_otherwise = {"manifest.json", "manifest.json.sha256", "report.html", "search.json"}
    for file in (tmp_path / "tiny").iterdir():
        if file.name not in told_otherwise:
            assert file.read_bytes() == (target / file.name).read_bytes(), file.name
    assert {file.name for file in target.iterdir()} == {
        file.name for file in (tmp_path / "tiny").iterdir()
    } | {"search.json"}


def test_no_more_than_two_ways_of_keeping_a_part_lie_on_disk(
    checkpoint_folder, tmp_path, monkeypatch
):
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    seen: list[int] = []

    def count(stage: str, part: str) -> None:
        seen.append(sum(graph.stat().st_size > 0 for graph in temporary.glob("*/*/*.onnx")))

    choice = ExportChoice(schemes=Schemes.named("fp32", "fp32"), name="tiny")
    search = SearchChoice(rounds=3, vision=("fp32", "int8"), llm=("fp32", "int8", "int4-128"))
    search_bundle(checkpoint_folder, tmp_path / "bundle", choice, search, count)
    # Of each: vision and connector, or decoder and evict. Before the export itself none is left.
    assert max(seen) == 4 and seen[-1] == 0 and list(temporary.iterdir()) == []


def test_a_plan_that_ruins_a_layer_is_told_and_not_chosen(checkpoint_folder, tmp_path):
    spoilt(checkpoint_folder, tmp_path / "spoilt", "layers.1.mlp.up_proj")
    choice = ExportChoice(schemes=Schemes.named("fp32", "fp32"), name="tiny")
    search = SearchChoice(rounds=3, vision=("fp32",), llm=("fp32", "int4-64"))
    made = search_bundle(tmp_path / "spoilt", tmp_path / "bundle", choice, search, silent)
    (why,) = (row.why_not for row in made.searched.rows if not row.passed)
    assert "layers.1.mlp.up_proj" in why and "gate snr_db" in why
    assert made.searched.choice.chosen.llm == "fp32"


def test_where_no_plan_passes_there_is_no_bundle(checkpoint_folder, tmp_path, monkeypatch):
    monkeypatch.setattr("edgestream.calibration.parity.FLOAT_ERROR", -1.0)  # nothing is so good
    choice = ExportChoice(schemes=Schemes.named("fp32", "fp32"), name="tiny")
    with pytest.raises(ParityFailed, match=r"none of \d+ plans passes") as fault:
        search = SearchChoice(rounds=3, vision=("fp32",), llm=("fp32",))
        search_bundle(checkpoint_folder, tmp_path / "bundle", choice, search, silent)
    assert fault.value.exit_code == 6 and list(tmp_path.iterdir()) == []


def test_a_place_that_is_taken_is_told_before_anything_is_tried(checkpoint_folder, tmp_path):
    (tmp_path / "mine").write_text("kept")
    choice = ExportChoice(schemes=Schemes.named("fp32", "fp32"), name="tiny")
    with pytest.raises(OutputExists):
        search_bundle(tmp_path / "none", tmp_path, choice, SearchChoice(), silent)


@pytest.mark.parametrize("workload", ["", "4", "4,2,1", "a,b", "0,0", "-1,2", "nan,1", "inf,1"])
def test_a_workload_of_nothing_is_refused(checkpoint_folder, tmp_path, capsys, workload):
    arguments = ["export", str(checkpoint_folder), "--out", str(tmp_path / "b"), "--search"]
    assert main([*arguments, "--workload", workload]) == 2
    assert "expected two numbers" in capsys.readouterr().err and list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("among", ["int4", "int8-static", "int8,int3", ",", "int8,nothing"])
def test_schemes_that_no_search_can_try_are_refused(checkpoint_folder, tmp_path, capsys, among):
    arguments = ["export", str(checkpoint_folder), "--out", str(tmp_path / "b"), "--search"]
    assert main([*arguments, "--among", among]) == 2
    assert "scheme-unknown" in capsys.readouterr().err and list(tmp_path.iterdir()) == []


def test_the_command_shows_the_table(checkpoint_folder, tmp_path, capsys):
    arguments = ["export", str(checkpoint_folder), "--out", str(tmp_path / "b"), "--search"]
    more = ["--workload", "0,5", "--rounds", "3", "--among", "int8,int4"]
    assert main([*arguments, *more]) == 0
    out, err = capsys.readouterr()
    assert "chosen" in out and "tok/s" in out and "0 frames and 5 tokens a second" in out
    assert "trying decoder int4 " in err
