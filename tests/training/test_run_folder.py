"""The state of a run: whole or not there, and never mixed with another run's."""

from __future__ import annotations

import resource

import pytest
import torch

from edgestream.runtime.errors import CheckpointInvalid, OutputUnwritable, UsageError
from edgestream.training.curve import Curve
from edgestream.training.run_folder import (
    BEGUN_FILE,
    STATE_FILE,
    RunState,
    begin_or_continue,
    load_state,
    save_state,
)


def test_a_state_comes_back_as_it_was(tmp_path):
    tied = torch.arange(6.0).reshape(2, 3)
    state = RunState("text", 7, 12.5, {"vision": 3}, {"a": tied, "b": tied}, {"x": [1, None]})
    assert load_state(tmp_path) is None
    save_state(tmp_path, state)
    save_state(tmp_path, state)
    found = load_state(tmp_path)
    assert found is not None
    assert (found.stage, found.step, found.seconds) == ("text", 7, 12.5)
    assert found.done == {"vision": 3} and found.notes == {"x": [1, None]}
    assert torch.equal(found.tensors["b"], tied)
    assert [path.name for path in tmp_path.iterdir()] == [STATE_FILE]


@pytest.mark.parametrize("cut", [0, 9, 100])
def test_a_damaged_state_is_refused(tmp_path, cut):
    save_state(tmp_path, RunState("text", tensors={"a": torch.ones(50)}))
    path = tmp_path / STATE_FILE
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(CheckpointInvalid):
        load_state(tmp_path)


def test_a_full_disk_keeps_the_checkpoint_before(tmp_path):
    save_state(tmp_path, RunState("text", 3, tensors={"a": torch.ones(50)}))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, limits[1]))
    try:
        with pytest.raises(OutputUnwritable, match="cannot be written"):
            save_state(tmp_path, RunState("text", 4, tensors={"a": torch.ones(50_000)}))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    found = load_state(tmp_path)
    assert found is not None and found.step == 3
    assert [path.name for path in tmp_path.iterdir()] == [STATE_FILE]


def test_a_run_goes_on_with_its_own_recipe_alone(tmp_path):
    begin_or_continue(tmp_path / "run", {"seed": 1, "shares": (0.5, 0.5)})
    begin_or_continue(tmp_path / "run", {"seed": 1, "shares": [0.5, 0.5]})
    with pytest.raises(UsageError, match="seed = 1, got 2"):
        begin_or_continue(tmp_path / "run", {"seed": 2, "shares": (0.5, 0.5)})


def test_a_run_that_was_begun_with_something_else_is_told_by_its_first_difference(tmp_path):
    recipe = {"recipe": {"rate": 0.001, "loss": {"weight": 1.0}}}
    begin_or_continue(tmp_path / "run", recipe)
    other = {"recipe": {"rate": 0.001, "loss": {"weight": 2.0}}}
    with pytest.raises(UsageError, match=r"recipe\.loss\.weight = 1\.0, got 2\.0"):
        begin_or_continue(tmp_path / "run", other)


@pytest.mark.parametrize("damaged", [b"", b'{"seed": 1', b"\xff{}", b"[1]", b"[" * 100_000])
def test_a_damaged_beginning_is_refused_with_its_file(tmp_path, damaged):
    (tmp_path / BEGUN_FILE).write_bytes(damaged)
    with pytest.raises(CheckpointInvalid, match=r"begun\.json cannot be read") as caught:
        begin_or_continue(tmp_path, {"seed": 1})
    assert "--force" in (caught.value.hint or "")
    assert (tmp_path / BEGUN_FILE).read_bytes() == damaged


def test_a_place_where_no_folder_can_be_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputUnwritable, match="cannot be made"):
        begin_or_continue(tmp_path / "file" / "run", {})


def test_a_curve_forgets_what_came_after_the_checkpoint(tmp_path):
    curve = Curve(tmp_path, ("one", "two"), ("one", 0))
    for stage, step in (("one", 10), ("one", 20), ("two", 5), ("two", 10)):
        curve.add(stage, step, {"loss": 1 / 3})
    curve.close()
    path = tmp_path / "curve.jsonl"
    path.write_text(path.read_text() + '{"stage": "two", "st')  # what a crash leaves
    Curve(tmp_path, ("one", "two"), ("two", 5)).close()
    assert [line[17:30] for line in path.read_text().splitlines()] == [
        '"step": 10, "', '"step": 20, "', '"step": 5, "l',
    ]  # fmt: skip


def test_tensorboard_shows_the_same_points(tmp_path):
    board = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    curve = Curve(tmp_path, ("one", "two"), ("one", 0))
    for stage, step in (("one", 10), ("two", 5), ("two", 10)):
        curve.add(stage, step, {"loss": step / 2, "name": "not a number"})
    curve.close()
    again = Curve(tmp_path, ("one", "two"), ("two", 5))
    again.add("two", 10, {"loss": 7.0})
    again.close()
    shown = {}
    for stage in ("one", "two"):
        read = board.EventAccumulator(str(tmp_path / "tensorboard" / stage)).Reload()
        assert read.Tags()["scalars"] == ["loss"]
        shown[stage] = [(point.step, point.value) for point in read.Scalars("loss")]
    assert shown == {"one": [(10, 5.0)], "two": [(5, 2.5), (10, 7.0)]}
