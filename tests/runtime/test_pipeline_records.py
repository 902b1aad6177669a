"""What a run puts out: every drop is told, events stay whole, and the end comes at the end."""

from __future__ import annotations

import threading
import time
from collections import Counter

import pytest

from edgestream.runtime.inbox import Inbox
from edgestream.runtime.metrics import Metrics
from edgestream.runtime.outlet import Outlet
from edgestream.runtime.pipeline import run

from ..fakes import (
    CollectingSink,
    Late,
    LevelEncoder,
    ListSource,
    ScriptedGate,
    SteppedWall,
    frame_at,
    stages_of,
)


def outlet_of(sink, source, **more):
    return Outlet([sink], camera=source.name, clock=source.now_s, wall=SteppedWall(), **more)


def frames(count):
    return [frame_at(index) for index in range(count)]


def test_every_drop_is_counted_and_reported():
    source = ListSource(frames(60), is_live=True)
    sink = CollectingSink()
    stages = stages_of(encoder=LevelEncoder(Late(5, 0.004)), metrics=Metrics(fps_target=4.0))
    run(source, stages, Inbox(source.now_s), outlet_of(sink, source))
    stats = sink.bodies("stats")[-1]
    reported = sum(body["count"] for body in sink.bodies("drop") if body["what"] == "frames")
    assert stats["dropped"]["frames"] == reported > 0
    assert stats["frames_seen"] + reported == 60


@pytest.mark.medium
def test_a_slow_sink_does_not_hold_up_a_live_stream():
    source = ListSource(frames(100), is_live=True, pause=Late(2, 0.001))
    sink = CollectingSink(Late(1, 0.01))
    stages = stages_of(gate=ScriptedGate({i / 4 for i in range(100)}), waiting_frames=100)
    begun = time.monotonic()
    run(source, stages, Inbox(source.now_s), outlet_of(sink, source, capacity=8))
    took_s = time.monotonic() - begun
    stats = stages.metrics.stats().body
    assert stats["dropped"]["records"] > 0 and stats["frames_seen"] == 100
    # All records at 5 ms each on average would take longer than the frames, which did not wait.
    assert took_s < 0.005 * (len(sink.records) + stats["dropped"]["records"])


@pytest.mark.parametrize("capacity", [1, 8, 20])
def test_through_a_slow_sink_every_drop_is_told_and_events_stay_whole(capacity):
    source = ListSource(frames(150), is_live=True, pause=Late(capacity, 0.001))
    sink = CollectingSink(Late(1, 0.01))
    stages = stages_of(
        gate=ScriptedGate({i / 4 for i in range(0, 150, 2)}), encoder=LevelEncoder(Late(2, 0.002))
    )
    run(source, stages, Inbox(source.now_s), outlet_of(sink, source, capacity=capacity))

    told = Counter()
    for body in sink.bodies("drop"):
        told[body["what"]] += body["count"]
    last = sink.bodies("stats")[-1]
    assert told == Counter(last["dropped"]) and told["frames"] > 0
    # On a busy machine so many frames may go that a longer outlet holds the rest.
    assert told["records"] > 0 or capacity > 1
    opened, closed = ([body["event_id"] for body in sink.bodies(k)] for k in ("opened", "closed"))
    assert set(closed) <= set(opened) and len(opened) - len(closed) <= 1
    states = [one.record.body.get("state") or one.record.type for one in sink.records]
    at_the_end = states[states.index("ended") :]
    assert at_the_end[0] == "ended" and set(at_the_end[1:-1]) <= {"drop"}
    assert at_the_end[-1] == "stats"


def test_a_camera_has_ended_only_after_all_that_was_seen_in_it_and_if_it_did():
    """The last frames are still on their way through the stages when the source ends."""
    for is_left in (False, True):
        left = threading.Event()
        source, sink = ListSource(frames(9), is_live=True), CollectingSink()
        stages = stages_of(
            gate=ScriptedGate({1.75}), encoder=LevelEncoder(Late(1, 0.01)), waiting_frames=100
        )
        if is_left:
            left.set()
        run(source, stages, Inbox(source.now_s), outlet_of(sink, source), left=left)
        types = [one.record.body.get("state") or one.record.type for one in sink.records]
        assert types[-1] == "stats" and ("ended" in types) is not is_left
        if not is_left:
            assert types[-2] == "ended" and {"opened", "closed"} < set(types[:-2])


@pytest.mark.parametrize("is_live", [False, True])
def test_the_time_a_source_takes_is_ours_only_if_it_is_a_file(is_live):
    source, sink = ListSource(frames(5), is_live=is_live), CollectingSink()
    run(source, stages_of(waiting_frames=9), Inbox(source.now_s), outlet_of(sink, source))
    assert ("source" in sink.bodies("stats")[-1]["stage_ms"]) is not is_live
