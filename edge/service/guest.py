"""Answers about pictures that a client sends along: one session, one request at a time.

It has a cache and a memory of its own, counted in the budget, and forgets everything between two
requests.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from ...runtime.errors import TooManyRequests
from ...runtime.inbox import Inbox
from ...runtime.recall import RecallRules
from ...runtime.recent import RecentMemory
from ...runtime.records import Record
from ...runtime.router import QUIET, TurnRouter
from ...runtime.speaking import MemoryRules
from ...runtime.values import Frame, UInt8
from ..speech_rules import speaking_rules
from .answers import Answer, AnsweringSession, Answers
from .shares import IMAGES_MOST, Shares

if TYPE_CHECKING:
    from ...runtime.assembly import Attached
    from ...runtime.engine_pool import EnginePool
    from ..settings_tables import Settings

IMAGE_EVERY_S = 1.0
"""Pictures of one request are shown as frames so far apart: as a camera's are."""


@dataclass(slots=True)
class Guest:
    """Answers about pictures. Safe for any number of threads; one request runs, few wait.

    State: how many there are; between two requests nothing of them is kept.

    Attributes:
        model: what it has of the pool.
        session: its session, which tells who asked.
        answers: who that is.
        most_waiting: requests that may wait.
    """

    model: Attached
    session: AnsweringSession
    answers: Answers
    most_waiting: int
    _turn: threading.Lock = field(default_factory=threading.Lock)
    _count: threading.Lock = field(default_factory=threading.Lock)
    _here: int = 0

    def enter(self) -> None:
        """Come in, to be answered in turn; `leave` goes again.

        Raises:
            TooManyRequests: too many wait already.
        """
        with self._count:
            if self._here > self.most_waiting:
                raise TooManyRequests(
                    f"{self._here} requests about pictures are being answered or wait, which is "
                    "the limit",
                    hint="ask again, or raise service.images_waiting",
                )
            self._here += 1

    def leave(self) -> None:
        """Go again."""
        with self._count:
            self._here -= 1

    def answer(self, images: Sequence[UInt8], question: str, answer: Answer) -> None:
        """Say something about pictures, to `answer`; returns when all is said.

        Args:
            images: (height, width, 3) uint8 RGB each, at most IMAGES_MOST.
            question: about them.

        Raises:
            EngineError: an engine broke off.
        """
        with self._turn:
            self._forget()
            for index, pixels in enumerate(images):
                self._see(Frame(index, index * IMAGE_EVERY_S, pixels))
            end_s = (len(images) - 1) * IMAGE_EVERY_S
            inbox = Inbox(lambda: end_s)
            self.answers.ask(inbox, question, answer)
            router = TurnRouter(describes_events=False)
            try:
                for turn in router.turns(QUIET, inbox.due(end_s, inclusive=True), end_s):
                    for _ in self.session.take(turn, lambda: False, _told_to_nobody):
                        pass
            finally:
                self.answers.fail_all("the engine broke off")
                self._forget()

    def _see(self, frame: Frame) -> None:
        model = self.model
        features = model.encoder.encode(frame)
        decision = model.quiet(features)
        model.memory.step(features, model.connector.step(features, decision), decision)

    def _forget(self) -> None:
        model = self.model
        model.encoder.reset()
        model.session.reset()
        assert isinstance(model.memory, RecentMemory), "opened_guest asks for it"
        model.memory.reset()
        if model.gate is not None:
            model.gate.reset()


def _told_to_nobody(record: Record) -> None:
    """Warnings of a guest's answer reach who asked, by `AnsweringSession`."""


@contextmanager
def opened_guest(
    pool: EnginePool, settings: Settings, shares: Shares, most_waiting: int
) -> Iterator[Guest]:
    """The guest on the engines of a pool, for as long as the block lasts.

    Raises:
        EdgeStreamError: as `attached_to`.
    """
    from ...runtime.assembly import attached_to

    rules = replace(
        speaking_rules(settings),
        context="recent",
        memory=MemoryRules(None, shares.guest_memory),
        recent_frames=IMAGES_MOST,
        recent_every_s=IMAGE_EVERY_S,
        recall=RecallRules("recent"),
        token_gate=None,
    )
    with attached_to(pool, rules) as model:
        answers = Answers()
        yield Guest(model, AnsweringSession(model.session, answers), answers, most_waiting)
