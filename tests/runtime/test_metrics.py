"""Counters: percentiles, when records are due, and that they are bounded."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgestream.runtime.metrics import LATENCIES_KEPT, Metrics, percentile, rss_bytes
from edgestream.runtime.records import warning


class Clock:
    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


shares = st.one_of(st.sampled_from([0.07, 0.5, 0.9, 0.99]), st.floats(0.001, 1))


@given(st.lists(st.floats(0, 1e3), min_size=1, max_size=120), shares)
def test_a_percentile_is_the_smallest_value_that_is_high_enough(values, share):
    def is_high_enough(value):
        return sum(other <= value for other in values) / len(values) >= share

    assert percentile(sorted(values), share) == min(filter(is_high_enough, values))


def test_percentiles_of_a_hundred():
    hundred = [float(value) for value in range(1, 101)]
    assert [percentile(hundred, share) for share in (0.5, 0.9, 0.99, 1.0)] == [50, 90, 99, 100]


def test_stage_times_and_counters_are_in_the_stats_record():
    clock = Clock()
    metrics = Metrics(fps_target=4.0, monotonic=clock)
    for step in range(1, LATENCIES_KEPT + 100):
        with metrics.timed("encode"):
            clock.now_s += 0.001 * (2 if step % 100 == 0 else 1)
    body = metrics.stats().body
    assert body["stage_ms"]["encode"] == {
        "p50": pytest.approx(1.0),
        "p99": pytest.approx(2.0),
        "n": LATENCIES_KEPT,
    }
    assert body["fps_target"] == 4.0 and body["frames_seen"] == 0
    assert body["uptime_s"] == pytest.approx(clock.now_s, abs=0.001)
    assert body["rss_bytes"] == pytest.approx(rss_bytes(), rel=0.5) and rss_bytes() > 10e6


def test_a_notice_is_told_once_at_the_next_frame():
    metrics = Metrics(fps_target=4.0)
    metrics.notice(warning("next-rung", "vision goes on as cpu"))
    assert [record.body["code"] for record in metrics.due(0.1)] == ["next-rung"]
    assert metrics.due(0.2) == ()


def test_waiting_for_an_item_is_the_stage_time_and_ticks_are_not():
    clock = Clock()
    metrics = Metrics(fps_target=4.0, monotonic=clock)

    def items():
        for item in (1, None, 2):
            clock.now_s += 0.01
            yield item

    assert list(metrics.timed_items("source", items())) == [1, None, 2]
    assert metrics.stats().body["stage_ms"]["source"]["n"] == 2


def test_drops_are_gathered_for_a_second_and_reported_once():
    metrics = Metrics(fps_target=4.0, stats_every_s=10.0)
    metrics.drop("frames")
    metrics.drop("frames")
    metrics.drop("event turns")
    assert metrics.due(0.5) == ()
    drops = metrics.due(1.0)
    assert [dict(record.body) for record in drops] == [
        {"what": "event turns", "count": 1, "since_s": 0.0},
        {"what": "frames", "count": 2, "since_s": 0.0},
    ]
    assert metrics.due(5.0) == ()
    metrics.drop("frames")
    (last,) = metrics.drops(7.0)
    assert dict(last.body) == {"what": "frames", "count": 1, "since_s": 1.0}
    assert metrics.stats().body["dropped"] == {"frames": 3, "event turns": 1}


def test_a_drop_record_that_never_went_out_is_told_by_the_next_one():
    metrics = Metrics(fps_target=4.0)
    metrics.drop("records")
    (sent,) = metrics.drops(1.0)
    metrics.drop("records")
    (lost,) = metrics.drops(2.0)
    metrics.not_told(lost)
    metrics.drop("records")
    (last,) = metrics.drops(3.0)
    assert dict(sent.body) == {"what": "records", "count": 1, "since_s": 0.0}
    assert dict(last.body) == {"what": "records", "count": 2, "since_s": 1.0}
    assert metrics.stats().body["dropped"] == {"records": 3}


def test_stats_come_every_so_many_stream_seconds():
    metrics = Metrics(fps_target=4.0, stats_every_s=10.0)
    times_s = [time_s for time_s in range(100) if metrics.due(float(time_s))]
    assert times_s == [10, 20, 30, 40, 50, 60, 70, 80, 90]


def test_frames_of_a_camera_wait_and_those_of_a_file_do_not():
    wall = Clock()
    metrics = Metrics(fps_target=4.0, wall=wall)
    for captured_s, now_s in [(10.0, 10.5), (11.0, 11.25), (None, 12.0), (13.0, 12.9)]:
        wall.now_s = now_s
        metrics.waited(captured_s)
    told = metrics.stats().body["stage_ms"]["wait"]
    assert told == {"p50": 250.0, "p99": 500.0, "n": 3}
