"""The inbox: what the user asks a running stream, and the stream's clock.

Questions carry the stream time at which they are due. A frame's own time decides the order: what
was asked before a frame is answered before it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from itertools import count

from .errors import QuestionRefused
from .values import Question


class Inbox:
    """Questions waiting for their time. Safe for any number of askers.

    State: at most `capacity` questions, how many are being answered, whether the stream has ended,
    whether it takes more.

    Args:
        clock: stream time now, seconds; the source's `now_s`.
        capacity: questions that may wait or be answered at a time; beyond it they are refused,
            never dropped.
        refusal: why nobody can answer in this run; None where a language model is attached.
    """

    def __init__(
        self, clock: Callable[[], float], *, capacity: int = 64, refusal: str | None = None
    ) -> None:
        self._clock = clock
        self._capacity = capacity
        self._refusal = refusal
        self._changed = threading.Condition()
        self._waiting: list[Question] = []
        self._ids = count(1)
        self._being_answered = 0
        self._has_ended = False
        self._is_closed = False

    def clock(self) -> float:
        """Stream time now, seconds."""
        return self._clock()

    def ask(self, text: str, time_s: float | None = None) -> Question:
        """Ask now, or at a stream time to come.

        Args:
            text: the question.
            time_s: when it is due, seconds of stream time; None for now. A time beyond the end of
                a file is answered at its end.

        Raises:
            QuestionRefused: the inbox is full or closed, or no language model is attached.
        """
        with self._changed:
            self._check_open()
            question = Question(
                f"q{next(self._ids)}", text, self.clock() if time_s is None else time_s
            )
            self._waiting.append(question)
            self._waiting.sort(key=lambda waiting: waiting.time_s)  # stable: first asked, first due
            return question

    def _check_open(self) -> None:
        if self._refusal is not None:
            raise QuestionRefused(self._refusal)
        if self._is_closed:
            raise QuestionRefused("the stream has ended and its last question was answered")
        unanswered = len(self._waiting) + self._being_answered
        if unanswered >= self._capacity:
            raise QuestionRefused(
                f"{unanswered} questions are waiting or being answered, which is the limit",
                hint="wait for an answer, or raise session.questions_waiting",
            )

    def due(self, before: float, *, inclusive: bool = False) -> tuple[Question, ...]:
        """Take the questions whose time has come, in the order of their times.

        Args:
            before: stream time, seconds. After the end of the stream all are due.
            inclusive: also those timed exactly at `before`.
        """
        with self._changed:
            taken = tuple(
                question
                for question in self._waiting
                if self._has_ended
                or question.time_s < before
                or (inclusive and question.time_s == before)
            )
            self._waiting = [question for question in self._waiting if question not in taken]
            self._being_answered += len(taken)
            self._changed.notify_all()
            return taken

    def is_owed(self) -> bool:
        """Whether somebody waits for an answer whose time has come."""
        now_s = self.clock()
        with self._changed:
            return self._being_answered > 0 or any(
                self._has_ended or question.time_s <= now_s for question in self._waiting
            )

    def answered(self) -> None:
        """One question that was taken has its final answer."""
        with self._changed:
            self._being_answered -= 1
            self._changed.notify_all()

    def end(self) -> None:
        """The stream has ended: all that waits is due now."""
        with self._changed:
            self._has_ended = True

    @property
    def has_ended(self) -> bool:
        """Whether the stream came to its end, rather than being left."""
        return self._has_ended

    def close_if_settled(self) -> bool:
        """Take no more questions if all are answered; whether it is closed.

        Until the last answer is out a person may ask on, and is answered too.
        """
        with self._changed:
            self._is_closed = self._is_closed or self._is_settled()
            return self._is_closed

    def close(self) -> None:
        """Take no more questions: the run is being left."""
        with self._changed:
            self._is_closed = True

    def wait_settled(self, timeout_s: float) -> None:
        """Wait until every question is answered, at most `timeout_s` seconds."""
        with self._changed:
            self._changed.wait_for(self._is_settled, timeout_s)

    def _is_settled(self) -> bool:
        return not self._waiting and self._being_answered == 0
