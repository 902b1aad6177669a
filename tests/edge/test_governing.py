"""`run --target-fps`: what it sets, what is shown of it, and that it holds a rate."""

from __future__ import annotations

import json
import statistics
import threading
import time
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from edgestream.edge.cli import main
from edgestream.edge.governing import governed, with_target
from edgestream.edge.progress import summary_line
from edgestream.edge.settings import load_settings
from edgestream.edge.staging import staged_run
from edgestream.runtime.governor import LADDER
from edgestream.runtime.inbox import Inbox
from edgestream.runtime.metrics import Metrics
from edgestream.runtime.outlet import Outlet
from edgestream.runtime.pipeline import run
from edgestream.runtime.source_paced import PacedSource
from edgestream.runtime.values import Frame

from ..fakes import CollectingSink, ListSource, stages_of

BUNDLE = Path(__file__).parents[2] / "assets" / "reference"


def settings_of(*sets):
    return load_settings(None, list(sets), {}, {}, folder=Path("/")).settings


def test_the_rate_to_hold_is_the_rate_at_which_frames_are_taken():
    assert with_target(settings_of("source.fps=3")).source.fps == 3
    assert with_target(settings_of("source.fps=3", "governor.target_fps=7.5")).source.fps == 7.5


def test_a_camera_is_governed_by_the_settings_and_a_file_is_not():
    sets = ["target_fps=8", "held=0.9", "down_after_s=3", "room=0.5", "up_after_s=20"]
    settings = settings_of(*[f"governor.{one}" for one in sets])
    stages = stages_of(metrics=Metrics(fps_target=8.0))
    assert governed(stages, settings, ListSource([], is_live=True)) == []
    rules = stages.governor.rules
    assert (rules.held, rules.down_after_s, rules.room, rules.up_after_s) == (0.9, 3.0, 0.5, 20.0)
    assert stages.metrics.stats().body["governor"] == {
        "target_fps": 8.0, "achieved_fps": 0.0, "level": 0,
        "encode_every": 1, "token_share": 1.0, "recall_share": 1.0,
    }  # fmt: skip
    stages = stages_of()
    (note,) = governed(stages, settings, ListSource([]))
    assert note.body["code"] == "governor-off" and stages.governor is None
    assert governed(stages, settings_of(), ListSource([], is_live=True)) == []
    assert "governor" not in stages.metrics.stats().body


def test_the_last_line_says_what_was_achieved_against_the_target_and_what_was_given_up():
    stats = {**Metrics(fps_target=4.0).stats().body, "uptime_s": 1.0}
    assert "frames/s" not in summary_line(stats, 1.0)
    load = {"level": 5, "encode_every": 4, "token_share": 0.25, "recall_share": 1.0}
    stats["governor"] = {"target_fps": 8.0, "achieved_fps": 7.93, **load}
    assert summary_line(stats, 1.0).endswith(
        "nothing dropped, 7.9 of 8 frames/s at the end, 1 in 4 encoded, 25% of tokens read"
    )


@pytest.mark.medium
def test_the_command_takes_a_target_and_only_one_rate(capsys):
    assert main(["run", "test:still", "--fps", "4", "--target-fps", "8"]) == 2
    assert "got --fps 4 and --target-fps 8, expected one of them" in capsys.readouterr().err
    assert main(["run", "test:still", "--target-fps", "2", "--jsonl", "-"]) == 0
    records = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    (note,) = [one for one in records if one["type"] == "warning"]
    assert note["code"] == "governor-off" and records[-1]["fps_target"] == 2.0


class SlowEncoder:
    """The real encoder; each encoding takes four times as long, and no less than is asked for."""

    def __init__(self, encoder, least_s):
        self._encoder, self._least_s = encoder, least_s
        self.costs_s = []

    def encode(self, frame):
        begun = time.perf_counter()
        features = self._encoder.encode(frame)
        took_s = time.perf_counter() - begun
        if features.is_fresh:
            time.sleep(max(3 * took_s, self._least_s - took_s))
            self.costs_s.append(time.perf_counter() - begun)
        return features


class LeavesWhenHeld(CollectingSink):
    """Ends the run when the target is held at a lighter load."""

    def __init__(self, left):
        super().__init__()
        self._left = left

    def send(self, record):
        super().send(record)
        governor = record.record.body.get("governor")
        is_held = governor and governor["achieved_fps"] >= 0.95 * governor["target_fps"]
        if is_held and governor["level"] >= 1:
            self._left.set()


def moving(count, fps):
    random = np.random.default_rng(5)
    wall = random.integers(0, 256, (30, 60, 3), np.uint8).repeat(6, axis=0).repeat(6, axis=1)
    return [Frame(i, i / fps, wall[:, 2 * (i % 60) : 2 * (i % 60) + 240]) for i in range(count)]


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_an_encoder_four_times_as_slow_holds_the_target_by_encoding_less_often():
    pytest.importorskip("onnxruntime", reason="the assistant runs on it")
    fps = 6.0  # 167 ms a frame: an encoding of 250 ms does not fit, one for two frames does
    settings = settings_of(
        f"governor.target_fps={fps}", "records.stats_every_s=0.5", "encoder.heartbeat_s=0.1"
    )
    settings = with_target(settings)
    left = threading.Event()
    source, sink = PacedSource(ListSource(moving(400, fps))), LeavesWhenHeld(left)
    with staged_run(BUNDLE, settings, lambda: ()) as staged:
        stages = staged.stages
        stages.encoder = slow = SlowEncoder(stages.encoder, least_s=0.25)
        assert governed(stages, settings, source) == []
        records = Outlet([sink], camera=source.name, clock=source.now_s)
        run(source, stages, Inbox(source.now_s), records, left=left)
    assert left.is_set(), "the target was never held"
    assert statistics.median(slow.costs_s) > 1.0 / fps, "it was too slow for every frame"
    told = [body["governor"] for body in sink.bodies("stats")]
    levels = [one["level"] for one in told]
    assert levels[0] == 0 and levels == sorted(levels)
    assert all(later - sooner <= 1 for sooner, later in pairwise(levels))
    for one in told:
        load = LADDER[one["level"]]
        assert (one["encode_every"], one["token_share"], one["recall_share"]) == (
            load.encode_every, load.token_share, load.recall_share,
        )  # fmt: skip
    worst = min(one["achieved_fps"] for one in told if one["achieved_fps"])
    assert worst < 0.95 * fps, "at first it was not"
    last = sink.bodies("stats")[-1]
    assert last["frames_encoded"] < last["frames_seen"]
