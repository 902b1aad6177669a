"""What stands in deploy/ fits the program: its options exist and its settings are settings."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest

from edgestream.edge.cli import main

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
DOCKERFILES = sorted(DEPLOY.glob("Dockerfile.*"))


def options_of_serve(capsys):
    assert main(["serve", "--help"]) == 0
    return set(re.findall(r"--[a-z-]+", capsys.readouterr().out))


def served_with(text):
    """The arguments behind `serve`, of an ExecStart line or of a JSON entry point."""
    entry = re.search(r"^ENTRYPOINT (\[.*\])$", text, re.MULTILINE)
    words = json.loads(entry[1]) if entry else shlex.split(re.search(r"ExecStart=(.*)", text)[1])
    return words[words.index("serve") + 1 :]


@pytest.mark.parametrize(
    "file", [*DOCKERFILES, DEPLOY / "edgestream.service"], ids=lambda f: f.name
)
def test_the_options_exist(file, capsys):
    given = {word for word in served_with(file.read_text()) if word.startswith("--")}
    assert given and given <= options_of_serve(capsys)


def test_there_is_a_file_for_each_kind_of_device():
    assert [file.suffix for file in DOCKERFILES] == [".cpu", ".cuda", ".jetpack"]


@pytest.mark.parametrize("file", DOCKERFILES, ids=lambda f: f.name)
def test_whatever_listens_to_all_addresses_has_a_key_and_no_root(file):
    words, text = served_with(file.read_text()), file.read_text()
    assert words[words.index("--host") + 1] == "0.0.0.0" and "--api-key-file" in words
    assert text.index("\nUSER edgestream\n") < text.index("\nENTRYPOINT")
    for copied in re.findall(r"^COPY (?!--)(\S+) ", text, re.MULTILINE):
        assert (ROOT / copied).exists(), copied


def test_the_settings_are_settings(monkeypatch, capsys):
    monkeypatch.setenv("EDGESTREAM_SETTINGS", str(DEPLOY / "edgestream.toml"))
    assert main(["settings", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["settings"]["governor"]["target_fps"] == 4.0
    assert "password" not in shown["settings"]["service"]["cameras"]["door"]
