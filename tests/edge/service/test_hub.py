"""The hub: what is kept, what a listener gets, and that nothing gets lost without being told."""

from __future__ import annotations

import asyncio
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgestream.edge.service.hub import Hub, HubSink
from edgestream.edge.service.listener import PASSING, Listener, Numbered, Wanted
from edgestream.runtime.errors import ServiceFull
from edgestream.runtime.records import RECORD_TYPES, Record, StampedRecord

ALL = Wanted()
KINDS = st.sampled_from(RECORD_TYPES)
CAMERAS = st.sampled_from(["door", "yard"])


def stamped(kind="warning", camera="door", n=0):
    return StampedRecord(Record(kind, {"n": n}), camera, 0.0, "2026-11-20T10:00:00.000Z")


def hub(**changes):
    return Hub(**{"keep_bytes": 10_000, "first": 100, "capacity": 8, "most": 4, **changes})


def take(listener):
    return asyncio.run(listener.take(0.0))


def test_numbers_grow_from_the_first(tmp_path):
    one = hub()
    for n in range(3):
        HubSink(one).send(stamped(n=n))
    assert [record.number for record in one.kept(ALL, 10)] == [101, 102, 103]
    assert json.loads(one.kept(ALL, 1)[0].text)["n"] == 2


@pytest.mark.medium
@given(st.lists(st.tuples(KINDS, CAMERAS), max_size=60), st.integers(0, 6000))
def test_what_is_kept_stays_within_its_bytes_and_is_the_newest(put, keep_bytes):
    one = hub(keep_bytes=keep_bytes)
    for n, (kind, camera) in enumerate(put):
        one.put(stamped(kind, camera, n))
        kept = one.kept(ALL, 1000)
        assert one.kept_bytes == sum(record.n_bytes for record in kept) <= keep_bytes
        assert [record.number for record in kept] == list(
            range(one.last - len(kept) + 1, one.last + 1)
        )


@pytest.mark.medium
@given(st.lists(st.tuples(KINDS, CAMERAS), max_size=60), CAMERAS, st.sets(KINDS))
def test_who_wants_some_gets_exactly_these(put, camera, types):
    wanted = Wanted(camera, frozenset(types))
    one = hub(keep_bytes=10**6, capacity=1000)
    listener = one.listen(wanted)
    for n, (kind, of) in enumerate(put):
        one.put(stamped(kind, of, n))
    expected = [n for n, (kind, of) in enumerate(put) if of == camera and kind in (types or {kind})]
    if expected:
        missed, records = take(listener)
        assert missed == 0
        assert [json.loads(record.text)["n"] for record in records] == expected
    assert [json.loads(r.text)["n"] for r in one.kept(wanted, 1000)] == expected


@pytest.mark.medium
@given(st.lists(st.one_of(KINDS, st.none()), max_size=80), st.integers(1, 8))
def test_a_listener_is_bounded_in_order_and_told_of_every_loss(steps, capacity):
    """None is a moment at which it reads."""
    listener = Listener(ALL, capacity)
    offered = heard = lost = 0
    last = -1
    for step in [*steps, None]:
        if step is not None:
            before = [one.type for one in listener._waiting]
            listener.offer(Numbered(offered, "door", step, "{}"))
            offered += 1
            assert listener.n_waiting <= capacity
            if len(before) == capacity:  # one went: a passing one, if there was any
                gone = [*before, step]
                left = [one.type for one in listener._waiting]
                passing = [kind for kind in gone if kind in PASSING]
                assert len([kind for kind in left if kind in PASSING]) == max(0, len(passing) - 1)
        elif listener.n_waiting:
            missed, records = take(listener)
            heard, lost = heard + len(records), lost + missed
            numbers = [one.number for one in records]
            assert numbers == sorted(set(numbers)) and numbers[0] > last
            last = numbers[-1]
    assert heard + lost == offered


@given(st.integers(0, 40), st.integers(90, 150), st.integers(0, 9000))
def test_a_replay_is_all_that_is_kept_after_a_number_and_tells_what_is_not(count, after, keep):
    one = hub(keep_bytes=keep)
    for n in range(count):
        one.put(stamped(n=n))
    kept = [record.number for record in one.kept(ALL, 1000)]
    listener = one.listen(ALL, after)
    expected = [number for number in kept if number > after]
    is_whole = after >= 100 and set(range(max(after, 100) + 1, one.last + 1)) == set(expected)
    if expected or not is_whole:
        one.put(stamped(n=-1))  # so that there is something to take
        missed, records = take(listener)
        assert [record.number for record in records][: len(expected)] == expected
        assert missed == int(after < 100 or not is_whole)


def test_nothing_older_than_the_retention_is_kept():
    now = [0.0]
    one = hub(retention_s=10.0, monotonic=lambda: now[0])
    for n in range(30):
        now[0] = float(n)
        one.put(stamped(n=n))
    assert [json.loads(record.text)["n"] for record in one.kept(ALL, 100)] == list(range(19, 30))
    now[0] = 100.0
    assert one.kept(ALL, 100) == [] and one.kept_bytes == 0


def test_forgetting_a_camera_leaves_the_others():
    one = hub()
    listener = one.listen(ALL)
    for n in range(6):
        one.put(stamped(camera="door" if n % 2 else "yard", n=n))
    one.forget("door")
    assert {record.camera for record in one.kept(ALL, 10)} == {"yard"}
    assert {record.camera for record in take(listener)[1]} == {"yard"}
    assert one.kept_bytes == sum(record.n_bytes for record in one.kept(ALL, 10))


def test_there_are_no_more_listeners_than_may_be():
    one = hub(most=2)
    first, _ = one.listen(ALL), one.sit()
    with pytest.raises(ServiceFull):
        one.listen(ALL)
    one.leave(first)
    one.listen(ALL)


def test_a_listener_hears_from_another_thread_and_of_the_end():
    async def listen():
        one = hub()
        one.serve_in(asyncio.get_running_loop())
        listener = one.listen(ALL)
        hearing = asyncio.create_task(listener.take(60))
        await asyncio.sleep(0)
        await asyncio.to_thread(one.put, stamped())
        assert len((await hearing)[1]) == 1
        ending = asyncio.create_task(listener.take(60))
        await asyncio.sleep(0)
        one.close()
        assert (await ending) == (0, [])
        assert listener.is_closed
        return one

    one = asyncio.run(listen())
    one.put(stamped())  # the loop is closed by now: nobody to wake, and no fault
