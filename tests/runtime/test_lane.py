"""The lane between real threads: one at a time, frames first, nobody left behind."""

from __future__ import annotations

import signal
import threading
import time
from contextlib import contextmanager

import pytest

from edgestream.runtime.engines.lane import WAITS_KEPT, Lane, OpenLane

LONG_S = 10.0
"""More than any of these threads may take."""


class Clock:
    def __init__(self) -> None:
        self.now_s = 0.0
        self.calls = 0

    def __call__(self) -> float:
        self.calls += 1
        return self.now_s


@contextmanager
def threads(*functions):
    started = [threading.Thread(target=function, daemon=True) for function in functions]
    for thread in started:
        thread.start()
    yield
    for thread in started:
        thread.join(LONG_S)
    assert not any(thread.is_alive() for thread in started), "a thread waits for ever"


def until(condition) -> None:
    deadline = time.monotonic() + LONG_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.0005)


def door(lane, kind):
    return lane.watch() if kind == "watch" else lane.speak()


def most_inside(lane) -> int:
    """Three threads of each kind, 60 turns each; how many were inside at once."""
    inside, most = [], [0]

    def work(kind):
        for _ in range(60):
            with door(lane, kind):
                inside.append(kind)
                most[0] = max(most[0], len(inside))
                time.sleep(0)
                most[0] = max(most[0], len(inside))
                inside.pop()

    with threads(*[lambda kind=kind: work(kind) for kind in ("watch", "speak") * 3]):
        pass
    return most[0]


def test_one_at_a_time_and_every_turn_is_had():
    lane = Lane()
    assert most_inside(lane) == 1
    stats = lane.stats()
    assert stats["watch"]["holds"] == stats["speak"]["holds"] == 180
    assert lane.waiting("watch") == lane.waiting("speak") == 0


def test_the_open_lane_lets_both_in():
    lane, both = OpenLane(), threading.Barrier(2, timeout=LONG_S)

    def work(kind):
        with door(lane, kind):
            both.wait()

    with threads(lambda: work("watch"), lambda: work("speak")):
        pass
    stats = lane.stats()
    assert stats["watch"]["holds"] == stats["speak"]["holds"] == 1
    assert stats["watch"]["wait_ms"] == {"p50": 0.0, "p99": 0.0, "max": 0.0, "n": 1}


def frames_and_steps(lane, *, frame_every_s, seconds=0.6):
    """Frames encoded (5 ms) and steps decoded (2 ms, back to back) while both kinds run."""
    end_s, counts = time.perf_counter() + seconds, {"frames": 0, "steps": 0}

    def speak():
        while time.perf_counter() < end_s:
            with lane.speak():
                time.sleep(0.002)
            counts["steps"] += 1

    def watch():
        while time.perf_counter() < end_s:
            with lane.watch():
                time.sleep(0.005)
            if time.perf_counter() < end_s:
                counts["frames"] += 1
            time.sleep(frame_every_s)

    with threads(speak, watch):
        pass
    return counts


@pytest.mark.medium
def test_frames_go_on_while_an_answer_is_decoded():
    assert frames_and_steps(Lane(), frame_every_s=0.015)["frames"] >= 12  # of about 26


@pytest.mark.medium
def test_answers_go_on_while_frames_come_all_the_time():
    lane = Lane()
    counts = frames_and_steps(lane, frame_every_s=0.0)
    assert counts["frames"] >= 20 and counts["steps"] >= 20
    assert lane.stats()["speak_share"] >= 0.2


def test_an_error_inside_gives_the_lane_back():
    lane = Lane()
    for kind in ("watch", "speak"):
        with pytest.raises(OSError), door(lane, kind):
            raise OSError("the engine broke")
    with lane.watch(), threads():
        pass
    assert lane.stats()["watch"]["holds"] == 2


@pytest.mark.parametrize("kind", ["watch", "speak"])
def test_ctrl_c_while_waiting_leaves_nobody_behind(kind):
    lane, is_held, let_go = Lane(), threading.Event(), threading.Event()

    def hold():
        with lane.speak():
            is_held.set()
            let_go.wait(LONG_S)

    def interrupt():
        until(lambda: lane.waiting(kind) == 1)
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)

    with threads(hold):
        assert is_held.wait(LONG_S)
        with threads(interrupt), pytest.raises(KeyboardInterrupt), door(lane, kind):
            pytest.fail("the lane is held by another thread")
        assert lane.waiting(kind) == 0
        let_go.set()
    with lane.watch():
        pass
    with lane.speak():
        pass


def test_who_leaves_wakes_one_thread_only():
    clock = Clock()
    lane, go, begun = Lane(monotonic=clock), threading.Event(), threading.Semaphore(0)

    def speak():
        with lane.speak():
            begun.release()
            go.wait(LONG_S)

    with threads(*[speak] * 5):
        until(lambda: lane.waiting("speak") == 4)
        calls = clock.calls
        go.set()
        for _ in range(5):
            assert begun.acquire(timeout=LONG_S)
    # Every thread that wakes looks at the clock twice, every one that leaves once.
    assert clock.calls - calls <= 4 * 2 + 5


def test_a_frame_goes_when_speak_does_not_come_back_for_its_share():
    lane, is_held = Lane(speak_share=0.5), threading.Event()

    def encode():
        with lane.watch():
            is_held.set()
            until(lambda: lane.waiting("speak") == 1)
            time.sleep(0.05)

    with threads(encode):
        assert is_held.wait(LONG_S)
        with lane.speak():  # owed 50 ms more, and never comes back
            pass
        begun_s = time.perf_counter()
        with lane.watch():
            waited_s = time.perf_counter() - begun_s
    assert 0.02 < waited_s < 2


def test_a_thread_that_has_the_lane_cannot_wait_for_itself():
    lane = Lane()
    with lane.watch(), pytest.raises(RuntimeError, match="already holds"), lane.speak():
        pass
    with lane.speak():
        pass


@pytest.mark.parametrize("make", [Lane, OpenLane])
def test_stats_tell_turns_and_their_share(make):
    clock = Clock()
    lane = make(monotonic=clock)
    for kind, held_s in (("watch", 0.030), ("speak", 0.008), ("speak", 0.002)):
        with door(lane, kind):
            clock.now_s += held_s
    stats = lane.stats()
    assert stats["speak_share"] == pytest.approx(0.25)
    assert stats["speak"]["holds"] == 2 and stats["speak"]["longest_hold_ms"] == 8.0
    assert stats["watch"]["busy_s"] == pytest.approx(0.03)
    assert stats["watch"]["wait_ms"] == {"p50": 0.0, "p99": 0.0, "max": 0.0, "n": 1}


def test_stats_before_the_first_turn_claim_nothing():
    stats = Lane().stats()
    assert stats["speak_share"] is None
    assert stats["watch"]["wait_ms"] == {"p50": None, "p99": None, "max": None, "n": 0}


@pytest.mark.parametrize("kind", ["watch", "speak"])
def test_waits_are_told_of_the_latest_turns_only(kind):
    lane = Lane()
    for _ in range(WAITS_KEPT + 10):
        with door(lane, kind):
            pass
    stats = lane.stats()[kind]
    assert stats["holds"] == WAITS_KEPT + 10 and stats["wait_ms"]["n"] == WAITS_KEPT


def test_a_wait_is_measured_from_asking_to_having():
    clock, is_held = Clock(), threading.Event()
    lane = Lane(monotonic=clock)

    def encode():
        with lane.watch():
            is_held.set()
            until(lambda: lane.waiting("speak") == 1)
            clock.now_s = 0.25

    with threads(encode):
        assert is_held.wait(LONG_S)
        with lane.speak():
            pass
    assert lane.stats()["speak"]["wait_ms"]["max"] == 250.0
