"""A whole run of `train gate` over videos: what it learns, after a kill too, and for any base."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import jsonschema
import pytest
import torch
from safetensors.torch import load_file

from edgestream.models.cognition_gate import CognitionGate
from edgestream.models.families import load_checkpoint
from edgestream.models.gate_files import load_gate
from edgestream.runtime.errors import (
    DialogueInvalid,
    OutputExists,
    OutputUnwritable,
    SettingsInvalid,
    UsageError,
)
from edgestream.training.dialogues import Dialogue, Turn, read_dialogues, write_dialogues
from edgestream.training.gate_build import ExtractorSize
from edgestream.training.gate_recipe import GateChoice, GateRecipe
from edgestream.training.gate_training import train_gate

from ..checkpoints import random_live_checkpoint
from ..reference_checkpoints import small_reference_checkpoint
from ..video_files import moving_texture, write_video

RECIPE = GateRecipe(head="mlp", epochs=30, rows=4, row_frames=32, rate=5e-3, held_out=0.25)
CODE = """
import sys
from pathlib import Path
from edgestream.tests.training import test_gate_training as here
here.trained(Path(sys.argv[1]), Path(sys.argv[2]))
"""
CHANGES, DARK = "The scene changes.", "It gets dark."


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """Bases, and six clips, each twice: asked for the cut that is in it, and for what is not."""
    folder = tmp_path_factory.mktemp("gate")
    small_reference_checkpoint(folder / "base", looks_trained=True)
    random_live_checkpoint(folder / "live")
    dialogues, moments = [], []
    for seed in range(6):
        pictures = [*moving_texture(6, (112, 112), seed), *moving_texture(6, (112, 112), seed + 50)]
        video = write_video(folder / f"{seed}.mp4", pictures, fps=4)
        cut = Turn(1.5, "assistant", "Look at that!")  # in no word of the bases
        dialogues += [
            Dialogue(video, (Turn(0.0, "user", CHANGES), cut)),
            Dialogue(video, (Turn(0.0, "user", DARK), Turn(0.25, "user", "Is it dark?"),
                             Turn(0.25, "assistant", "No."))),
        ]  # fmt: skip
        moments.append(Dialogue(video, (cut,)))
    write_dialogues(folder / "clips.jsonl", dialogues)
    write_dialogues(folder / "moments.jsonl", moments)
    return folder


def chosen(place: Path, out: Path, base: str = "base", **changes: object) -> GateChoice:
    read = read_dialogues(place / ("clips.jsonl" if base == "base" else "moments.jsonl"))
    scored = read if base == "base" else ()  # what it was trained on: it is to learn it by heart
    return GateChoice(
        load_checkpoint(place / base), read, scored, out,
        place / f"features-{base}", replace(RECIPE, **changes), checkpoint_s=0.0,
    )  # fmt: skip


def trained(place: Path, out: Path, base: str = "base", **changes: object):
    return train_gate(chosen(place, out, base, **changes), lambda told: None)


def curve(out: Path) -> list[dict[str, float]]:
    points = [json.loads(line) for line in (out / "run/curve.jsonl").read_text().splitlines()]
    return [{name: value for name, value in one.items() if name != "seconds"} for one in points]


def started(place: Path, out: Path, **env: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", CODE, str(place), str(out)]
    return subprocess.Popen(command, env={**os.environ, "OMP_NUM_THREADS": "1", **env})


def checked_facts(out: Path) -> dict[str, object]:
    told = json.loads((out / "gate.json").read_text())
    schema = Path(__file__).parents[2] / "runtime/schemas/checkpoint_gate.json"
    jsonschema.validate(told, json.loads(schema.read_text()))
    return told


@pytest.fixture(scope="module")
def whole(place):
    """(folder, what came of it) of a run that nothing disturbed."""
    made = trained(place, place / "whole")
    assert made is not None
    return place / "whole", made


@pytest.mark.slow
def test_it_learns_when_to_speak_and_keeps_what_the_base_tells(place, whole):
    out, made = whole
    assert made.asked and made.steps == {"gate": 90} and 0 < made.best_steps["gate"] <= 90
    held = [one["held_out"] for one in curve(out) if "held_out" in one]
    assert made.figures["f1"] > 0.9 and made.figures["f1"] > made.figures["f1_unasked"]
    assert made.figures["loss"] <= min(held) * (1 + 1e-5) < held[0]
    told = checked_facts(out)
    assert told["architecture"]["query_dim"] == 64 and told["calibrated_on"]["frames"] == 144
    base = load_checkpoint(place / "base").gate
    gate, facts = load_gate(out, base.shape.dim, base.shape.tokens)
    assert facts.events == load_checkpoint(place / "base").gate_facts.events
    theirs = base.state_dict()
    for name, one in gate.state_dict().items():
        if not name.startswith(("speak.", "head.")):
            assert torch.equal(one, theirs[name]), name
    assert torch.equal(gate.head.weight, theirs["head.weight"][1:])
    with pytest.raises(OutputExists, match="is finished"):
        trained(place, out)
    with pytest.raises(UsageError, match="was begun with recipe"):
        (out / "run/state.safetensors").unlink()
        trained(place, out, seed=1)


@pytest.mark.slow
def test_a_run_that_is_killed_goes_on_as_if_nothing_had_been(whole, place, tmp_path):
    out = tmp_path / "cut"
    process = started(place, out)
    path, deadline = out / "run/curve.jsonl", time.monotonic() + 250
    try:
        while not (path.is_file() and '"step": 10' in path.read_text()):
            assert time.monotonic() < deadline and process.poll() is None
            time.sleep(0.02)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert not (out / "gate.json").exists()
    assert trained(place, out).best_steps == whole[1].best_steps
    assert curve(out) == curve(whole[0])
    ours, theirs = (load_file(folder / "gate.safetensors") for folder in (out, whole[0]))
    assert all(torch.equal(one, theirs[name]) for name, one in ours.items())


@pytest.mark.slow
def test_two_launched_processes_learn_as_one(whole, place, tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    launched = [
        started(place, tmp_path / "two", RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE="2",
                LOCAL_WORLD_SIZE="2", MASTER_ADDR="127.0.0.1", MASTER_PORT=port)
        for rank in range(2)
    ]  # fmt: skip
    assert [one.wait() for one in launched] == [0, 0]
    for ours, theirs in zip(curve(tmp_path / "two"), curve(whole[0]), strict=True):
        known = {name for name in theirs if name not in ("stage", "frames")}
        assert ours.keys() == theirs.keys() and ours["stage"] == theirs["stage"]
        for name in known:
            assert ours[name] == pytest.approx(theirs[name], rel=1e-3), name


@pytest.mark.slow
@pytest.mark.parametrize(("head", "last_spoke"), [("linear", False), ("linear", True),
                                                  ("llm-1", True)])  # fmt: skip
def test_a_base_without_a_gate_has_all_three_stages(place, tmp_path, head, last_spoke):
    made = trained(place, tmp_path, "live", head=head, epochs=4, rows=1, distil=8,
                   size=ExtractorSize(width=16, layers=1), last_spoke=last_spoke)  # fmt: skip
    assert list(made.steps) == ["extractor", "gate", "distil"] and not made.asked
    assert made.spoken == last_spoke
    told, heard = checked_facts(tmp_path), ["spoken"] if last_spoke else []
    assert told["events"] == [] and told["architecture"]["reads"] == ["summary", "motion", *heard]
    gate, _ = load_gate(tmp_path, 48, 10)
    assert gate.shape.width == 8 and made.parameters == sum(p.numel() for p in gate.parameters())
    terms = {name for one in curve(tmp_path) if one["stage"] == "distil" for name in one}
    assert "taught" in terms


@pytest.mark.slow
def test_without_anything_held_out_nothing_is_calibrated(place, tmp_path):
    made = trained(place, tmp_path, "live", head="linear", epochs=2, held_out=0.0)
    told = checked_facts(tmp_path)
    assert made.figures == {} and told["calibrated_on"] is None
    assert told["thresholds"] == {"speak": 0.5}


@pytest.mark.medium
def test_what_cannot_be_trained_is_refused_before_anything_is_made(place, tmp_path):
    choice = chosen(place, tmp_path / "out")

    def refused(error, words, **changes):
        with pytest.raises(error, match=words):
            train_gate(replace(choice, **changes), lambda told: None)

    refused(SettingsInvalid, "reads the state of its gate", recipe=replace(RECIPE, distil=8))
    refused(SettingsInvalid, "expected 4 or more", recipe=replace(RECIPE, head="llm-4"))
    live = chosen(place, tmp_path / "out", "live")
    for head, words in (("cross-frame", "over tokens"), ("cross-query", "over query")):
        with pytest.raises(SettingsInvalid, match=words):
            train_gate(replace(live, recipe=replace(RECIPE, head=head)), lambda told: None)
    strange = replace(choice.dialogues[0], turns=(Turn(0.0, "user", "A unicorn."),))
    refused(DialogueInvalid, r"clips\.jsonl:1.*not in the vocabulary", dialogues=(strange,))
    other = replace(choice.checkpoint, gate=torch.nn.Identity())
    refused(SettingsInvalid, "whose own gate makes", checkpoint=other)
    assert isinstance(choice.checkpoint.gate, CognitionGate) and not (tmp_path / "out").exists()


@pytest.mark.slow
def test_dialogues_that_only_answer_teach_no_gate(place, tmp_path):
    choice = chosen(place, tmp_path / "out")
    answers = tuple(one for one in choice.dialogues if one.turns[0].text == DARK)
    with pytest.raises(DialogueInvalid, match="say nothing unasked"):
        train_gate(replace(choice, dialogues=answers), lambda told: None)


@pytest.mark.medium
def test_a_cache_that_cannot_be_leaves_the_old_run_where_it_is(place, tmp_path):
    (tmp_path / "out/run").mkdir(parents=True)
    (tmp_path / "out/run/begun.json").write_text("{}")
    (tmp_path / "cache").write_text("no folder")
    choice = replace(chosen(place, tmp_path / "out"), cache=tmp_path / "cache")
    with pytest.raises(OutputUnwritable, match="cache cannot be made"):
        train_gate(choice, lambda told: None, force=True)
    assert (tmp_path / "out/run/begun.json").is_file()
