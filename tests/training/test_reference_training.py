"""A whole run of a toy: resumed after a kill as if nothing had been, and shared by processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from edgestream.models.reference_checkpoint import load_reference
from edgestream.runtime.errors import OutputExists, UsageError
from edgestream.training.reference_recipe import budgets_of_steps
from edgestream.training.reference_training import TrainingChoice, train_reference

from .tiny import tiny_config, tiny_recipe

STEPS = {"vision": 30, "cache": 2, "text": 10, "stream": 10}
CODE = """
import sys
from pathlib import Path
from edgestream.tests.training import test_reference_training as here
here.trained(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
"""


def trained(out: Path, processes: int = 1, clips: int = 2):
    recipe = tiny_recipe(processes=processes, clips=clips, seed=4)
    budgets = budgets_of_steps(STEPS)
    choice = TrainingChoice(out, recipe, budgets, config=tiny_config(), checkpoint_s=0.0)
    return train_reference(choice, lambda told: None)


def begun(out: Path, processes: int = 1, clips: int = 2) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", CODE, str(out), str(processes), str(clips)]
    return subprocess.Popen(command, env={**os.environ, "OMP_NUM_THREADS": "1"})


def curve(out: Path) -> list[dict[str, object]]:
    points = [json.loads(line) for line in (out / "run/curve.jsonl").read_text().splitlines()]
    timed = ("seconds", "render_s")
    return [{key: value for key, value in one.items() if key not in timed} for one in points]


def numbers(point: dict[str, object]) -> list[float]:
    return [float(value) for value in point.values() if isinstance(value, int | float)]


def assert_same_weights(one: Path, other: Path) -> None:
    """Up to one digit of float16: sums in another process may round otherwise.

    A lost state of the optimiser, or a batch that is read again, moves weights by far more.
    """
    ours, theirs = (load_file(folder / "model.safetensors") for folder in (one, other))
    assert ours.keys() == theirs.keys()
    for name, weight in ours.items():
        expected = theirs[name].float()
        assert torch.allclose(weight.float(), expected, rtol=1e-3, atol=1e-4), name


@pytest.mark.slow
def test_a_run_that_is_killed_goes_on_as_if_nothing_had_been(tmp_path):
    whole = tmp_path / "whole"
    made = trained(whole)
    assert dict(made.steps) == STEPS
    with pytest.raises(OutputExists):
        trained(whole)
    cut = tmp_path / "cut"
    process = begun(cut)
    path = cut / "run/curve.jsonl"
    deadline = time.monotonic() + 100
    while not (path.is_file() and '"step": 10' in path.read_text()):
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (cut / "config.json").exists()
    trained(cut)
    for ours, theirs in zip(curve(cut), curve(whole), strict=True):
        assert list(ours) == list(theirs)
        assert numbers(ours) == pytest.approx(numbers(theirs), rel=1e-4)
    model, tokenizer, meaning = load_reference(cut)
    assert tokenizer.get_vocab_size() <= model.narrator.config.vocab_size
    assert meaning.calibrated_on is not None and meaning.calibrated_on["clips"] == 4
    told = json.loads((cut / "config.json").read_text())["trained"]
    assert told["steps"] == "vision=30,cache=2,text=10,stream=10" and told["seed"] == 4
    assert_same_weights(cut, whole)
    assert "I cannot tell" in (cut / "MODEL_CARD.md").read_text()


@pytest.mark.slow
def test_two_processes_learn_as_one_with_the_same_clips(tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    trained(one, processes=1, clips=4)
    assert begun(two, processes=2, clips=2).wait() == 0
    first, second = (
        [point for point in curve(out) if point["stage"] == "vision" and "speak" in point]
        for out in (one, two)
    )
    assert len(first) == len(second) == 3
    for name in ("speak", "events", "patch"):
        assert second[0][name] == pytest.approx(first[0][name], rel=1e-3)
        assert second[2][name] == pytest.approx(first[2][name], rel=2e-2)


def test_a_run_of_another_recipe_is_not_gone_on_with(tmp_path):
    from edgestream.training.run_folder import begin_or_continue

    begin_or_continue(tmp_path / "run", {"recipe": tiny_recipe(seed=5).as_json(), "budgets": {}})
    with pytest.raises(UsageError, match="was begun with"):
        trained(tmp_path)
