"""Retention and wipe on the disk: nothing older than is wanted, and after a wipe no trace."""

from __future__ import annotations

import json
import os
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgestream.edge import state_keeper
from edgestream.edge.settings import load_settings
from edgestream.edge.speech_rules import key_frame_rules
from edgestream.edge.staging import staged_run
from edgestream.edge.state_ages import LONG_AGO_S, Ages, ages_after
from edgestream.edge.state_keeping import Remembering, kept_state
from edgestream.runtime.array_file import read_arrays
from edgestream.runtime.errors import OutputUnwritable
from edgestream.runtime.gate import gate_from_name
from edgestream.runtime.inbox import Inbox
from edgestream.runtime.memory.keyframes import KeyFrameMemory, KeyFrameRules
from edgestream.runtime.outlet import Outlet
from edgestream.runtime.pipeline import run
from edgestream.runtime.source_paced import PacedSource
from edgestream.runtime.stages import Stages
from edgestream.runtime.state_folder import StateFolder
from edgestream.runtime.values import Frame

from ..fakes import CollectingSink, ListSource, stages_of
from .test_state import FPS, chosen, features_at, watch

BUNDLE = Path(__file__).parents[2] / "assets" / "reference"
RETENTION_S = 80.0
SECRET = "a parcel under the doormat"


def parts(retention_s=RETENTION_S, **privacy):
    settings = chosen(
        gate={"kind": "every:3"},
        memory={"snapshot_every_s": 60.0},
        privacy={"retention_s": retention_s, **privacy},
    )
    memory = KeyFrameMemory(KeyFrameRules(), 300_000)
    return Remembering(memory, gate_from_name("every:3"), settings, "1" * 64)


def watched(run, keeper, frames):
    """As the pipeline does it with a retention."""
    for index in frames:
        watch(run, keeper, [index])
        keeper.forget_before(features_at(index).time_s - run.settings.privacy.retention_s)


def saved_times_s(folder):
    """Stream times of everything in the folder that has one."""
    times_s = []
    for file in folder.glob("*/memory.npz"):
        arrays = read_arrays(file)
        values = json.loads(arrays.pop("values").tobytes())
        times_s += [t for name, part in arrays.items() if name.endswith("_s") for t in part]
        times_s += [turn["time_s"] for turn in values["dialogue"]]
    for file in folder.glob("dialogue*.jsonl"):
        times_s += [json.loads(line)["time_s"] for line in file.read_text().splitlines()]
    return times_s


@pytest.mark.medium
def test_nothing_in_the_folder_is_ever_older_than_the_retention(tmp_path):
    run, seen = parts(), 0
    with kept_state(tmp_path, run) as kept:
        with kept.saved_at_the_end():
            for index in range(1600):
                watched(run, kept.keeper, [index])
                if index % 7 == 0:
                    kept.keeper._is_written(waits=True)
                    now_s = features_at(index).time_s
                    times_s = saved_times_s(tmp_path)
                    seen += len(times_s)
                    assert not times_s or min(times_s) >= now_s - RETENTION_S
                    assert len(list(tmp_path.glob("[0-9]*"))) <= 1
        assert saved_times_s(tmp_path) and seen > 1000
    assert not list(tmp_path.glob(".*"))


@pytest.mark.medium
def test_what_was_saved_goes_also_where_no_frame_comes(tmp_path):
    run = parts()
    with kept_state(tmp_path, run) as kept:
        watched(run, kept.keeper, range(300))
        for tick in range(1200):  # two minutes of a camera that is paused
            now_s = 75.0 + tick / 10
            kept.keeper.forget_before(now_s - RETENTION_S)
            if tick % 20 == 0:
                kept.keeper._is_written(waits=True)
                times_s = saved_times_s(tmp_path)
                assert not times_s or min(times_s) >= now_s - RETENTION_S
        kept.keeper._is_written(waits=True)
        (newest,) = tmp_path.glob("[0-9]*")
        assert saved_times_s(tmp_path) == [] and int(newest.name) < 20, (
            "and then nothing is written"
        )


def test_the_time_in_which_nobody_watched_counts(tmp_path, monkeypatch):
    now = [1000.0]
    monkeypatch.setattr(time, "time", lambda: now[0])
    first = parts()
    with kept_state(tmp_path, first) as kept, kept.saved_at_the_end():
        watched(first, kept.keeper, range(240))  # 60 s
    now[0] += 50.0
    second = parts()
    with kept_state(tmp_path, second) as kept, kept.saved_at_the_end():
        # Of the 60 s those are left that are at most 80 s old, one saving time less: 10 s.
        oldest_s = min(frame.time_s for frame in second.memory.view().key_frames)
        assert 40.0 <= oldest_s < 60.0
        assert min(saved_times_s(tmp_path)) >= 30.0, "what was too old is gone from the disk now"
        watched(second, kept.keeper, range(240, 280))
    now[0] += 30.0
    third = parts()
    with kept_state(tmp_path, third) as kept, kept.saved_at_the_end():
        view = third.memory.view()
        assert min(frame.time_s for frame in view.key_frames) >= 60.0, "50 + 30 + 10 s old"
        assert kept.keeper.turns_before == 0 and kept.goes_on_s == 70.0
    now[0] += 1000.0
    fourth = parts()
    with kept_state(tmp_path, fourth) as kept:
        assert fourth.memory.view().key_frames == () and saved_times_s(tmp_path) == []
        assert kept.goes_on_s == 70.0, "names and stream time go on all the same"


gaps = st.lists(st.tuples(st.floats(0, 100), st.floats(0, 50)), max_size=5)


@given(gaps, st.floats(0, 200), st.floats(0, 150))
def test_what_was_seen_before_gaps_is_older_by_them(gaps, now_s, retention_s):
    ages = Ages(tuple(sorted(gaps)))
    before_s = ages.forget_before_s(now_s - retention_s)
    assert before_s >= now_s - retention_s
    for at_s in np.linspace(0, now_s, 40):
        age_s = now_s - at_s + sum(gap_s for ended_s, gap_s in ages.gaps if at_s <= ended_s)
        if any(abs(at_s - ended_s) < 0.01 for ended_s, _ in ages.gaps):
            continue  # the very end of a run
        if age_s > retention_s + 1e-2:
            assert at_s < before_s, "too old"
        if age_s < retention_s - 1e-2:
            assert at_s >= before_s, "forgotten too early"
    later_s = now_s - retention_s + 7.0
    fewer = ages.without(before_s)
    assert max(before_s, fewer.forget_before_s(later_s)) == max(
        before_s, ages.forget_before_s(later_s)
    ), "gaps that tell nothing of what is kept"


def test_nobody_knows_how_old_a_state_of_before_is():
    ages = ages_after({}, 60.0, 5.0)
    assert ages.gaps == ((60.0, LONG_AGO_S),) and ages.forget_before_s(-1e6) > 60.0
    again = ages_after(json.loads(json.dumps(Ages(((5.0, 2.0),)).saved(100.0))), 60.0, 90.0)
    assert again.gaps == ((5.0, 2.0), (60.0, 0.0)), "a clock that was set back makes nothing young"


def test_a_state_that_cannot_be_saved_takes_the_one_before_it_along(tmp_path, monkeypatch):
    run, told = parts(), []
    with kept_state(tmp_path, run) as kept:
        kept.keeper.tell = told.append
        watched(run, kept.keeper, range(100))
        kept.keeper._is_written(waits=True)
        assert saved_times_s(tmp_path)
        monkeypatch.setattr(StateFolder, "write", refuse)
        watched(run, kept.keeper, range(100, 200))
        kept.keeper._is_written(waits=True)
        monkeypatch.undo()
        assert not list(tmp_path.glob("[0-9]*")) and told[0].body["code"] == "state-not-saved"
        kept.keeper.save_last()
        assert saved_times_s(tmp_path)


def refuse(*arguments, **more):
    raise OutputUnwritable("no space is left")


def bytes_under(folder):
    return b"\0".join(
        os.fsencode(str(path)) + b"\0" + (path.read_bytes() if path.is_file() else b"")
        for path in sorted(folder.rglob("*"))
    )


def test_after_a_wipe_no_word_and_no_number_of_it_is_on_the_disk(tmp_path):
    run = parts(retention_s=0.0)
    with kept_state(tmp_path, run) as kept:
        keeper = kept.keeper
        watch(run, keeper, range(700))
        keeper.save_last()
        for name in (".3.removed-0a1b2c3d", ".4.writing-0a1b2c3d"):  # of a process that was killed
            (tmp_path / name).mkdir()
            (tmp_path / name / "memory.npz").write_bytes(SECRET.encode())
        (tmp_path / "notes.txt").write_text("somebody else's")
        row = run.memory.view().recent.frames[-1][1][0].tobytes()
        text = b"It is 20."
        everything = bytes_under(tmp_path)
        assert SECRET.encode() in everything and row in everything and text in everything
        numbers = [int(path.name) for path in tmp_path.glob("[0-9]*")]
        assert len(numbers) == 2

        keeper.wipe()

        left = bytes_under(tmp_path)
        assert SECRET.encode() not in left and row not in left and text not in left
        assert {path.name for path in tmp_path.iterdir()} == {"notes.txt", "dialogue.jsonl"}
        assert run.memory.n_bytes == 0
        watch(run, keeper, range(700, 710))
        keeper.save_last()
        again = [int(path.name) for path in tmp_path.glob("[0-9]*")]
        assert min(again) > max(numbers), "no number is used twice"
    again = parts(retention_s=0.0)
    with kept_state(tmp_path, again) as kept:
        assert kept.goes_on_s == 710 / FPS and again.memory.frames == 710
        assert {f.time_s for f in again.memory.view().key_frames} <= {
            i / FPS for i in range(700, 710)
        }


@pytest.mark.medium
def test_a_wipe_waits_for_the_state_that_is_being_written(tmp_path, monkeypatch):
    run, may_go_on = parts(retention_s=0.0), threading.Event()
    write = StateFolder.write

    def slow(self, state, **more):
        may_go_on.wait(10)
        return write(self, state, **more)

    with kept_state(tmp_path, run) as kept:
        monkeypatch.setattr(StateFolder, "write", slow)
        watch(run, kept.keeper, range(300))
        threading.Timer(0.2, may_go_on.set).start()
        kept.keeper.wipe()
        assert not list(tmp_path.glob("[0-9]*")), "it did not appear after the wipe"


def test_pictures_of_an_earlier_run_are_taken_out_where_none_may_be_kept(tmp_path):
    def run_of(**privacy):
        run = parts(retention_s=0.0, **privacy)
        rules = key_frame_rules(chosen(memory={"thumbnails": True}, privacy=privacy))
        memory = KeyFrameMemory(rules, 3_000_000)
        return Remembering(memory, run.gate, run.settings, run.bundle_sha256)

    def step(run, keeper, index):
        features = features_at(index)
        pictured = type(features)(
            features.time_s, features.tokens, features.summary, features.motion, False, True,
            small=np.full((112, 112, 3), 201, np.uint8),
        )  # fmt: skip
        keeper.step(pictured, features.tokens, run.gate.step(features))

    first, second = run_of(), run_of(keep_pictures=False)
    with kept_state(tmp_path, first) as kept:
        for index in range(20):
            step(first, kept.keeper, index)
        kept.keeper.save_last()
        step(first, kept.keeper, 20)
        kept.keeper.save_last()
    assert bytes([201] * 1000) in bytes_under(tmp_path)
    with kept_state(tmp_path, second) as kept:
        assert bytes([201] * 1000) not in bytes_under(tmp_path)
        step(second, kept.keeper, 21)
        kept.keeper.save_last()
    frames = second.memory.view().key_frames
    assert frames and all(frame.thumbnail is None for frame in frames)
    assert bytes([201] * 1000) not in bytes_under(tmp_path)


class WipesWhenAnswered(CollectingSink):
    """Once the question is answered and the memory holds it, another thread wipes."""

    def __init__(self, folder, left):
        super().__init__()
        self.folder, self.left = folder, left
        self.stages: Stages | None = None
        self.before = self.after = b""
        self.thread = None

    def send(self, record):
        super().send(record)
        is_answer = record.record.body.get("cause") == "question"
        if is_answer and self.thread is None:
            self.thread = threading.Thread(target=self._wipe)
            self.thread.start()

    def _wipe(self):
        deadline_s = time.monotonic() + 60
        while SECRET.encode() not in self.before and time.monotonic() < deadline_s:
            time.sleep(0.02)
            self.before = bytes_under(self.folder)
        self.stages.wipe(timeout_s=60)
        self.after = bytes_under(self.folder)
        self.left.set()


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_a_running_assistant_is_wiped_from_another_thread(tmp_path):
    pytest.importorskip("onnxruntime", reason="the assistant runs on it")
    settings = load_settings(
        None, ["memory.snapshot_every_s=0.5", "memory.thumbnails=true"], {}, {}, folder=Path("/")
    ).settings
    random = np.random.default_rng(2)
    wall = random.integers(0, 256, (30, 60, 3), np.uint8).repeat(6, axis=0).repeat(6, axis=1)
    frames = [Frame(i, i / 4, wall[:, 2 * (i % 60) : 2 * (i % 60) + 240]) for i in range(400)]
    state, left = tmp_path / "state", threading.Event()
    source, sink = PacedSource(ListSource(frames)), WipesWhenAnswered(state, left)
    inbox = Inbox(source.now_s)
    inbox.ask(f"Is there {SECRET}?", 1.0)
    with staged_run(BUNDLE, settings, lambda: (), state) as staged:
        sink.stages = staged.stages
        records = Outlet([sink], camera=source.name, clock=source.now_s)
        with staged.kept.saved_at_the_end():
            run(source, staged.stages, inbox, records, left=left)
        sink.thread.join(60)
    assert SECRET.encode() in sink.before, "it had been saved"
    assert sink.after and SECRET.encode() not in sink.after
    assert SECRET.encode() not in bytes_under(state), (
        "and it does not come back with the last state"
    )


def test_without_a_state_a_retention_is_held_in_memory_alone():
    settings = load_settings(None, ["privacy.retention_s=5"], {}, {}, folder=Path("/")).settings
    assert settings.privacy.retention_s == 5.0
    assert state_keeper.save_every_s(settings) == 5.0 / 8
    assert stages_of(retention_s=5.0).retention_s == 5.0
