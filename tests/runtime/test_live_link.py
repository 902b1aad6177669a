"""The shared part of a live source: one newest frame, states told once, bounded records."""

from __future__ import annotations

import threading

import pytest

from edgestream.runtime.live_link import RECORDS_KEPT, WARN_EVERY_S, LiveLink
from edgestream.runtime.records import camera_state

from ..fakes import frame_at


class HandClock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def states(link):
    return [record.body["state"] for record in link.records(0.0) if record.type == "camera"]


def test_only_the_newest_frame_waits_and_the_others_are_counted():
    clock = HandClock()
    link = LiveLink(clock)
    for index in range(5):
        link.put(frame_at(index))
    taken = link.take(0.0)
    assert taken is not None and taken.index == 4
    assert link.take(0.0) is None
    (drop,) = link.records(7.25)
    assert dict(drop.body) == {"what": "frames", "count": 4, "since_s": 0.0}
    link.put(frame_at(5))
    link.put(frame_at(6))
    assert link.records(8.0) == []  # not even a second later
    clock.now_s += 1.0
    (drop,) = link.records(8.0)
    assert dict(drop.body) == {"what": "frames", "count": 1, "since_s": 7.25}


def test_a_state_is_told_once_and_again_for_another_reason():
    link = LiveLink(HandClock())
    for state, reason in [
        ("open", "a"),
        ("open", "a"),
        ("open", "b"),
        ("lost", "c"),
        ("lost", "c"),
    ]:
        link.move(state, reason)
    assert states(link) == ["open", "open", "lost"]


def test_the_state_counts_pictures_and_tries():
    clock = HandClock()
    link = LiveLink(clock)
    link.tried()
    link.tried()
    assert link.state().attempts == 2 and link.state().decoded == 0
    link.decoded(0.25)
    state = link.state()
    assert (state.attempts, state.decoded, state.lag_s) == (0, 1, 0.25)
    clock.now_s += 5
    link.move("lost", "away")
    assert link.state().since_s == 105.0 and link.state().decoded == 1


def test_records_that_nobody_takes_are_bounded_and_the_newest_states_stay():
    link = LiveLink(HandClock())
    for index in range(RECORDS_KEPT + 10):
        link.move("lost", f"reason {index}")
        link.note(camera_state("rebased", "so"))
    told = link.records(0.0)
    assert len(told) == RECORDS_KEPT + 1
    assert told[-2].body["reason"] == f"reason {RECORDS_KEPT + 9}"
    lost = (RECORDS_KEPT + 10) * 2 - RECORDS_KEPT
    assert dict(told[-1].body) == {"what": "records", "count": lost, "since_s": 0.0}


def test_faults_are_told_at_most_once_a_minute_and_add_up():
    clock = HandClock()
    link = LiveLink(clock)
    for _ in range(3):
        link.fault("source-damaged", 2, lambda count: f"{count} pieces")
    (first,) = link.records(0.0)
    assert dict(first.body) == {"code": "source-damaged", "message": "6 pieces"}
    link.fault("source-damaged", 1, lambda count: f"{count} pieces")
    clock.now_s += WARN_EVERY_S / 2
    assert link.records(0.0) == []
    (last,) = link.records(0.0, is_last=True)
    assert last.body["message"] == "1 pieces"


def test_while_it_is_paused_nothing_moves_it_and_no_frame_comes():
    link = LiveLink(HandClock())
    link.put(frame_at(0))
    link.pause()
    link.pause()
    assert link.take(0.0) is None and link.is_leaving()
    link.put(frame_at(1))
    link.move("lost", "away")
    assert link.take(0.0) is None and link.state().state == "paused"
    link.resume()
    link.resume()
    assert not link.is_leaving()
    assert states(link) == ["paused", "connecting"]


def test_an_ended_link_cannot_be_paused():
    link = LiveLink(HandClock())
    link.move("ended", "over")
    link.pause()
    assert link.state().state == "ended" and not link.is_leaving()


@pytest.mark.parametrize("wake", ["pause", "stop"])
def test_a_wait_ends_early_when_the_user_wants_something(wake):
    link = LiveLink()
    woken = threading.Event()

    def sleep() -> None:
        link.sleep(60)
        woken.set()

    thread = threading.Thread(target=sleep, daemon=True)
    thread.start()
    getattr(link, wake)()
    assert woken.wait(20)
    thread.join()


def test_an_overdue_reader_is_noticed_once():
    clock = HandClock()
    link = LiveLink(clock)
    assert not link.is_overdue()
    link.expect_sign(2.0)
    clock.now_s += 2.0
    assert not link.is_overdue()
    clock.now_s += 0.1
    assert link.is_overdue() and not link.is_overdue()
    link.expect_sign(2.0)
    link.sleep(0.0)  # it waits by itself, and is not overdue
    clock.now_s += 99
    assert not link.is_overdue()


def test_what_broke_the_reader_is_raised():
    link = LiveLink()
    link.fail(ZeroDivisionError("a bug"))
    with pytest.raises(ZeroDivisionError):
        link.take(1.0)
