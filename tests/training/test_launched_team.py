"""`train lora` under torchrun and accelerate launch: as one process, killed, and shared out."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from edgestream.models import decoder_weights
from edgestream.models.families import load_checkpoint
from edgestream.runtime.errors import SettingsInvalid, UsageError
from edgestream.training.dialogues import read_dialogues
from edgestream.training.launched_team import launched_size
from edgestream.training.lora_recipe import LoraChoice
from edgestream.training.lora_stage import LoraStage
from edgestream.training.lora_training import train_lora
from edgestream.training.shared_base import without_weights
from edgestream.training.shared_checks import check_team
from edgestream.training.team import Team, lost_the_others

from ..checkpoints import random_live_checkpoint
from .test_lora_training import RECIPE, chosen, curve, made_place, same_weights, trained

TORCHRUN = ("torch.distributed.run", "--standalone", "--nproc-per-node", "2")
ACCELERATE = ("accelerate.commands.launch", "--num_processes", "2", "--main_process_port", "0")
RECIPE_WORDS = (
    "--rank 4 --alpha 8 --dropout 0 --epochs 8 --rows 4 --row-tokens 120 --rate 5e-3 "
    "--held-out 0.2 --checks 4 --device cpu --rehearse 0 --connector "
    "--round-to fp32"
)
RUN = """
import sys
from pathlib import Path
from edgestream.tests.training import test_launched_team as here
here.{what}(Path(sys.argv[1]), Path(sys.argv[2]))
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    return made_place(tmp_path_factory.mktemp("lora"))


@pytest.fixture(scope="module")
def whole(place) -> Path:
    """What one process makes of it."""
    trained(place, place / "whole")
    return place / "whole"


def launched(launcher: tuple[str, ...], *words: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", *launcher, *words]
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=280)


def as_a_user(launcher: tuple[str, ...], place: Path, out: Path, *more: str):
    no_python = "--no_python" if launcher[0].startswith("accelerate") else "--no-python"
    command = (no_python, sys.executable, "-m", "edgestream.edge.cli", "train", "lora")
    given = (str(place / "clips.jsonl"), "--base", str(place / "base"), "--out", str(out))
    cache = ("--cache", str(place / "features"))
    return launched(launcher, *command, *given, *cache, *RECIPE_WORDS.split(), *more)


def same_curve(out: Path, whole: Path) -> None:
    """But for `tokens`, which are those that the first process read."""
    for ours, theirs in zip(curve(out), curve(whole), strict=True):
        assert {**ours, "tokens": 0} == pytest.approx({**theirs, "tokens": 0}, rel=1e-5)
    same_weights(out, whole)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("launcher", "more"),
    [(TORCHRUN, ()), ((*ACCELERATE, "--multi_gpu"), ()), (TORCHRUN, ("--fsdp",))],
    ids=["torchrun", "accelerate", "fsdp"],
)
def test_two_launched_processes_learn_as_one(launcher, more, whole, place, tmp_path):
    done = as_a_user(launcher, place, tmp_path / "two", "--json", *more)
    assert done.returncode == 0, done.stderr
    (line,) = done.stdout.strip().splitlines()  # one of both tells
    assert json.loads(line)["adapter"] == str(tmp_path / "two")
    same_curve(tmp_path / "two", whole)
    tokens = [[point["tokens"] for point in curve(out) if "tokens" in point]
              for out in (tmp_path / "two", whole)]  # fmt: skip
    assert all(0 < own < 0.8 * alone for own, alone in zip(*tokens, strict=True))
    if more:
        told = re.search(r"base: ([\d.]+) MB of ([\d.]+) MB in each process", done.stderr)
        assert told and float(told[1]) < 0.75 * float(told[2])


@pytest.mark.slow
def test_accelerate_that_starts_one_of_two_is_found_out(place, tmp_path):
    done = as_a_user((*ACCELERATE, "--cpu"), place, tmp_path / "one")
    assert done.returncode != 0 and not (tmp_path / "one").exists()
    assert "has started one alone" in done.stderr and "--multi_gpu" in done.stderr


def shared_run(place: Path, out: Path) -> None:
    train_lora(replace(chosen(place, out), is_shared=True), lambda told: None)


def killed_run(place: Path, out: Path) -> None:
    """The second process is killed in its 13th step."""
    losses = LoraStage.losses

    def dies(self: LoraStage, step: int, progress: float):
        if step == 12 and self.team.rank == 1:
            os.kill(os.getpid(), 9)
        return losses(self, step, progress)

    LoraStage.losses = dies  # type: ignore[method-assign]
    try:
        shared_run(place, out)
    except Exception as error:
        print(f"told: {error}", file=sys.stderr, flush=True)
        raise


def program(folder: Path, what: str) -> str:
    path = folder / f"{what}.py"
    path.write_text(RUN.format(what=what))
    return str(path)


@pytest.mark.slow
def test_a_killed_process_ends_the_others_and_the_run_goes_on(whole, place, tmp_path):
    out = tmp_path / "cut"
    done = launched(TORCHRUN, program(tmp_path, "killed_run"), str(place), str(out))
    assert done.returncode != 0 and not (out / "adapter_config.json").exists()
    told = r"told: process 0 of 2 (has lost the others, one of which|was ended by its launcher)"
    assert re.search(told, done.stderr), done.stderr
    assert '"step": 10' in (out / "run/curve.jsonl").read_text()
    done = launched(TORCHRUN, program(tmp_path, "shared_run"), str(place), str(out))
    assert done.returncode == 0, done.stderr
    same_curve(out, whole)


def large_choice(place: Path, out: Path) -> LoraChoice:
    recipe = replace(RECIPE, rows=2, epochs=2, row_tokens=400)
    dialogues = read_dialogues(place / "clips.jsonl")
    return LoraChoice(
        load_checkpoint(place / "large"), dialogues, (), out, place / "seen", recipe,
        is_shared=decoder_weights.LARGEST_IN_MEMORY == 0,
    )  # fmt: skip


def large_run(place: Path, out: Path) -> None:
    decoder_weights.LARGEST_IN_MEMORY = 0
    choice = large_choice(place, out)
    assert choice.checkpoint.stored_decoder is not None
    train_lora(choice, lambda told: None)


@pytest.mark.slow
@pytest.mark.parametrize("is_tied", [True, False])
def test_a_decoder_that_stays_in_its_files_learns_as_one_in_memory(is_tied, place, tmp_path):
    os.symlink(place / "clips.jsonl", tmp_path / "clips.jsonl")
    for video in place.glob("*.mp4"):
        os.symlink(video, tmp_path / video.name)
    random_live_checkpoint(tmp_path / "large", is_tied=is_tied)
    train_lora(large_choice(tmp_path, tmp_path / "alone"), lambda told: None)
    words = (program(tmp_path, "large_run"), str(tmp_path), str(tmp_path / "two"))
    done = launched(TORCHRUN, *words)
    assert done.returncode == 0, done.stderr
    same_curve(tmp_path / "two", tmp_path / "alone")


def test_a_launcher_says_how_many_there_are():
    assert launched_size({}) == launched_size({"WORLD_SIZE": "1"}) == 1
    assert launched_size({"WORLD_SIZE": "4"}) == launched_size({"OMPI_COMM_WORLD_SIZE": "4"}) == 4
    accelerate = {"ACCELERATE_MIXED_PRECISION": "no"}
    assert launched_size(accelerate) == 1
    with pytest.raises(UsageError, match="has started one alone"):
        launched_size({**accelerate, "MASTER_ADDR": "127.0.0.1"})
    assert launched_size({**accelerate, "MASTER_ADDR": "127.0.0.1", "WORLD_SIZE": "2"}) == 2


@pytest.mark.medium
def test_what_processes_cannot_do_together_is_refused(place, tmp_path):
    choice = replace(chosen(place, tmp_path), is_shared=True)

    def refused(size: int, **changes: object) -> str:
        with pytest.raises(UsageError) as caught:
            check_team(replace(choice, recipe=replace(choice.recipe, **changes)), Team(0, size))
        return f"{caught.value} {caught.value.hint}"

    assert "in one process" in refused(1)
    assert "--rows 4 for 5 processes" in refused(5)
    assert "--rows 6" in refused(3)
    assert "--qlora" in refused(2, shape=replace(RECIPE.shape, is_nf4=True))
    assert "--rehearse" in refused(2, rehearse=8)
    assert issubclass(SettingsInvalid, UsageError)
    check_team(choice, Team(0, 2))
    check_team(replace(choice, is_shared=False), Team(0, 3))


def test_a_module_without_weights_takes_no_memory(place):
    decoder = load_checkpoint(place / "base").decoder
    bare = without_weights(decoder)
    assert [one.shape for one in bare.parameters()] == [one.shape for one in decoder.parameters()]
    assert all(one.untyped_storage().nbytes() == 4 for one in bare.parameters())
    assert all(torch.equal(*pair) for pair in zip(bare.buffers(), decoder.buffers(), strict=True))
    assert (bare.lm_head.weight is bare.get_input_embeddings().weight) == (
        decoder.lm_head.weight is decoder.get_input_embeddings().weight
    )
    left = without_weights(decoder.to("meta"))
    assert not any(one.is_meta for one in (*left.parameters(), *left.buffers()))


def test_what_is_told_of_a_lost_exchange_is_a_sentence():
    error = RuntimeError(
        "[/a/gloo/transport/tcp/pair.cc:537] Read error [127.0.0.1]:61132: Connection reset by "
        "peer. This is typically caused by a remote worker hanging. GLHF!"
    )
    assert str(lost_the_others(Team(1, 2), error)).endswith(
        "one of which broke off: Read error [127.0.0.1]:61132: Connection reset by peer"
    )
