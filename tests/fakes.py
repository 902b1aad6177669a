"""The only fakes: a scripted source, encoder, gate, session, sink and clock behind the real seams.

They implement the protocols, so nothing is patched. Each can be told to be late (a random pause
out of a seeded generator) and to fail at a given step.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone

import numpy as np

from edgestream.runtime.metrics import Metrics
from edgestream.runtime.motion import MotionDetector
from edgestream.runtime.records import Record, StampedRecord
from edgestream.runtime.router import TurnRouter
from edgestream.runtime.stages import Stages
from edgestream.runtime.values import (
    Event,
    Features,
    Frame,
    GateDecision,
    Moment,
    Observed,
    Response,
    Turn,
)

SIZE_PX = 16


class Late:
    """Random pauses of up to `most_s`, from a seed."""

    def __init__(self, seed: int, most_s: float) -> None:
        self._random = random.Random(seed)
        self._most_s = most_s

    def __call__(self) -> None:
        if self._most_s:
            time.sleep(self._random.random() * self._most_s)


def never_late() -> None:
    """No pause."""


def frame_at(index: int, fps: float = 4.0) -> Frame:
    """A grey frame whose level tells its index."""
    level = np.full((SIZE_PX, SIZE_PX, 3), index % 256, np.uint8)
    return Frame(index=index, time_s=index / fps, pixels=level)


class ListSource:
    """Given frames (None is a tick), one after the other.

    As a live source its clock runs ahead of its frames by `ahead_s`, as a camera's does.
    """

    def __init__(
        self,
        frames: list[Frame | None],
        *,
        is_live: bool = False,
        pause: Callable[[], None] = never_late,
        fails_at: int | None = None,
        ahead_s: float = 0.0,
    ) -> None:
        self.name = "list"
        self.is_live = is_live
        self.duration_s: float | None = None
        self.is_closed = False
        self._frames = frames
        self._pause = pause
        self._fails_at = fails_at
        self._ahead_s = ahead_s
        self._now_s = 0.0

    def now_s(self) -> float:
        return self._now_s

    def frames(self, tell: Callable[[Record], None]) -> Iterator[Frame | None]:
        try:
            for step, frame in enumerate(self._frames):
                if step == self._fails_at:
                    raise RuntimeError("the source broke")
                self._pause()
                if frame is not None:
                    self._now_s = frame.time_s + self._ahead_s
                elif self.is_live:
                    self._now_s += 0.1
                yield frame
        finally:
            self.is_closed = True


class LevelEncoder:
    """Features whose one token is the grey level of the frame."""

    def __init__(self, pause: Callable[[], None] = never_late, fails_at: int | None = None) -> None:
        self._pause = pause
        self._fails_at = fails_at
        self._motion = MotionDetector()

    def encode(self, frame: Frame) -> Features:
        if frame.index == self._fails_at:
            raise RuntimeError("the encoder broke")
        self._pause()
        level = np.full((1, 1), frame.pixels[0, 0, 0], np.float32)
        motion = self._motion.step(frame)
        return Features(frame.time_s, level, np.ones(1, np.float32), motion, False, is_fresh=True)


class ScriptedGate:
    """Opens an event `bell` at the given times, for one step; `told` makes it depend on `heard`."""

    def __init__(self, at_s: set[float], fails_at_s: float | None = None) -> None:
        self._at_s = at_s
        self._fails_at_s = fails_at_s
        self._count = 0
        self._open: Event | None = None

    def step(self, features: Features, dt_s: float | None) -> GateDecision:
        if features.time_s == self._fails_at_s:
            raise RuntimeError("the gate broke")
        closed = () if self._open is None else (_closed(self._open, features.time_s),)
        self._open = None
        if features.time_s in self._at_s:
            self._count += 1
            self._open = Event(f"e{self._count}", "bell", features.time_s)
        opened = () if self._open is None else (self._open,)
        return GateDecision(features.time_s, opened=opened, closed=closed)

    def idle(self, time_s: float) -> GateDecision:
        return GateDecision(time_s)

    def reset(self) -> None:
        self._open = None

    def snapshot(self) -> Event | None:
        return self._open

    def restore(self, state: Event | None) -> None:
        self._open = state


def _closed(event: Event, time_s: float) -> Event:
    return Event(event.event_id, event.event, event.opened_s, time_s)


class ScriptedSession:
    """Says what it was asked, in two partial texts and a final; cut when cancelled."""

    def __init__(
        self,
        pause: Callable[[], None] = never_late,
        fails_at: str | None = None,
        entered: threading.Event | None = None,
        may_go_on: threading.Event | None = None,
    ) -> None:
        self.observed: list[float] = []
        self._pause = pause
        self._fails_at = fails_at
        self._entered = entered
        self._may_go_on = may_go_on

    def take(
        self, moment: Moment, cancelled: Callable[[], bool], tell: Callable[[Record], None]
    ) -> Iterator[Response]:
        if isinstance(moment, Observed):
            self.observed.append(moment.features.time_s)
        if not isinstance(moment, Turn):
            return
        if moment.turn_id == self._fails_at:
            raise RuntimeError("the session broke")
        if self._entered is not None:
            self._entered.set()
        if self._may_go_on is not None:
            self._may_go_on.wait(10)
        about = moment.question.text if moment.question else moment.events[0].event
        words = ["about", about, f"at {moment.time_s:g} s"]
        text = ""
        for word in words:
            self._pause()
            if cancelled():
                yield self._response(moment, text, is_cut=True)
                return
            text = f"{text} {word}".strip()
            if word is not words[-1]:
                yield Response(moment.turn_id, moment.cause, text, False, (0.0, moment.time_s))
        yield self._response(moment, text)

    def _response(self, moment: Moment, text: str, is_cut: bool = False) -> Response:
        assert isinstance(moment, Turn)
        return Response(
            moment.turn_id, moment.cause, text, True, (0.0, moment.time_s), is_cut=is_cut
        )


class RememberingMemory:
    """Keeps the times of frames and the texts it was told, in order."""

    def __init__(self) -> None:
        self.kept: list[tuple[str, object]] = []

    def step(self, features: Features, embeds: object, decision: GateDecision) -> None:
        self.kept.append(("frame", features.time_s))

    def remember(self, said: object) -> None:
        self.kept.append(("said", tuple(response.text for response in said)))  # type: ignore[attr-defined]


class CollectingSink:
    """Keeps every record; fails at a given one and at each one after it."""

    def __init__(
        self,
        pause: Callable[[], None] = never_late,
        fails_at: int | None = None,
        fault: Exception | None = None,
    ) -> None:
        self.records: list[StampedRecord] = []
        self.attempts = 0
        self.is_closed = False
        self._pause = pause
        self._fails_at = fails_at
        self._fault = fault or RuntimeError("the sink broke")

    def send(self, record: StampedRecord) -> None:
        self._pause()
        self.attempts += 1
        if len(self.records) == self._fails_at:
            raise self._fault
        self.records.append(record)

    def close(self) -> None:
        self.is_closed = True

    def bodies(self, *types: str) -> list[dict[str, object]]:
        """Bodies of the records of these types, in order."""
        return [dict(one.record.body) for one in self.records if one.record.type in types]


class SteppedWall:
    """A wall clock that moves on by a second at every reading."""

    def __init__(self) -> None:
        self._now = datetime(2026, 1, 1, tzinfo=timezone.utc)

    def __call__(self) -> datetime:
        self._now += timedelta(seconds=1)
        return self._now


def stages_of(**changed: object) -> Stages:
    """Stages out of fakes: no pause, no event, a session that answers; any of them replaced."""
    parts: dict[str, object] = {
        "encoder": LevelEncoder(),
        "gate": ScriptedGate(set()),
        "router": TurnRouter(describes_events=True),
        "metrics": Metrics(fps_target=4.0),
        "session": ScriptedSession(),
        "memory": RememberingMemory(),
    }
    return Stages(**{**parts, **changed})  # type: ignore[arg-type]
