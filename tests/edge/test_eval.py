"""`edgestream eval reference`: what it refuses, and one line of a toy that was trained by us."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import jsonschema
import pytest

from edgestream.edge.cli import main
from edgestream.edge.commands.evaluate import print_lines
from edgestream.evaluation.reference_scores import Figure
from edgestream.evaluation.reference_table import Line
from edgestream.evaluation.world import frozen_set
from edgestream.runtime.errors import OutputUnwritable

SCHEMAS = Path(__file__).parents[2] / "runtime/schemas"


def test_something_must_be_named(capsys):
    assert main(["eval", "reference"]) == 2
    assert "--bundle" in capsys.readouterr().err


def test_a_bundle_that_is_not_there(tmp_path, capsys):
    assert main(["eval", "reference", "--bundle", str(tmp_path / "none"), "--json"]) == 3
    assert json.loads(capsys.readouterr().out)["error"]["code"] == "bundle-missing"


def test_a_bundle_is_compared_with_another_one_alone(capsys):
    assert main(["eval", "reference", "--checkpoint", "x", "--against", "assets/reference"]) == 2
    assert "--against without --bundle" in capsys.readouterr().err


@pytest.mark.slow
def test_a_bundle_has_lost_nothing_against_itself(capsys):
    bundle = str(Path(__file__).parents[2] / "assets" / "reference")
    command = ["eval", "reference", "--bundle", bundle, "--against", bundle, "--clips", "2"]
    main([*command, "--processes", "1", "--json"])
    line = json.loads(capsys.readouterr().out)
    jsonschema.validate(line, json.loads((SCHEMAS / "result.json").read_text()))
    assert line["against_sha256"] == line["bundle_sha256"]
    metrics = {one["name"]: one for one in line["metrics"]}
    less = {name: one for name, one in metrics.items() if name.endswith("_minus_against")}
    assert {name.removesuffix("_minus_against") for name in less} == metrics.keys() - less.keys()
    assert all(one["value"] in (0.0, None) and one["passed"] is not False for one in less.values())
    assert less["speak_f1_minus_against"]["must"] == -0.02


def test_more_clips_than_the_set_has_are_refused(capsys):
    command = ["eval", "reference", "--bundle", "none", "--clips"]
    assert main([*command, "2000"]) == 2
    assert f"expected 1 to {frozen_set().clips}" in capsys.readouterr().err
    assert main([*command, str(frozen_set().clips)]) == 3  # the bundle is not there
    assert main(["eval", "reference", "--help"]) == 0
    assert f"the set's {frozen_set().clips}" in " ".join(capsys.readouterr().out.split())


def test_a_bound_of_the_lower_end_is_a_closed_bracket(capsys):
    figure = Figure("recall_minus_against", 0.0, "1", 20, ci95=(-0.01, 0.01))
    print_lines([Line(figure, lowest=-0.02)])
    assert " [≥ -0.02] " in capsys.readouterr().err


@pytest.mark.medium
@pytest.mark.parametrize(
    ("picture", "code", "said"),
    [
        ("none/x.png", 8, "cannot be written"),
        (".", 2, "ends in .png"),
        ("x.xyz", 2, "ends in .png"),
        ("x", 2, "ends in .png"),
        ("x.PNG", 3, "no such"),  # the picture can be drawn; the bundle is not there
    ],
)
def test_a_picture_that_cannot_be_drawn_is_refused_first(picture, code, said, tmp_path, capsys):
    pytest.importorskip("matplotlib")
    command = ["eval", "reference", "--bundle", str(tmp_path / "bundle")]
    assert main([*command, "--picture", str(tmp_path / picture)]) == code
    assert said in capsys.readouterr().err and not list(tmp_path.iterdir())


def test_what_was_measured_is_told_before_it_is_drawn(tmp_path, capsys, monkeypatch):
    class Found:
        passed, as_json = True, staticmethod(lambda: {"clips": 1})

    def fails(path, found):
        raise OutputUnwritable("the disk is full", hint="")

    monkeypatch.setattr(
        "edgestream.edge.reference_evaluation.evaluate_reference", lambda *told, **more: Found
    )
    for name, instead in (("_draw", fails), ("_check_picture", print), ("_print_table", id)):
        monkeypatch.setattr(f"edgestream.edge.commands.evaluate.{name}", instead)
    assert main(["eval", "reference", "--bundle", "x", "--picture", "x.png"]) == 8
    out, err = capsys.readouterr()
    assert '{"clips": 1}' in out and "disk is full" in err


@pytest.mark.parametrize(
    ("made", "code", "said"),
    [(None, 5, "no such folder"), ("file", 5, "expected a folder"), ("folder", 2, "two or more")],
)
def test_footage_must_be_a_folder_of_clips(made, code, said, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("edgestream.edge.footage_evaluation.open_bundle", lambda folder: None)
    clips = tmp_path / "clips"
    if made == "file":
        clips.write_bytes(b"")
    elif made == "folder":
        clips.mkdir()
    assert main(["eval", "footage", str(clips), "--bundle", str(tmp_path)]) == code
    told = capsys.readouterr().err
    assert said in told and "try:" in told


@pytest.mark.slow
def test_a_bundle_of_another_family_is_refused(tmp_path, capsys):
    pytest.importorskip("torch", reason="checkpoints need the extra `export`")
    from ..checkpoints import random_live_checkpoint

    random_live_checkpoint(tmp_path / "live", has_gate=True)
    command = ["eval", "reference", "--checkpoint", str(tmp_path / "live"), "--clips", "1"]
    assert main([*command, "--processes", "1"]) == 3
    assert "rendered world" in capsys.readouterr().err


@pytest.mark.slow
def test_the_table_of_a_toy(tmp_path, capsys):
    pytest.importorskip("torch", reason="training needs the extra `train`")
    from ..training.test_reference_training import trained

    trained(tmp_path / "toy")
    picture = tmp_path / "clip.png"
    command = ["eval", "reference", "--checkpoint", str(tmp_path / "toy"), "--clips", "2"]
    code = main([*command, "--processes", "1", "--picture", str(picture), "--json"])
    line = json.loads(capsys.readouterr().out)
    assert code == 6 and line["passed"] is False  # a toy of a few steps knows nothing
    schema = json.loads((SCHEMAS / "result.json").read_text())
    jsonschema.validate(line, schema)
    metrics = {one["name"]: one for one in line["metrics"]}
    assert metrics["speak_f1"]["must"] == 0.85 and "rule" in metrics["speak_f1"]["baselines"]
    assert metrics["questions_own_text"]["n"] > 0
    assert line["frozen_set"] == {"truth_sha256": frozen_set().truth_sha256, "clips": 2}
    assert picture.read_bytes()[:4] == b"\x89PNG"


def workers_of(pid):
    """Processes that one has started, by their ids."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it ended meanwhile
            if stat.read_text().rpartition(")")[2].split()[1] == str(pid):
                found.append(int(stat.parent.name))
    return found


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="reads Linux's /proc")
def test_no_worker_outlives_a_command_that_was_killed():
    bundle = Path(__file__).parents[2] / "assets" / "reference"
    program = "import sys; from edgestream.edge.cli import main; main(sys.argv[1:])"
    command = ["eval", "reference", "--bundle", str(bundle), "--clips", "40", "--processes", "2"]
    ran = subprocess.Popen([sys.executable, "-c", program, *command], stdout=subprocess.DEVNULL)
    try:
        assert until(lambda: len(workers_of(ran.pid)) >= 3), "two workers and a resource tracker"
        workers = workers_of(ran.pid)
    finally:
        ran.kill()
        ran.wait()
    assert until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in workers)), workers


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="reads Linux's /proc")
@pytest.mark.parametrize("whom", ["the command", "its terminal"])
def test_an_interrupt_ends_the_command_and_its_workers(whom):
    bundle = Path(__file__).parents[2] / "assets" / "reference"
    program = "import sys; from edgestream.edge.cli import main; sys.exit(main(sys.argv[1:]))"
    command = ["eval", "reference", "--bundle", str(bundle), "--clips", "400", "--processes", "2"]
    ran = subprocess.Popen(
        [sys.executable, "-c", program, *command],
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    try:
        assert until(lambda: len(workers_of(ran.pid)) >= 3), "two workers and a resource tracker"
        workers = workers_of(ran.pid)
        (os.killpg if whom == "its terminal" else os.kill)(ran.pid, signal.SIGINT)
        told = ran.communicate(timeout=20)[1]
    finally:
        ran.kill()
        ran.wait()
    assert (ran.returncode, told.splitlines()) == (130, ["interrupted"])
    assert until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in workers)), workers


def until(holds, within_s=60.0):
    """Whether it holds, at the latest after so long."""
    end_s = time.monotonic() + within_s
    while not holds():
        if time.monotonic() > end_s:
            return False
        time.sleep(0.1)
    return True
