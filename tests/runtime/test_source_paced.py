"""A paced source: never early, never silent for long, its clock runs like a clock."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgestream.runtime.records import Record
from edgestream.runtime.source_paced import PacedSource
from edgestream.runtime.sources import RETURN_WITHIN_S
from edgestream.runtime.values import Frame

from ..fakes import ListSource, frame_at

WALL_S = 1_700_000_000.0


class SleptClock:
    """A clock that moves only by sleeping, a little longer than asked."""

    def __init__(self, over_s: float = 0.0) -> None:
        self.now_s = 100.0
        self._over_s = over_s

    def sleep(self, seconds: float) -> None:
        assert seconds > 0
        self.now_s += seconds + self._over_s

    def monotonic(self) -> float:
        return self.now_s

    def wall(self) -> float:
        return WALL_S + self.now_s - 100.0


class KeptSource(ListSource):
    """A list source that keeps its generator, so that nobody closes it by forgetting it."""

    def frames(self, tell: Callable[[Record], None]) -> Iterator[Frame | None]:
        self.kept = super().frames(tell)
        return self.kept


class EndingSource(ListSource):
    """A list source that ends half a second after its last frame."""

    def frames(self, tell: Callable[[Record], None]) -> Iterator[Frame | None]:
        yield from super().frames(tell)
        self._now_s += 0.5


def frames_at(times_s: list[float]) -> list[Frame | None]:
    return [Frame(index, time_s, frame_at(0).pixels) for index, time_s in enumerate(times_s)]


def paced(inner: ListSource, clock: SleptClock) -> PacedSource:
    return PacedSource(inner, clock.sleep, clock.monotonic, clock.wall)


@pytest.mark.medium
@given(
    st.lists(st.floats(0, 1.5), min_size=1, max_size=20),
    st.floats(0, 0.04),
    st.lists(st.floats(0, 0.6), min_size=20, max_size=20),
)
def test_never_early_never_silent_and_the_clock_runs(gaps_s, over_s, busy_s):
    times_s = [sum(gaps_s[: index + 1]) - gaps_s[0] for index in range(len(gaps_s))]
    clock = SleptClock(over_s)
    source = paced(EndingSource(frames_at(times_s)), clock)
    seen, given_at, now_s = [], clock.now_s, 0.0
    for frame in source.frames(list().append):
        assert clock.now_s - given_at <= RETURN_WITHIN_S
        assert source.now_s() >= now_s
        now_s = source.now_s()
        if frame is not None:
            assert now_s >= frame.time_s - 1e-9
            assert frame.captured_s is not None
            assert abs(frame.captured_s - WALL_S - frame.time_s) < 1e-3
            seen.append(frame.time_s)
            clock.now_s += busy_s[len(seen) - 1]  # the consumer works
        given_at = clock.now_s
    assert seen == times_s
    assert source.now_s() >= times_s[-1] + 0.5 - 1e-9
    assert clock.now_s - 100.0 >= times_s[-1] + 0.5 - 1e-9
    ended_s = source.now_s()
    assert ended_s >= clock.now_s - 100.0 - 1e-9
    clock.now_s += 10
    assert source.now_s() == ended_s


def test_a_consumer_in_time_gets_each_frame_within_a_step():
    clock = SleptClock()
    source = paced(ListSource(frames_at([0.0, 1.0, 2.5])), clock)
    late_s = [
        source.now_s() - frame.time_s for frame in source.frames(list().append) if frame is not None
    ]
    assert max(late_s) <= 0.002


def test_a_late_consumer_is_not_kept_waiting():
    clock = SleptClock()
    source = paced(ListSource(frames_at([0.0, 0.25, 0.5, 0.75])), clock)
    given = []
    for frame in source.frames(list().append):
        given.append(frame)
        if frame is not None and frame.index == 0:
            clock.now_s += 10
    assert [frame.index for frame in given if frame is not None] == [0, 1, 2, 3]
    assert None not in given[1:]
    assert clock.now_s == 110.0


def test_ticks_of_the_inner_source_pass_and_do_not_start_the_clock():
    clock = SleptClock()
    source = paced(ListSource([None, *frames_at([0.0, 0.01]), None]), clock)
    frames = source.frames(list().append)
    assert next(frames) is None
    assert source.now_s() == 0.0
    clock.now_s += 5  # a slow beginning is not stream time
    first = next(frames)
    assert first is not None and source.now_s() == 0.0
    assert list(frames)[-1] is None


def test_closing_it_closes_the_inner_source():
    inner = KeptSource(frames_at([0.0, 1.0]))
    source = paced(inner, SleptClock())
    frames = source.frames(list().append)
    next(frames)
    frames.close()  # type: ignore[attr-defined]
    assert inner.is_closed


def test_it_is_live_and_keeps_the_name():
    source = paced(ListSource([]), SleptClock())
    assert (source.name, source.is_live, source.duration_s) == ("list", True, None)
    assert list(source.frames(list().append)) == []
