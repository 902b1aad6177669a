"""A whole run of `train lora` over videos: resumed after a kill."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import jsonschema
import numpy as np
import pytest
from safetensors.torch import load_file

from edgestream.models.families.reference import Reference
from edgestream.models.family import LoadOptions
from edgestream.runtime.errors import (
    AdapterMismatch,
    CheckpointInvalid,
    DialogueInvalid,
    OutputExists,
    OutputUnwritable,
    SettingsInvalid,
    UsageError,
)
from edgestream.training.dialogues import Dialogue, Turn, read_dialogues, write_dialogues
from edgestream.training.lora_model import LoraShape
from edgestream.training.lora_recipe import LoraChoice, LoraRecipe
from edgestream.training.lora_training import train_lora
from edgestream.training.run_folder import load_state

from ..reference_checkpoints import small_reference_checkpoint
from ..video_files import moving_texture, write_video

RECIPE = LoraRecipe(
    shape=LoraShape(rank=4, alpha=8, dropout=0.0), epochs=8, rows=4, row_tokens=120, rate=5e-3,
    held_out=0.2, checks=4,
)  # fmt: skip
CODE = """
import sys
from pathlib import Path
from edgestream.tests.training import test_lora_training as here
here.trained(Path(sys.argv[1]), Path(sys.argv[2]))
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A checkpoint, and five videos with what is to be said of them; features are made once."""
    return made_place(tmp_path_factory.mktemp("lora"))


def made_place(folder: Path) -> Path:
    """See `place`."""
    small_reference_checkpoint(folder / "base", looks_trained=True)
    dialogues = []
    for seed in range(5):
        pictures = [*moving_texture(6, (112, 112), seed), *moving_texture(6, (112, 112), seed + 50)]
        video = write_video(folder / f"{seed}.mp4", pictures, fps=4)
        turns = (Turn(1.5, "assistant", "The scene changes."), Turn(2.0, "user", "Is it dark?"),
                 Turn(2.0, "assistant", "No."))  # fmt: skip
        dialogues.append(Dialogue(video, turns))
    write_dialogues(folder / "clips.jsonl", dialogues)
    return folder


def chosen(place: Path, out: Path, **changes: object) -> LoraChoice:
    checkpoint = Reference().load(place / "base", LoadOptions())
    dialogues = read_dialogues(place / "clips.jsonl")
    recipe = replace(RECIPE, **changes)
    return LoraChoice(checkpoint, dialogues, (), out, place / "features", recipe, checkpoint_s=0.0)


def trained(place: Path, out: Path, **changes: object):
    return train_lora(chosen(place, out, **changes), lambda told: None)


def curve(out: Path) -> list[dict[str, float]]:
    points = [json.loads(line) for line in (out / "run/curve.jsonl").read_text().splitlines()]
    return [{name: value for name, value in one.items() if name not in ("seconds", "stage")}
            for one in points]  # fmt: skip


def started(place: Path, out: Path, **env: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", CODE, str(place), str(out)]
    return subprocess.Popen(command, env={**os.environ, "OMP_NUM_THREADS": "1", **env})


@pytest.fixture(scope="module")
def whole(place):
    """(folder, what came of it) of a run that nothing disturbed."""
    made = trained(place, place / "whole")
    assert made is not None
    return place / "whole", made


@pytest.mark.slow
def test_a_run_writes_an_adapter_and_says_what_it_gained(whole, place):
    out, made = whole
    assert 10 < made.steps < 24 and 0 < made.best_step <= made.steps
    assert {"adapter_config.json", "adapter_model.safetensors", "edgestream_adapter.json"} <= {
        one.name for one in out.iterdir()
    }
    assert made.after["loss"] < made.before["loss"] and made.before.keys() == made.after.keys()
    told = json.loads((out / "edgestream_adapter.json").read_text())
    assert told["trained"]["kept_step"] == made.best_step and told["trained"]["held_out"] == 1
    assert told["base"] == "reference-random"
    schema = Path(__file__).parents[2] / "runtime/schemas/adapter.json"
    jsonschema.validate(told, json.loads(schema.read_text()))
    held = [point["held_out"] for point in curve(out) if "held_out" in point]
    assert held and made.after["loss"] <= min(held) * (1 + 1e-5)
    with pytest.raises(OutputExists, match="is finished"):
        trained(place, out)
    with pytest.raises(UsageError, match="was begun with recipe"):
        (out / "run/state.safetensors").unlink()
        trained(place, out, seed=1)


@pytest.mark.slow
def test_ctrl_c_ends_the_step_and_keeps_it(whole, place, tmp_path):
    """Only Ctrl-C writes a checkpoint here; what goes on from it is the undisturbed run."""
    notes, choice = [], replace(chosen(place, tmp_path / "out"), checkpoint_s=1e9)
    before = signal.getsignal(signal.SIGINT)

    def tell(told):
        notes.append(told.note)
        if told.stage == "lora" and told.step == 3 and not told.note:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        train_lora(choice, tell)
    assert notes[-1] == "stopped after step 3: the same command goes on from there"
    state = load_state(tmp_path / "out" / "run")
    assert state is not None and (state.stage, state.step) == ("lora", 3)
    assert signal.getsignal(signal.SIGINT) is before
    made = train_lora(choice, lambda told: None)
    assert made is not None and made.steps == whole[1].steps
    assert curve(tmp_path / "out") == curve(whole[0])


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
    assert not (out / "adapter_config.json").exists()
    made = trained(place, out)
    assert made is not None and made.best_step == whole[1].best_step
    for ours, theirs in zip(curve(out), curve(whole[0]), strict=True):
        assert ours == pytest.approx(theirs, rel=1e-4)
    same_weights(out, whole[0])


def same_weights(one: Path, other: Path) -> None:
    ours, theirs = (load_file(folder / "adapter_model.safetensors") for folder in (one, other))
    assert ours.keys() == theirs.keys()
    for name, weight in ours.items():
        np.testing.assert_allclose(weight.numpy(), theirs[name].numpy(), rtol=2e-3, atol=2e-4)


@pytest.mark.medium
def test_what_cannot_be_trained_is_refused_before_anything_is_made(place, tmp_path):
    choice = chosen(place, tmp_path / "out")
    with pytest.raises(AdapterMismatch, match="no linear layer of that name") as caught:
        trained(place, tmp_path / "out", shape=LoraShape(targets=("q_proj", "c_attn")))
    assert "down_proj" in (caught.value.hint or "")
    with pytest.raises(CheckpointInvalid, match="not loaded whole"):
        large = replace(choice.checkpoint, stored_decoder=choice.checkpoint.decoder_weights())
        train_lora(replace(choice, checkpoint=large), lambda told: None)
    with pytest.raises(SettingsInvalid, match="no token for standby"):
        trained(place, tmp_path / "out", standby_s=1.0)
    with pytest.raises(SettingsInvalid, match="has 2048 positions"):
        trained(place, tmp_path / "out", row_tokens=4096)
    mute = replace(choice.checkpoint, layout=replace(choice.checkpoint.layout, silent_ids=()))
    with pytest.raises(SettingsInvalid, match="no token that says silence"):
        train_lora(replace(choice, checkpoint=mute), lambda told: None)
    strange = replace(choice.dialogues[0], turns=(Turn(0.0, "assistant", "A unicorn."),))
    with pytest.raises(DialogueInvalid, match=r"clips\.jsonl:1.*not in the vocabulary"):
        train_lora(replace(choice, dialogues=(strange,)), lambda told: None)
    assert not (tmp_path / "out").exists()


@pytest.mark.medium
def test_a_cache_that_cannot_be_leaves_the_old_run_where_it_is(place, tmp_path):
    (tmp_path / "out/run").mkdir(parents=True)
    (tmp_path / "out/run/begun.json").write_text("{}")
    (tmp_path / "cache").write_text("no folder")
    choice = replace(chosen(place, tmp_path / "out"), cache=tmp_path / "cache")
    with pytest.raises(OutputUnwritable, match="cache cannot be made"):
        train_lora(choice, lambda told: None, force=True)
    assert (tmp_path / "out/run/begun.json").is_file()
