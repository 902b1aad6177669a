"""How long frames take while answers are spoken without a pause, in one mode of the lane.

Frames come at their times in a thread, wait in a mailbox that keeps the newest and are encoded in
another thread, as in a live run; the caller's thread speaks. No word of it is ever decoded.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from ..runtime.assembly import Attached
from ..runtime.mailbox import keep_all, keep_newest_frame
from ..runtime.running import Running
from ..runtime.values import Frame
from .bench_parts import QUESTIONS, question_turn
from .bench_scene import Scene

TALK_BEFORE_S = 0.3
"""The first frame comes when speaking is under way."""


@dataclass(frozen=True, slots=True)
class Load:
    """What became of both kinds of work in one round.

    Attributes:
        frame_ms: of each frame that was encoded, from when it was due to its embeds.
        due: frames in all.
        dropped: frames that a newer one displaced.
        wait_ms: of frames for the lane, those that warmed up included: p50, p99, max and n.
        tokens: that were decoded.
        decoding_s: how long that took, waits included, prompts not; seconds.
    """

    frame_ms: tuple[float, ...]
    due: int
    dropped: int
    wait_ms: dict[str, Any]
    tokens: int
    decoding_s: float

    @property
    def tokens_per_s(self) -> float:
        """Speed of decoding; 0 where not one token was."""
        return self.tokens / self.decoding_s if self.tokens else 0.0


@dataclass(slots=True)
class Talker:
    """Answers one question after another about what memory holds.

    Attributes:
        model: in the context recent.
        scene: whose time it is.
        tokens, decoding_s: as in `Load`.
    """

    model: Attached
    scene: Scene
    tokens: int = 0
    decoding_s: float = 0.0

    def talk(self, until_s: float) -> None:
        """Answers until then, by `time.perf_counter`; at least one token."""
        session, asked = self.model.session, 0
        before = self.tokens
        while time.perf_counter() < until_s or self.tokens == before:
            asked += 1
            turn = question_turn(QUESTIONS[asked % 2], self.scene.now_s)
            prompted = session.context.prompt(turn, lambda: False)
            assert prompted is not None, "nobody cancels"
            token = int(prompted.logits.argmax())
            begun_s = time.perf_counter()
            for _ in range(self._answer_tokens()):
                token = int(session.model.step(token).argmax())
                self.tokens += 1
                if time.perf_counter() >= until_s:
                    break
            self.decoding_s += time.perf_counter() - begun_s
            session.context.answered(token)

    def _answer_tokens(self) -> int:
        """As many as the layout allows and the cache has room for."""
        arena = self.model.session.model.arena
        return min(self.model.layout.max_answer_tokens, arena.capacity - arena.length)


def speech_alone(model: Attached, scene: Scene, seconds: float) -> float:
    """Tokens a second with nobody watching."""
    talker = Talker(model, scene)
    talker.talk(time.perf_counter() + seconds)
    return talker.tokens / talker.decoding_s


def load(model: Attached, scene: Scene, fps: float, seconds: float) -> Load:
    """Frames and answers together for so many seconds.

    Args:
        model: in the context recent; nothing has waited at its lane yet.
    """
    count, dropped = max(1, round(fps * seconds)), 0

    def on_drop(what: str) -> None:
        nonlocal dropped
        dropped += 1

    for _ in range(4):  # what is shown with a question, and a warm engine
        _look(model, scene.next())
    talker = Talker(model, scene)
    talker.talk(time.perf_counter())
    talker = Talker(model, scene)
    first, begun_s = scene.count, time.perf_counter() + TALK_BEFORE_S
    with Running(is_live=True, on_drop=on_drop) as running:
        frames = running.hand_over(
            paced(scene, begun_s, fps, count, running.cancelled), keep_newest_frame(1)
        )
        looked = running.hand_over(watched(model, frames, begun_s, fps, first), keep_all())
        talker.talk(begun_s + seconds)
        late_ms = tuple(looked)
    wait_ms = model.lane.stats()["watch"]["wait_ms"]
    return Load(late_ms, count, dropped, wait_ms, talker.tokens, talker.decoding_s)


def paced(
    scene: Scene, begun_s: float, fps: float, count: int, cancelled: Callable[[], bool]
) -> Iterator[Frame]:
    """So many pictures, each at its time."""
    for index in range(count):
        while (rest_s := begun_s + index / fps - time.perf_counter()) > 0:
            if cancelled():
                return
            time.sleep(min(rest_s, 0.1))
        yield scene.next()


def watched(
    model: Attached, frames: Iterable[Frame | None], begun_s: float, fps: float, first: int
) -> Iterator[float]:
    """Each frame encoded and remembered; from when it was due until then, ms."""
    for frame in frames:
        if frame is None:  # the mailbox may hold ticks; ours brings none
            continue
        _look(model, frame)
        yield 1e3 * (time.perf_counter() - begun_s - (frame.index - first) / fps)


def _look(model: Attached, frame: Frame) -> None:
    features = model.encoder.encode(frame)
    decision = model.quiet(features)
    model.memory.step(features, model.connector.step(features, decision), decision)
