"""Cameras of a board in this process: faults, stopping, sharing; what is saved of the board."""

from __future__ import annotations

import json
import stat
import urllib.error
import urllib.request

import pytest

from edgestream.edge.service.camera_list import CameraList
from edgestream.edge.service.camera_source import PausableClock
from edgestream.edge.service.shares import shares_of
from edgestream.edge.service.standing_board import NewStanding, StandingBoard
from edgestream.edge.service.trace import KEPT_S, Trace
from edgestream.edge.settings_tables import Settings
from edgestream.runtime.bundle import open_bundle
from edgestream.runtime.errors import (
    EngineFailed,
    OutputUnwritable,
    SettingsInvalid,
    StandingInvalid,
    StandingUnknown,
    StateInvalid,
)
from edgestream.runtime.standing import StandingRequests
from edgestream.runtime.values import GateDecision

from ..test_state import features_at
from .serving import BUNDLE, CLIP, in_thread, until


class Broken:
    """An engine that breaks off at its next run."""

    def __init__(self, engine, fault):
        self.inputs, self.fault = engine.inputs, fault

    def run(self, arrays):
        raise self.fault


def break_engine(camera, fault):
    encoder = camera.run.stages.encoder
    encoder._engine = Broken(encoder._engine, fault)


@pytest.mark.medium
def test_an_engine_that_breaks_ends_one_camera_and_resume_begins_it_anew():
    with in_thread() as (service, _):
        board = service.board
        good, bad = board.add("good", "test:pans"), board.add("bad", "test:pans")
        until(lambda: good.trace.since(0)[1] and bad.trace.since(0)[1])

        break_engine(bad, EngineFailed("the device was pulled out"))
        until(lambda: bad.state.state == "failed")
        assert bad.state.reason == "engine-failed: the device was pulled out"
        assert good.state.state == "open"
        seen = len(good.trace.since(0)[1])
        until(lambda: len(good.trace.since(0)[1]) > seen)
        bad.resume()
        until(lambda: bad.state.state == "open")


@pytest.mark.medium
def test_a_fault_of_ours_ends_one_camera_and_is_logged(caplog):
    with in_thread() as (service, _):
        camera = service.board.add("door", "test:pans")
        until(lambda: camera.run)

        break_engine(camera, ZeroDivisionError("ours"))
        until(lambda: camera.state.state == "failed")
        assert "ZeroDivisionError" in camera.state.reason
        assert "ours" in caplog.text, "with its traceback"


@pytest.mark.medium
def test_a_fault_of_ours_is_a_500_without_its_traceback_and_the_log_has_it(caplog):
    with in_thread() as (service, port):
        service.board.all = None  # calling it is a TypeError

        for path in ("/v1/cameras", "/metrics"):
            with pytest.raises(urllib.error.HTTPError) as caught:
                urllib.request.urlopen(f"http://127.0.0.1:{port}{path}")
            assert caught.value.code == 500
            with caught.value as answer:
                body = answer.read().decode()
            assert json.loads(body)["error"]["code"] == "error" and "Traceback" not in body
            assert "not callable" not in body
        del service.board.all
        until(lambda: caplog.text.count("not callable") >= 2)
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health") as answer:
            assert answer.status == 200


@pytest.mark.medium
def test_who_is_told_to_stop_finishes_what_was_asked():
    with in_thread() as (service, _):
        hub = service.hub
        camera = service.board.add("door", f"loop:{CLIP}")
        until(lambda: camera.trace.since(0)[1])
        questions = [camera.run.inbox.ask(f"What is number {n}?") for n in range(5)]
        camera.tell_to_stop()
        camera.stop(60)
        finals = [json.loads(one.text) for one in hub.kept(lambda one: one.type == "final", 1000)]
        answered = {one["question"]: one["ended_by"] for one in finals}
        for question in questions:
            assert answered[question.text] == "model"
        assert camera.state.state == "stopped"


def test_a_budget_is_divided_and_holds_what_it_says():
    manifest = open_bundle(BUNDLE).manifest
    settings = Settings()
    shares = shares_of(settings, manifest)
    most = settings.service.max_cameras
    assert most * shares.camera + shares.arena + shares.guest_memory <= shares.budget
    assert shares.memory > 0
    small = settings.service.model_copy(update={"budget_mb": 5.0})
    with pytest.raises(SettingsInvalid, match=r"service\.budget_mb is 5"):
        shares_of(settings.model_copy(update={"service": small}), manifest)


def test_a_clock_that_stands_still_loses_only_that_time():
    now = [10.0]
    clock = PausableClock(lambda: now[0])
    now[0] = 12.0
    clock.pause()
    now[0] = 20.0
    clock.pause()
    assert clock() == 12.0
    clock.resume()
    clock.resume()
    assert clock() == 12.0
    now[0] = 21.5
    assert clock() == 13.5


def test_the_trace_keeps_two_minutes_and_starts_again_with_other_names():
    now = [0.0]
    trace = Trace(lambda: now[0])
    for index in range(2000):
        now[0] = index / 4
        trace.add(features_at(index), GateDecision(index / 4, scores={"cut": 0.5}))
    names, frames = trace.since(0)
    assert names == ("cut",) and frames[-1].time_s - frames[0].time_s == KEPT_S
    assert trace.fps() == pytest.approx(4, abs=0.2)
    now[0] += 100
    assert trace.fps() == 0.0, "it has stopped"
    trace.add(features_at(2000), GateDecision(500.0, scores={"dark": 0.1}))
    assert trace.since(0)[0] == ("dark",) and len(trace.since(0)[1]) == 1


def test_the_list_of_cameras_is_private_and_whole(tmp_path):
    kept = CameraList(tmp_path)
    kept.put("door", "rtsp://user:pass@10.0.0.5/")
    kept.put("yard", "browser:")
    path = tmp_path / "cameras.json"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert CameraList(tmp_path).entries() == kept.entries()
    kept.remove("door")
    kept.remove("nobody")
    assert CameraList(tmp_path).entries() == {"yard": "browser:"}
    path.write_text('{"cameras": {"door": 5}}')
    with pytest.raises(StateInvalid, match="no list of cameras"):
        CameraList(tmp_path)
    (tmp_path / "gone").mkdir()
    lost = CameraList(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    with pytest.raises(OutputUnwritable):
        lost.put("door", "browser:")
    assert lost.entries() == {}


def test_standing_requests_are_held_by_the_cameras_they_are_for(tmp_path):
    board = StandingBoard(StandingRequests, tmp_path)
    door, yard = StandingRequests(), StandingRequests()
    board.attach("door", door)
    everywhere = board.add(NewStanding("Tell me when it gets dark"))
    only = board.add(NewStanding("a pan", events=("pan",), cameras=("yard",)))
    board.attach("yard", yard)

    def names(held):
        return [one.request.request_id for one in held.list()]

    assert names(door) == [everywhere.request_id]
    assert names(yard) == [everywhere.request_id, only.request_id]
    again = StandingBoard(StandingRequests, tmp_path)
    assert [one.request for one in again.all()] == [everywhere, only]
    board.cancel(everywhere.request_id)
    assert names(door) == [] and names(yard) == [only.request_id]
    with pytest.raises(StandingUnknown):
        board.cancel(everywhere.request_id)
    with pytest.raises(StandingInvalid):
        board.add(NewStanding(""))
    board.detach("yard")
    board.cancel(only.request_id)
    assert names(yard) == [only.request_id], "it is watched no more"
    assert StandingBoard(StandingRequests, tmp_path).all() == []


def test_a_file_of_standing_requests_that_is_none_is_refused(tmp_path):
    for text in ("[", "{}", '{"requests": [{}]}', '{"requests": 5}'):
        (tmp_path / "standing.json").write_text(text)
        with pytest.raises(StateInvalid, match="no list of standing requests"):
            StandingBoard(StandingRequests, tmp_path)
