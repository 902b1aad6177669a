"""Whose turn it is: nobody starves, speak has its share, a frame waits for one turn at most."""

from __future__ import annotations

import heapq
from dataclasses import dataclass, field
from itertools import count

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from edgestream.runtime.engines.lane_order import Kind, LaneOrder, Ticket


@dataclass
class Simulated:
    """Two threads on one lane, in virtual time.

    The watcher encodes the newest frame that came; the speaker decodes and thinks in turns.
    """

    order: LaneOrder
    encode_s: float
    frame_every_s: float
    decode_s: float
    think_s: float
    frame_waits_s: list[float] = field(default_factory=list)
    steps: int = 0
    turns: list[Kind] = field(default_factory=list)

    def run(self, seconds: float) -> Simulated:
        numbers = count()
        due: list[tuple[float, int, str]] = [(0.0, -1, "step"), (0.0, -2, "frame")]
        seen: Ticket | None = None
        while due[0][0] <= seconds:
            now_s, _, what = heapq.heappop(due)
            if what in ("frame", "step"):
                self.order.ask("watch" if what == "frame" else "speak", now_s)
            elif what == "tick":
                self.order.tick(now_s)
            else:
                self.order.leave(now_s)
                next_s, back = now_s + self.think_s, "step"
                if what == "encoded":
                    late_s = now_s % self.frame_every_s if self.frame_every_s else 0.0
                    next_s, back = now_s + (self.frame_every_s - late_s), "frame"
                heapq.heappush(due, (next_s, next(numbers), back))
            holder = self.order.holder
            if holder is None and self.order.waiting("watch"):
                heapq.heappush(due, (max(self.order.speak_until_s, now_s), next(numbers), "tick"))
            elif holder is not None and holder is not seen:
                self._begin(holder, now_s, due, next(numbers))
            seen = holder
        return self

    def _begin(self, holder: Ticket, now_s: float, due: list, number: int) -> None:
        self.turns.append(holder.kind)
        if holder.kind == "watch":
            self.frame_waits_s.append(now_s - holder.asked_s)
            heapq.heappush(due, (now_s + self.encode_s, number, "encoded"))
        else:
            self.steps += 1
            heapq.heappush(due, (now_s + self.decode_s, number, "decoded"))


def simulated(order=0.25, *, encode_s, decode_s, think_s, frame_every_s=0.0, seconds=20.0):
    order = order if isinstance(order, LaneOrder) else LaneOrder(order)
    return Simulated(order, encode_s, frame_every_s, decode_s, think_s).run(seconds)


class PlainLock(LaneOrder):
    """What the lane must not be: who waits is woken, and finds the lock taken again or not."""

    WAKES_S = 5e-5

    def ask(self, kind, now_s):
        if self.holder is not None:
            ticket = Ticket(kind, now_s)
            self._queue(kind).append(ticket)
            return ticket
        self.holder = Ticket(kind, now_s, granted_s=now_s)
        return self.holder

    def leave(self, now_s):
        self.holder, self.speak_until_s = None, now_s + self.WAKES_S

    def tick(self, now_s):
        waiting = (*self.waiting("watch"), *self.waiting("speak"))
        if self.holder is None and waiting:
            self.holder = waiting[0]
            self._queue(self.holder.kind).popleft()


durations = st.floats(0.002, 0.08)


@pytest.mark.medium
@settings(max_examples=60, deadline=None)
@given(st.floats(0.05, 0.5), durations, durations, st.floats(0.0, 0.02))
def test_with_frames_all_the_time_speak_keeps_its_share_of_its_speed_alone(
    share, encode_s, decode_s, think_s
):
    alone = 20.0 / (decode_s + think_s)
    seen = simulated(share, encode_s=encode_s, decode_s=decode_s, think_s=think_s)
    # The end of the measurement may cut off what follows one turn of watch.
    cut_off = share / (1 - share) * encode_s / (decode_s + think_s)
    assert seen.steps >= share * alone - cut_off - 2


@pytest.mark.medium
@settings(max_examples=60, deadline=None)
@given(st.floats(0.0, 0.5), durations, durations, st.floats(0.0, 0.02))
def test_with_both_all_the_time_watch_has_all_but_the_share_and_one_turn(
    share, encode_s, decode_s, think_s
):
    seen = simulated(share, encode_s=encode_s, decode_s=decode_s, think_s=think_s)
    owed_s = encode_s * share / (1 - share)
    assert max(seen.frame_waits_s) <= owed_s + decode_s + 1e-9
    assert len(seen.frame_waits_s) >= 20.0 / (encode_s + owed_s + decode_s) - 2


@pytest.mark.medium
@settings(max_examples=60, deadline=None)
@given(durations, durations, st.floats(0.0, 0.02), st.floats(0.0, 0.05))
def test_a_frame_that_is_encoded_in_time_waits_for_one_step_at_most(
    encode_s, decode_s, think_s, spare_s
):
    period_s = encode_s * 4 / 3 + decode_s + spare_s
    seen = simulated(encode_s=encode_s, decode_s=decode_s, think_s=think_s, frame_every_s=period_s)
    assert len(seen.frame_waits_s) >= 20.0 / period_s - 2
    assert max(seen.frame_waits_s) <= decode_s + 1e-9


def test_with_a_plain_lock_a_frame_waits_for_the_whole_answer():
    times = {"encode_s": 0.027, "decode_s": 0.008, "think_s": 1e-5, "frame_every_s": 0.1}
    assert max(simulated(**times).frame_waits_s) <= 0.008 + 1e-9
    assert len(simulated(PlainLock(0.25), **times).frame_waits_s) <= 1  # the one before the answer


def test_without_a_share_watch_always_goes_first():
    order = LaneOrder(0.0)
    order.ask("watch", 0.0)
    order.ask("speak", 0.0)
    order.ask("watch", 0.0)
    order.leave(1.0)
    assert order.holder is not None and order.holder.kind == "watch"


def test_speak_is_owed_only_for_the_time_it_waited():
    order = LaneOrder(0.25)
    order.ask("watch", 0.0)
    order.ask("speak", 6.0)
    order.leave(9.0)
    assert order.speak_until_s == pytest.approx(9.0 + 1.0)


def test_a_second_speaker_prolongs_nobodys_time():
    order = LaneOrder(0.25)
    order.ask("speak", 0.0)
    order.ask("speak", 0.0)
    order.leave(9.0)
    order.leave(9.1)
    frame = order.ask("watch", 9.2)
    assert order.holder is frame


def test_while_speak_thinks_in_its_own_time_a_frame_waits_and_then_goes():
    order = LaneOrder(0.25)
    order.ask("watch", 0.0)
    order.ask("speak", 0.0)
    order.leave(9.0)
    frame = order.ask("watch", 9.1)
    order.leave(10.0)
    assert order.holder is None  # kept for speak until 12
    order.tick(11.9)
    assert order.holder is None
    order.tick(12.0)
    assert order.holder is frame


def test_speak_that_comes_back_in_its_own_time_goes_before_the_frame():
    order = LaneOrder(0.25)
    order.ask("watch", 0.0)
    order.ask("speak", 0.0)
    order.leave(9.0)
    order.ask("watch", 9.1)
    order.leave(10.0)
    step = order.ask("speak", 11.0)
    assert order.holder is step


@pytest.mark.parametrize("share", [-0.1, 1.0, float("nan")])
def test_a_share_that_leaves_watch_nothing_is_refused(share):
    with pytest.raises(ValueError, match="speak_share"):
        LaneOrder(share)


class AnyThreads(RuleBasedStateMachine):
    """Any number of threads that ask, leave, are interrupted and come back, in any order."""

    @initialize(share=st.floats(0.0, 0.9))
    def start(self, share):
        self.order, self.now_s = LaneOrder(share), 0.0
        self.asked = {"watch": [], "speak": []}

    @rule(kind=st.sampled_from(["watch", "speak"]))
    def ask(self, kind):
        self.asked[kind].append(self.order.ask(kind, self.now_s))

    @rule(passed_s=st.floats(0.0, 3.0))
    def time_passes(self, passed_s):
        self.now_s += passed_s

    @rule()
    def tick(self):
        self.order.tick(self.now_s)

    @precondition(lambda self: self.order.holder is not None)
    @rule()
    def leave(self):
        self.order.leave(self.now_s)

    @rule(data=st.data(), kind=st.sampled_from(["watch", "speak"]))
    def interrupt(self, data, kind):
        there = [self.order.holder] if self.order.holder else []
        there += self.order.waiting(kind)
        if there:
            gone = data.draw(st.sampled_from(there))
            self.asked[gone.kind].remove(gone)
            self.order.withdraw(gone, self.now_s)

    @invariant()
    def first_come_first_served_and_nobody_is_lost(self):
        for kind, asked in self.asked.items():
            begun = [ticket for ticket in asked if ticket.granted_s is not None]
            assert asked == [*begun, *self.order.waiting(kind)]
        assert self.order.holder not in (*self.order.waiting("watch"), *self.order.waiting("speak"))

    @invariant()
    def nobody_waits_at_an_idle_lane_but_watch_in_speaks_time(self):
        if self.order.holder is None:
            assert not self.order.waiting("speak")

    def teardown(self):
        if hasattr(self, "order"):  # all of them are served in the end
            while any(self.order.waiting(kind) for kind in self.asked):
                if self.order.holder is None:
                    self.now_s = max(self.now_s, self.order.speak_until_s)
                    self.order.tick(self.now_s)
                    assert self.order.holder is not None
                else:
                    self.order.leave(self.now_s)


AnyThreads.TestCase.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
test_any_threads = AnyThreads.TestCase
