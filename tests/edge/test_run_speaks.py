"""`edgestream run --bundle` with a small model that has learned to see and to speak."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import signal
import subprocess
import time

import numpy as np
import pytest

from edgestream.edge.cli import main
from edgestream.runtime.bundle import hash_line, sha256_of_file

from ..video_files import write_video
from .test_run import (  # noqa: F401 - the fixture is used by being there
    COMMAND,
    in_an_empty_folder,
    records_of,
    run_in_a_process,
)

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

CONTINUOUS = ["--set", "context.kind=continuous"]
# How well the small model sees is not the matter here: it may take a circle for a square.
WENT = r"The red \w+ went away and a green \w+ came\."
NOW = r"There is a green \w+ in the picture now\."
BEFORE = r"Before that there was a \w+ \w+\."


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    """The trained checkpoint as a float32 bundle."""
    pytest.importorskip("torch")
    from edgestream.export.build import ExportChoice, export_bundle
    from edgestream.export.graphs import Schemes

    from ..trained_checkpoint import trained_live_checkpoint

    folder = tmp_path_factory.mktemp("bundles") / "painted"
    choice = ExportChoice(schemes=Schemes.named("fp32", "fp32"), name="painted", capacity=256)
    export_bundle(trained_live_checkpoint().folder, folder, choice, lambda stage, part: None)
    return folder


@pytest.fixture
def clip(tmp_path):
    """A red circle for two seconds, then a green square for two."""
    from ..painted_streams import painted

    random = np.random.default_rng(11)
    first, second = painted("red", "circle", random), painted("green", "square", random)
    pictures = [*[first] * 20, *[second] * 20]
    return write_video(tmp_path / "two.mkv", pictures, fps=10, codec="ffv1", pix_fmt="bgr0")


def finals(text):
    return [record for record in records_of(text) if record["type"] == "final"]


def test_it_speaks_of_its_own_accord_and_answers(bundle, clip, capsys):
    asks = ["--ask", "2.5:What is there now?", "--ask", "What was there before?"]
    token = ["--gate", "token", *CONTINUOUS, "--set", "context.skip_still=false", "--fps", "1"]
    assert main(["run", str(clip), "--bundle", str(bundle), *token, *asks]) == 0
    out, err = capsys.readouterr()
    expected = (
        f"   0:02.00  → {WENT}\n"
        rf"   0:02.50  What is there now\?\n            → {NOW}\n"
        rf"   0:04.00  What was there before\?\n            → {BEFORE}\n"
    )
    assert re.fullmatch(expected, out), out
    assert "3 answers and descriptions, nothing dropped" in err


def test_records_of_a_run_that_speaks(bundle, clip, capsys):
    ask = ["--ask", "1.5:What is there now?", "--set", "session.partials_every_s=0"]
    assert main(["run", str(clip), "--bundle", str(bundle), "--jsonl", "-", *ask]) == 0
    records = records_of(capsys.readouterr().out)
    (final,) = [record for record in records if record.get("question")]
    assert final["question"] == "What is there now?" and final["about_s"][1] == 1.5
    assert final["context"] == "recent" and 0 < final["first_token_ms"] <= final["total_ms"]
    partials = [one["text"] for one in records if one.get("turn_id") == final["turn_id"]][:-1]
    assert len(partials) > 3
    assert all(final["text"].startswith(text) for text in partials)
    stats = records[-1]
    assert stats["turns"] == len([one for one in records if one["type"] == "final"])
    assert stats["bytes_kept"] > 0 and stats["lane"]["speak"]["holds"] > 0


def test_the_same_file_gives_the_same_words(bundle, clip, capsys):
    said = []
    for seed in (1, 1, 2):
        chosen = ["--set", "session.temperature=2", "--set", f"session.seed={seed}"]
        ask = ["--ask", "0.5:What is there now?", "--ask", "3:How long?", *chosen]
        assert main(["run", str(clip), "--bundle", str(bundle), "--jsonl", "-", *ask]) == 0
        said.append([final["text"] for final in finals(capsys.readouterr().out)])
    assert said[0] == said[1] != said[2]


def test_an_answer_is_no_longer_than_was_chosen(bundle, clip, capsys):
    asks = ["--ask", "3:What is there now?", "--set", "session.max_answer_tokens=2"]
    run = ["run", str(clip), "--bundle", str(bundle), "--jsonl", "-", "--gate", "never"]
    assert main([*run, *asks]) == 0
    (final,) = finals(capsys.readouterr().out)
    assert 0 < len(final["text"].split()) <= 2


def test_questions_of_a_pipe(bundle, clip):
    process = run_in_a_process(
        str(clip), "--bundle", str(bundle), "--ask", "-", "--gate", "never",
        stdin=subprocess.PIPE,
    )  # fmt: skip
    out, errors = process.communicate("0:99:What?\n2.5:What is there now?\n", timeout=60)
    assert process.returncode == 0 and "not asked: got the time '0:99'" in errors
    assert out.startswith("   0:02.50  What is there now?\n            → ")


def test_a_list_of_questions_is_never_too_long(bundle, clip, capsys):
    asks = [word for n in range(4) for word in ("--ask", f"{n}:What is there now?")]
    few = ["--set", "session.questions_waiting=1", "--gate", "never"]
    assert main(["run", str(clip), "--bundle", str(bundle), *asks, *few]) == 0
    out, err = capsys.readouterr()
    assert out.count("What is there now?") == 4 and "4 answers and descriptions" in err
    process = run_in_a_process(
        str(clip), "--bundle", str(bundle), "--ask", "-", *few, stdin=subprocess.PIPE
    )
    out, errors = process.communicate("1:What is there now?\n" * 4, timeout=60)
    assert out.count("What is there now?") == 4 and "not asked" not in errors


def test_to_wait_for_questions_is_no_watching(bundle, clip):
    process = run_in_a_process(
        str(clip), "--bundle", str(bundle), "--ask", "-", "--gate", "never",
        stdin=subprocess.PIPE,
    )  # fmt: skip
    assert process.stderr.readline() == "reading questions from stdin until it ends\n"
    time.sleep(3)
    _, errors = process.communicate("1:What is there now?\n", timeout=60)
    assert float(re.search(r"watched in ([0-9.]+) s", errors)[1]) < 3


def test_questions_are_typed_while_it_runs(bundle, clip):
    child, ours = pty.fork()
    if child == 0:
        run = ["run", str(clip), "--bundle", str(bundle), "--realtime", "--gate", "never"]
        os.execv(COMMAND[0], [*COMMAND, *run])
    shown = until(ours, "", "Type a question and press Enter; Ctrl-C ends.\r\n")
    time.sleep(0.5)
    os.write(ours, b"What is there now?\n")
    shown = until(ours, shown, "\u2192 ")
    time.sleep(0.2)
    os.write(ours, b"\x03")
    shown = until(ours, shown, "interrupted")
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 130
    os.close(ours)
    assert "two:" not in shown and "of 0:04" not in shown, "no bar moves through what is typed"
    assert "  What is there now?\r\n            → " in shown and "Traceback" not in shown


def until(terminal, shown, expected):
    """What the terminal shows, up to where it shows `expected`."""
    while expected not in shown:
        assert select.select([terminal], [], [], 30)[0], shown
        shown += os.read(terminal, 4096).decode()
    return shown


@pytest.mark.parametrize("way", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("more", [[], ["--realtime"]])
def test_who_leaves_while_it_speaks_still_gets_what_was_said(bundle, clip, tmp_path, way, more):
    log = tmp_path / "log.jsonl"
    # An answer at each frame, without the rule that would end it early: it speaks all the time.
    talk = ["--gate", "every:0.05", "--fps", "20", "--set", "session.partials_every_s=0"]
    process = run_in_a_process(
        str(clip), "--bundle", str(bundle), "--jsonl", str(log), *talk, *more,
        stdin=subprocess.DEVNULL,
    )  # fmt: skip
    while not (log.exists() and '"partial"' in log.read_text()):
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.02)
    process.send_signal(way)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == (130 if way == signal.SIGINT else 0)
    assert "Traceback" not in errors
    records = records_of(log.read_text())
    assert records[-1]["type"] == "stats"
    spoken = {one["turn_id"] for one in records if one["type"] == "partial"}
    assert spoken <= {one["turn_id"] for one in records if one["type"] == "final"}


def test_what_cannot_speak_is_refused_before_anything_is_watched(bundle, clip, tmp_path, capsys):
    untrained = tmp_path / "untrained"
    untrained.mkdir()
    for file in bundle.iterdir():
        (untrained / file.name).write_bytes(file.read_bytes())
    manifest = untrained / "manifest.json"
    facts = json.loads(manifest.read_text())
    facts["parity"]["weights_look_random"] = True
    manifest.write_text(json.dumps(facts))
    (untrained / "manifest.json.sha256").write_bytes(hash_line(sha256_of_file(manifest)))
    for more, code, words in (
        (["--bundle", str(untrained)], 3, "untrained-model"),
        (["--bundle", "nowhere"], 3, "bundle-missing"),
        (["--bundle", str(bundle), "--gate", "token"], 2, "context.kind=continuous"),
        (["--bundle", str(bundle), "--set", "engine.provider=cuda"], 4, "engine-unusable"),
        (["--ask", "1:What?"], 2, "--bundle"),
        (["--bundle", str(bundle), "--ask", "1:"], 2, "expected some words"),
    ):
        assert main(["run", str(clip), *more]) == code
        out, err = capsys.readouterr()
        assert out == "" and words in err and "Traceback" not in err
