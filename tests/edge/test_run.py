"""`edgestream run` as a user meets it: what it prints, and one sentence for every bad input."""

from __future__ import annotations

import json
import os
import pty
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import jsonschema
import numpy as np
import pytest

from edgestream.edge.cli import main

from ..video_files import as_nobody, moving_texture, write_image, write_sound, write_video

SCHEMAS = Path(__file__).parents[2] / "runtime" / "schemas"
COMMAND = [sys.executable, "-m", "edgestream.edge.cli"]
TEXTURE = list(moving_texture(8, (96, 64)))


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path, monkeypatch):
    """No settings file of the machine or of the checkout is found."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("NO_COLOR", "1")


def cut_clip(path: Path) -> Path:
    """Two seconds of one texture, two of another: one cut at 2 s."""
    other = [255 - picture for picture in TEXTURE]
    pictures = [*TEXTURE[:1] * 20, *other[:1] * 20]
    return write_video(path, pictures, fps=10)


def records_of(text: str) -> list[dict[str, object]]:
    records = [json.loads(line) for line in text.splitlines()]
    schema = json.loads((SCHEMAS / "record.json").read_text())
    validator = jsonschema.validators.validator_for(schema)(schema)
    for record in records:
        validator.validate(record)
    return records


@pytest.mark.medium
def test_a_person_reads_events_and_a_program_reads_records(tmp_path, capsys):
    clip = cut_clip(tmp_path / "two rooms.mp4")
    assert main(["run", str(clip), "--jsonl", "log.jsonl"]) == 0
    out, err = capsys.readouterr()
    assert out == "   0:02.00  the scene changes\n"
    assert "16 frames" in err and "nothing dropped" in err

    records = records_of((tmp_path / "log.jsonl").read_text())
    assert [record["type"] for record in records] == [
        "camera", "opened", "closed", "camera", "stats",
    ]  # fmt: skip
    assert records[1]["event"] == "cut" and records[1]["time_s"] == 2.0
    assert {record["camera"] for record in records} == {"two rooms"}

    assert main(["run", str(clip), "--jsonl", "log.jsonl"]) == 0
    assert len((tmp_path / "log.jsonl").read_text().splitlines()) == 2 * len(records)


def test_json_lines_on_stdout_leave_no_other_line_there(tmp_path, capsys):
    assert main(["run", str(cut_clip(tmp_path / "a.mp4")), "--jsonl", "-", "--fps", "2"]) == 0
    records = records_of(capsys.readouterr().out)
    assert records[-1]["type"] == "stats" and records[-1]["frames_seen"] == 8


def test_help_says_what_the_model_sees_and_where_settings_are(capsys):
    assert main(["run", "--help"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    for words in ("context.kind=recent", "context.kind=continuous", "`edgestream settings`"):
        assert words in text
    for words in ("A space goes before a question that begins with a number", "stdin has ended"):
        assert words in text


@pytest.mark.medium
def test_gates_by_name(tmp_path, capsys):
    clip = str(cut_clip(tmp_path / "a.mp4"))
    assert main(["run", clip, "--gate", "every:1.5"]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == [
        "0:00.00", "0:01.50", "0:03.00",
    ]  # fmt: skip
    assert main(["run", clip, "--gate", "never"]) == 0
    assert capsys.readouterr().out == ""


@pytest.mark.medium
def test_realtime_takes_as_long_as_the_clip(tmp_path, capsys):
    clip = write_video(tmp_path / "a.mp4", TEXTURE, fps=10)
    begun = time.monotonic()
    assert main(["run", str(clip), "--realtime", "--jsonl", "-"]) == 0
    records = records_of(capsys.readouterr().out)
    assert time.monotonic() - begun > 0.5
    assert records[-1]["frames_seen"] + sum(records[-1]["dropped"].values()) == 3


def bad_inputs(folder: Path) -> dict[str, tuple[Path | str, int, str]]:
    """What a user may name by mistake: (address, exit code, part of the sentence)."""
    text = folder / "notes.mp4"
    text.write_text("this is no video\n" * 50)
    empty = folder / "empty.mp4"
    empty.touch()
    whole = write_video(folder / "whole.mp4", moving_texture(50, (96, 64)), fps=10)
    stump = folder / "stump.mp4"
    stump.write_bytes(whole.read_bytes()[:300])
    (folder / "nothing").mkdir()
    return {
        "missing": (folder / "no such.mp4", 5, "no such.mp4"),
        "text": (text, 5, "notes.mp4"),
        "empty": (empty, 5, "empty.mp4"),
        "sound alone": (write_sound(folder / "song.m4a"), 5, "song.m4a"),
        "stump": (stump, 5, "stump.mp4"),
        "empty folder": (folder / "nothing", 5, "nothing"),
        "scheme": ("carrier-pigeon://roof", 5, "carrier-pigeon"),
        "clip": ("test:nonsense", 5, "nonsense"),
    }


@pytest.mark.parametrize(
    "which",
    ["missing", "text", "empty", "sound alone", "stump", "empty folder", "scheme", "clip"],
)
def test_a_bad_source_is_one_sentence_and_its_own_exit_code(tmp_path, capsys, which):
    address, code, part = bad_inputs(tmp_path)[which]
    assert main(["run", str(address)]) == code
    out, err = capsys.readouterr()
    assert out == "" and part in err and err.startswith("error[source-")
    assert len(err.splitlines()) <= 2 and "Traceback" not in err


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["run"], 2),
        (["run", "a.mp4", "--fps", "fast"], 2),
        (["run", "a.mp4", "--fps", "0"], 2),
        (["run", "a.mp4", "--fps", "nan"], 2),
        (["run", "a.mp4", "--gate", "sometimes"], 2),
        (["run", "a.mp4", "--gate", "every:0"], 2),
        (["run", "a.mp4", "--gate", "token"], 2),
        (["run", "a.mp4", "--set", "source.fbs=3"], 2),
        (["run", "a.mp4", "--settings", "none.toml"], 2),
        (["walk", "a.mp4"], 2),
    ],
)
def test_bad_usage_is_exit_code_2(capsys, arguments, code):
    assert main(arguments) == code
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("error[") and "Traceback" not in err


def test_a_folder_that_may_not_be_read(tmp_path, capsys):
    folder = tmp_path / "locked"
    folder.mkdir()
    write_image(folder / "1.png", TEXTURE[0], codec="png", pix_fmt="rgb24")
    folder.chmod(0)
    os.chmod(tmp_path, 0o755)
    with as_nobody():
        code = main(["run", str(folder)])
    folder.chmod(0o755)
    assert code == 5 and "locked" in capsys.readouterr().err


@pytest.mark.medium
def test_a_name_that_is_no_utf8(tmp_path, capsys):
    clip = cut_clip(tmp_path / "a.mp4").rename(tmp_path / os.fsdecode(b"bad\xff.mp4"))
    assert main(["run", str(clip), "--jsonl", "log.jsonl"]) == 0
    records = records_of((tmp_path / "log.jsonl").read_bytes().decode("utf-8"))
    assert {record["camera"] for record in records} == {"bad\ufffd"}
    assert records[0]["reason"] == "watching bad\ufffd"


def test_a_folder_that_is_gone(tmp_path, capsys, monkeypatch):
    folder = tmp_path / "gone"
    folder.mkdir()
    monkeypatch.chdir(folder)
    folder.rmdir()
    assert main(["run", "."]) == 5
    assert "the current folder is no longer there" in capsys.readouterr().err


@pytest.mark.medium
def test_a_truncated_video_is_used_as_far_as_it_goes(tmp_path, capsys):
    whole = write_video(
        tmp_path / "whole.mkv",
        moving_texture(100, (96, 64)),
        fps=10,
        muxing={"reserve_index_space": "1000"},
    )
    content = whole.read_bytes()
    part = tmp_path / "part.mkv"
    part.write_bytes(content[: len(content) // 2])
    assert main(["run", str(part), "--jsonl", "-"]) == 0
    records = records_of(capsys.readouterr().out)
    codes = [record["code"] for record in records if record["type"] == "warning"]
    assert codes == ["source-truncated"] and records[-1]["frames_seen"] > 10


@pytest.mark.medium
@pytest.mark.parametrize("size_px", [(1, 1), (2, 1), (7, 5), (641, 359), (7680, 4320)])
def test_any_size_is_watched(tmp_path, capsys, size_px):
    folder = tmp_path / "pictures"
    folder.mkdir()
    random_numbers = np.random.default_rng(0)
    for index in range(2):
        picture = random_numbers.integers(0, 255, (size_px[1], size_px[0], 3), dtype=np.uint8)
        write_image(folder / f"{index}.bmp", picture, codec="bmp", pix_fmt="bgr24")
    assert main(["run", str(folder), "--jsonl", "-"]) == 0
    assert records_of(capsys.readouterr().out)[-1]["frames_seen"] == 2


@pytest.mark.parametrize(
    ("codec", "pix_fmt", "suffix"),
    [
        ("ffv1", "gray", "mkv"),
        ("ffv1", "gray10le", "mkv"),
        ("libx265", "yuv420p10le", "mkv"),
        ("libx264", "yuv444p", "mp4"),
        ("ffv1", "bgra", "mkv"),
        ("libvpx-vp9", "yuva420p", "webm"),
    ],
)
def test_any_pixel_format_is_watched(tmp_path, capsys, codec, pix_fmt, suffix):
    clip = write_video(tmp_path / f"a.{suffix}", TEXTURE, fps=4, codec=codec, pix_fmt=pix_fmt)
    assert main(["run", str(clip), "--jsonl", "-"]) == 0
    assert records_of(capsys.readouterr().out)[-1]["frames_seen"] == 8


def run_in_a_process(*arguments: str, **more: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*COMMAND, "run", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **more,  # type: ignore[call-overload]
    )


@pytest.mark.slow
@pytest.mark.parametrize("more", [[], ["--realtime"]])
def test_ctrl_c_at_any_moment(tmp_path, more):
    """40 interrupts, from the first import to the last record; each leaves whole lines behind."""
    clip = write_video(tmp_path / "a.mp4", moving_texture(300, (320, 180)), fps=10)
    moments_s = random.Random(0)
    codes = []
    for attempt in range(20):
        log = tmp_path / f"{attempt}.jsonl"
        process = run_in_a_process(
            str(clip), "--fps", "10", "--gate", "every:0.2", "--jsonl", str(log), *more
        )
        time.sleep(moments_s.uniform(0.05, 1.5))
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=30)
        codes.append(process.returncode)
        assert "Traceback" not in errors or is_of_the_interpreter(errors), errors
        if log.exists():
            records_of(log.read_text())
    # Before our first line runs the interpreter itself ends, by the signal or with its own words.
    assert set(codes) <= {130, 0, -signal.SIGINT, 1}, codes
    assert codes.count(130) > 10, codes


def is_of_the_interpreter(errors: str) -> bool:
    """A traceback without a frame of ours: we were not there yet, or not any more."""
    frames = [line for line in errors.splitlines() if line.strip().startswith("File ")]
    return not any("edgestream" in frame or "edge/" in frame for frame in frames)


@pytest.mark.medium
@pytest.mark.parametrize("way", [signal.SIGTERM, signal.SIGHUP])
def test_terminate_ends_a_live_run_with_its_last_counters(tmp_path, way):
    clip = write_video(tmp_path / "a.mp4", moving_texture(100, (96, 64)), fps=10)
    log = tmp_path / "log.jsonl"
    process = run_in_a_process(str(clip), "--realtime", "--gate", "every:0.1", "--jsonl", str(log))
    while not (log.exists() and '"opened"' in log.read_text()):
        time.sleep(0.02)
    process.send_signal(way)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 0 and "Traceback" not in errors and "watched" in errors
    assert records_of(log.read_text())[-1]["type"] == "stats"


@pytest.mark.medium
@pytest.mark.parametrize("more", [[], ["--realtime"]])
def test_a_terminal_that_is_closed_ends_the_run_with_its_last_counters(tmp_path, more):
    clip = write_video(tmp_path / "a.mp4", moving_texture(400, (640, 360)), fps=10)
    log = tmp_path / "log.jsonl"
    child, ours = pty.fork()
    if child == 0:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)  # whoever started the tests may ignore it
        every = ["--fps", "10", "--gate", "every:0.2", "--jsonl", str(log)]
        os.execv(COMMAND[0], [*COMMAND, "run", str(clip), *every, *more])
    while not (log.exists() and '"opened"' in log.read_text()):
        time.sleep(0.02)
    os.close(ours)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code in (0, 8)  # 8: a line for the terminal was on its way
    assert records_of(log.read_text())[-1]["type"] == "stats"


@pytest.mark.medium
def test_under_nohup_a_run_goes_on(tmp_path):
    clip = write_video(tmp_path / "a.mp4", moving_texture(100, (96, 64)), fps=10)
    log = tmp_path / "log.jsonl"
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # what a process starts with stays
    try:
        process = run_in_a_process(str(clip), "--realtime", "--jsonl", str(log))
    finally:
        signal.signal(signal.SIGHUP, before)
    while not (log.exists() and log.read_text()):
        time.sleep(0.02)
    process.send_signal(signal.SIGHUP)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.5)
    process.terminate()
    process.communicate(timeout=30)
