"""Outlet laws: time never goes back, every text can be written, and one sink harms no other."""

from __future__ import annotations

import json
import os

import pytest

from edgestream.runtime.errors import OutputFull
from edgestream.runtime.metrics import Metrics
from edgestream.runtime.outlet import Outlet, utf8_text
from edgestream.runtime.records import Record, camera_state, warning
from edgestream.runtime.running import Running

from ..fakes import CollectingSink, SteppedWall


def outlet_of(*sinks, camera="door", clock=lambda: 0.0):
    return Outlet(sinks, camera=camera, clock=clock, wall=SteppedWall())


def codes_of(sink):
    return [body["code"] for body in sink.bodies("warning")]


def test_a_clock_that_goes_back_takes_no_record_with_it():
    times_s = iter([1.0, 3.0, 2.0, 0.0, 4.0])
    sink = CollectingSink()
    outlet = outlet_of(sink, clock=lambda: next(times_s))
    outlet.put_all([warning("a", "b")] * 3)
    outlet.put_last([warning("a", "b")] * 2)
    assert [record.time_s for record in sink.records] == [1.0, 3.0, 3.0, 3.0, 4.0]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("plain", "plain"),
        ("naïve ✓", "naïve ✓"),
        (os.fsdecode(b"bad\xff\xfe.mp4"), "bad\ufffd\ufffd.mp4"),
        ("half a pair \ud83d", "half a pair ?"),
    ],
)
def test_a_name_that_is_no_utf8_is_told_as_far_as_it_is(name, text):
    assert utf8_text(name) == text
    sink = CollectingSink()
    outlet = outlet_of(sink, camera=name)
    outlet.put(camera_state("open", f"watching {name}"))
    outlet.put(Record("opened", {"attributes": {"who": [name, 1, None, ("x", name)]}}))
    for record in sink.records:
        assert json.dumps(record.as_json(), ensure_ascii=False).encode("utf-8")
        assert record.camera == text
    assert sink.records[0].record.body["reason"] == f"watching {text}"
    assert sink.records[1].record.body["attributes"] == {"who": [text, 1, None, ["x", text]]}


def emitted(outlet, in_threads, n=6):
    """The run's last words come after whatever ended it, as in pipeline.run."""
    with Running(is_live=False, in_threads=in_threads) as running:
        outlet.start(running, is_live=False, metrics=Metrics(fps_target=4.0))
        running.say_last(lambda: outlet.put_last([warning("last", ""), warning("words", "")]))
        for index in range(n):
            outlet.put(warning(str(index), ""))


@pytest.mark.parametrize("in_threads", [False, True])
@pytest.mark.parametrize("order", [1, -1])
def test_a_reader_that_leaves_takes_its_sink_with_it_and_no_other(in_threads, order):
    leaves, stays = CollectingSink(fails_at=2, fault=BrokenPipeError()), CollectingSink()
    emitted(outlet_of(*[leaves, stays][::order]), in_threads)
    assert codes_of(leaves) == ["0", "1"] and leaves.attempts == 3
    assert codes_of(stays) == ["0", "1", "2", "3", "4", "5", "last", "words"]


@pytest.mark.parametrize("in_threads", [False, True])
def test_when_the_last_reader_leaves_the_run_ends(in_threads):
    sinks = [CollectingSink(fails_at=at, fault=BrokenPipeError()) for at in (1, 3)]
    with pytest.raises(BrokenPipeError):
        emitted(outlet_of(*sinks), in_threads)
    assert [codes_of(sink) for sink in sinks] == [["0"], ["0", "1", "2"]]


@pytest.mark.parametrize("in_threads", [False, True])
@pytest.mark.parametrize("order", [1, -1])
def test_a_sink_that_fails_ends_the_run_and_the_others_get_all_to_the_end(in_threads, order):
    fails, stays = (
        CollectingSink(fails_at=3, fault=OutputFull("the disk is full")),
        CollectingSink(),
    )
    with pytest.raises(OutputFull):
        emitted(outlet_of(*[fails, stays][::order]), in_threads)
    assert codes_of(stays)[:4] == ["0", "1", "2", "3"]
    assert codes_of(stays)[-2:] == ["last", "words"] and fails.attempts == 4


@pytest.mark.parametrize("in_threads", [False, True])
def test_two_sinks_that_fail_at_once_raise_the_first_and_log_the_second(in_threads, caplog):
    sinks = [CollectingSink(fails_at=1, fault=OutputFull(name)) for name in ("one", "two")]
    with pytest.raises(OutputFull, match="one"):
        emitted(outlet_of(*sinks), in_threads)
    assert "two" in caplog.text


@pytest.mark.parametrize("in_threads", [False, True])
def test_a_fault_in_the_last_words_keeps_none_of_them_from_the_others(in_threads):
    fails, stays = CollectingSink(fails_at=6, fault=OutputFull("full")), CollectingSink()
    with pytest.raises(OutputFull):
        emitted(outlet_of(fails, stays), in_threads)
    assert codes_of(stays)[-2:] == ["last", "words"]


def test_without_a_sink_nothing_is_wrong():
    emitted(outlet_of(), in_threads=True)
