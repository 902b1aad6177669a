"""`edgestream run` on a camera: what is told of it, no password anywhere, and how it ends."""

from __future__ import annotations

import json
import os
import pty
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from edgestream.edge.cli import main

from ..live_watching import WITHIN_S
from ..rtsp_server import Clip, RtspServer, texture_clip
from .test_run import (  # noqa: F401 - the fixture is used by being there
    COMMAND,
    in_an_empty_folder,
    records_of,
    run_in_a_process,
)

QUICK = ["--set", "live.stall_s=0.7", "--set", "live.backoff_s=0.1"]
QUICK += ["--set", "live.backoff_most_s=0.3", "--gate", "every:0.2"]


@pytest.fixture(scope="module")
def clip(tmp_path_factory) -> Clip:
    folder = tmp_path_factory.mktemp("clip")
    return texture_clip(folder / "texture.mp4", (160, 96), seconds=3, fps=20)


def wait_for(until: Callable[[], object]) -> None:
    end_s = time.monotonic() + WITHIN_S
    while not until():
        assert time.monotonic() < end_s
        time.sleep(0.02)


class Log:
    """The records that a run has appended so far."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def records(self) -> list[dict[str, object]]:
        text = self.path.read_text() if self.path.exists() else ""
        return records_of(text[: text.rfind("\n") + 1])

    def states(self) -> list[object]:
        return [one["state"] for one in self.records() if one["type"] == "camera"]

    def wait_state(self, state: str, count: int = 1) -> None:
        wait_for(lambda: self.states().count(state) >= count)


@pytest.mark.medium
def test_a_camera_that_is_lost_and_found_is_told_and_ctrl_c_ends_it(clip, tmp_path):
    log = Log(tmp_path / "log.jsonl")
    with RtspServer(clip, user="me:s3cr/t@word") as server:
        url = server.url("me:s3cr%2Ft%40word")
        process = run_in_a_process(url, *QUICK, "--jsonl", str(log.path))
        log.wait_state("open")
        server.freeze()
        log.wait_state("lost")
        server.freeze(False)
        log.wait_state("open", 2)
        count = len(log.records())
        wait_for(lambda: any(one["type"] == "opened" for one in log.records()[count:]))
        begun_s = time.monotonic()
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=WITHIN_S)
    assert process.returncode == 130 and time.monotonic() - begun_s < 10
    records = log.records()
    assert records[-1]["type"] == "stats" and "ended" not in log.states()
    assert log.states()[:4] == ["connecting", "open", "lost", "open"]
    assert {one["camera"] for one in records} == {"127.0.0.1/live"}
    assert "camera: 127.0.0.1/live is lost: nothing came for 0.7 s" in out
    assert "camera: watching 127.0.0.1/live, 160x96" in out
    assert "of video watched in" in err and "Traceback" not in err
    for text in (out, err, json.dumps(records)):
        assert "s3cr" not in text and "me:" not in text


@pytest.mark.medium
@pytest.mark.parametrize("way", [signal.SIGINT, signal.SIGTERM])
def test_a_camera_that_never_answers_holds_nobody_who_leaves(tmp_path, way):
    log = Log(tmp_path / "log.jsonl")
    with socket.create_server(("127.0.0.1", 0)) as mute:
        url = f"rtsp://127.0.0.1:{mute.getsockname()[1]}/x"
        process = run_in_a_process(url, *QUICK, "--jsonl", str(log.path))
        log.wait_state("connecting")
        begun_s = time.monotonic()
        process.send_signal(way)
        out, err = process.communicate(timeout=WITHIN_S)
    assert process.returncode == (130 if way is signal.SIGINT else 0)
    assert time.monotonic() - begun_s < 10  # opening could take 10 s more, and is not waited for
    assert "camera: connecting to 127.0.0.1/x" in out and "Traceback" not in err


@pytest.mark.medium
def test_a_terminal_shows_it_and_takes_ctrl_c(clip, tmp_path):
    log = Log(tmp_path / "log.jsonl")
    with RtspServer(clip) as server:
        child, ours = pty.fork()
        if child == 0:
            signal.signal(signal.SIGINT, signal.default_int_handler)
            line = ["run", server.url(), *QUICK, "--jsonl", str(log.path)]
            os.execv(COMMAND[0], [*COMMAND, *line])
        os.set_blocking(ours, False)
        shown = b""
        end_s, has_left = time.monotonic() + WITHIN_S, False
        while time.monotonic() < end_s:
            try:
                shown += os.read(ours, 65536)
            except BlockingIOError:
                time.sleep(0.02)
            except OSError:  # it has closed its terminal
                break
            if not has_left and any(one["type"] == "opened" for one in log.records()):
                os.write(ours, b"\x03")
                has_left = True
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 130
        os.close(ours)
    text = shown.decode()
    assert "watching 127.0.0.1/live" in text and "of video watched in" in text
    assert "Traceback" not in text


def test_help_names_the_live_sources(capsys):
    assert main(["run", "--help"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    for words in ("rtsp://USER:PASSWORD@HOST/PATH", "/dev/videoN", "gst:PIPELINE", "loop:FILE"):
        assert words in text


@pytest.mark.parametrize(
    ("arguments", "code", "part"),
    [
        (["rtsp://me:s3cr/t@door/1"], "settings-invalid", "%2F"),
        (["/dev/video99"], "source-missing", "no such device"),
        (["gst:--version"], "settings-invalid", "pipeline"),
        (["screen::0?size=big"], "settings-invalid", "size="),
        (["a.mp4", "--set", "live.backoff_most_s=0.5"], "settings-invalid", "live.backoff_s"),
        (["a.mp4", "--set", "live.stall_s=0"], "settings-invalid", "live.stall_s"),
    ],
)
def test_what_cannot_be_watched_is_one_sentence(capsys, arguments, code, part):
    assert main(["run", *arguments]) in (2, 5)
    out, err = capsys.readouterr()
    assert out == "" and err.startswith(f"error[{code}]") and part in err
    assert "s3cr" not in err and "Traceback" not in err
