"""`edgestream inspect`: what people and programs read about a bundle."""

from __future__ import annotations

import json

import pytest

from edgestream.edge.bundle_text import inspection_lines, printable, scheme_text, size_text
from edgestream.edge.cli import main
from edgestream.runtime.bundle import open_bundle
from edgestream.runtime.manifest import manifest_from_json

from ..bundles import write_small_bundle


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return write_small_bundle(tmp_path_factory.mktemp("inspect") / "small")


@pytest.mark.medium
def test_people_read_what_it_is_made_of(bundle, capsys):
    assert main(["inspect", str(bundle)]) == 0
    lines = capsys.readouterr().out.splitlines()
    shown = "\n".join(lines)
    for words in (
        "small, format 1",
        open_bundle(bundle).sha256,
        "random, family live",
        "Apache-2.0",
        "8 x 8 px, squash, 2 fps, becomes 4 tokens",
        "1 layer, 1 head of 4, 32 positions (theta 10000)",
        "weights 150.6 MB, cache 23.6 MB, work 12.0 MB; keeps 64.0 MB by default",
        "on 64 frames, rendered test clips",
        "vision cosine_min 0.99981 (must be 0.99)",
        "not hashed: `edgestream verify` does that",
    ):
        assert words in shown, words
    assert [line.split()[0] for line in lines[-4:]] == ["vision", "gate", "connector", "decoder"]
    assert "int4 block 64 act int8" in lines[-1] and lines[-1].endswith("passed")


def test_programs_read_the_manifest(bundle, capsys):
    assert main(["inspect", "--json", str(bundle)]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    told, opened = json.loads(line), open_bundle(bundle)
    assert told["bundle_sha256"] == opened.sha256 and told["bytes"] == opened.n_bytes
    assert manifest_from_json(told["manifest"]) == opened.manifest


@pytest.mark.parametrize("columns", [40, 60, 67, 68, 80, 120])
def test_no_line_is_longer_than_the_terminal(bundle, columns):
    lines = inspection_lines(open_bundle(bundle, check="manifest"), columns)
    assert max(map(len, lines)) <= columns
    has_table = any(line.startswith("part ") for line in lines)
    assert has_table == (columns >= 68)  # a table where there is room
    assert all(line == line.rstrip() for line in lines)


def test_a_bundle_without_a_language_model_has_fewer_lines(tmp_path):
    def change(facts):
        for key in ("cache", "positions", "gate", "embeddings", "calibration", "memory"):
            facts.pop(key)
        facts["parts"] = facts["parts"][:1]
        facts["parts"][0]["variants"][0].pop("scheme")

    folder = write_small_bundle(tmp_path / "small", change_facts=change)
    shown = "\n".join(inspection_lines(open_bundle(folder), 80))
    assert "as trained" in shown and "every file hashed" in shown
    assert not any(label in shown for label in ("cache", "calibrated", "words", "memory"))


def test_a_bundle_does_not_write_to_the_terminal_behind_our_back(tmp_path, capsys):
    def change(facts):
        facts["name"] = "red\033[31m\nbundle        passed"
        facts["parts"][0]["variants"][0]["id"] = "cpu\033[2J"

    folder = write_small_bundle(tmp_path / "small", change_facts=change)
    assert main(["inspect", str(folder)]) == 0
    shown = capsys.readouterr().out
    assert "\033" not in shown and "red?[31m?bundle" in shown
    assert printable("a\tb\u202ec") == "a?b?c"


def test_what_is_no_bundle_is_exit_code_3(tmp_path, bundle, capsys):
    assert main(["inspect", str(tmp_path)]) == 3
    assert capsys.readouterr().err.startswith("error[bundle-missing]: got the bundle ")
    assert main(["inspect", "--json", str(tmp_path / "none")]) == 3
    assert json.loads(capsys.readouterr().out)["error"]["code"] == "bundle-missing"


@pytest.mark.parametrize(
    ("n_bytes", "text"),
    [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (75_600_000, "75.6 MB"), (2 * 10**9, "2.0 GB")],
)
def test_a_size_for_people(n_bytes, text):
    assert size_text(n_bytes) == text


def test_a_scheme_for_people():
    assert scheme_text(None) == "as trained"
    assert scheme_text({"weights": "int8", "symmetric": False}) == "int8 asymmetric"
