"""A camera in the pipeline: its own states, its clock for questions, nothing left behind."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest

from edgestream.runtime.inbox import Inbox
from edgestream.runtime.outlet import Outlet
from edgestream.runtime.pipeline import run
from edgestream.runtime.sources import SourceSettings, open_source

from ..fakes import CollectingSink, LevelEncoder, stages_of
from ..live_watching import QUICK, WITHIN_S, wait_no_readers
from ..rtsp_server import Clip, RtspServer, texture_clip


@pytest.fixture(scope="module")
def clip(tmp_path_factory) -> Clip:
    folder = tmp_path_factory.mktemp("clip")
    return texture_clip(folder / "texture.mp4", (160, 96), seconds=2, fps=20)


def wait_for(until: Callable[[], object]) -> None:
    end_s = time.monotonic() + WITHIN_S
    while not until():
        assert time.monotonic() < end_s
        time.sleep(0.02)


@pytest.mark.medium
@pytest.mark.parametrize("in_threads", [None, False])
def test_a_run_on_a_camera(clip, in_threads):
    """With threads, as usual, and without: the caller's thread then takes frames and records."""
    with RtspServer(clip) as server:
        source = open_source(server.url(), SourceSettings(fps=10, live=QUICK))
        sink, left = CollectingSink(), threading.Event()
        stages = stages_of(encoder=LevelEncoder())
        inbox = Inbox(source.now_s)
        inbox.ask("what now?", 0.5)
        records = Outlet([sink], camera=source.name, clock=source.now_s)
        running = threading.Thread(
            target=run,
            args=(source, stages, inbox, records),
            kwargs={"in_threads": in_threads, "left": left},
        )
        running.start()
        try:
            wait_for(lambda: sink.bodies("final"))
            server.kill()
            wait_for(lambda: "lost" in [body["state"] for body in sink.bodies("camera")])
            server.restart()
            wait_for(lambda: [one["state"] for one in sink.bodies("camera")].count("open") == 2)
        finally:
            left.set()
            running.join(WITHIN_S)
        assert not running.is_alive()
    wait_no_readers()
    states = [body["state"] for body in sink.bodies("camera")]
    assert states[:2] == ["connecting", "open"] and states[-1] == "open"
    assert set(states[2:-1]) == {"lost"}  # the pipeline says neither open nor ended
    times_s = [one.time_s for one in sink.records]
    assert times_s == sorted(times_s)
    (final,) = sink.bodies("final")
    assert str(final["text"]).startswith("about what now? at 0.5")
    assert sink.records[-1].record.type == "stats" and sink.bodies("stats")[-1]["frames_seen"] > 3
    assert {body["what"] for body in sink.bodies("drop")} <= {"frames"}
