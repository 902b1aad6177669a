"""Answers for clients: who asked gets the partial texts of exactly that question."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field, replace

from ...runtime.context import Context, Prompted
from ...runtime.decoder import Decoding
from ...runtime.errors import AnswerLost, EdgeStreamError
from ...runtime.inbox import Inbox
from ...runtime.records import Record
from ...runtime.session import LanguageSession
from ...runtime.values import Float32, Load, Moment, Observed, Question, Response, Turn


@dataclass(frozen=True, slots=True)
class Wishes:
    """How one answer's words are chosen, where it is not as the settings say.

    Attributes:
        max_tokens: at most so many; never more than the settings allow.
        temperature, top_p, seed: see `Decoding`.
        adapter: of the bundle; None: as the settings say.
    """

    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    seed: int | None = None
    adapter: str | None = None

    def over(self, decoding: Decoding) -> Decoding:
        """The decoding with these put over it."""
        told = {"temperature": self.temperature, "top_p": self.top_p, "seed": self.seed}
        chosen = replace(decoding, **{name: one for name, one in told.items() if one is not None})  # type: ignore[arg-type]
        if self.max_tokens is None:
            return chosen
        most = chosen.max_tokens
        tokens = self.max_tokens if most is None else min(most, self.max_tokens)
        return replace(chosen, max_tokens=tokens)


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one answer.

    Attributes:
        prompt: that the model had before it.
        completion: that it said, the one that ends the answer among them.
    """

    prompt: int = 0
    completion: int = 0


class CountedContext:
    """A context that counts the tokens of what was said last; see `Context`."""

    def __init__(self, context: Context, length: Callable[[], int]) -> None:
        self.name = context.name
        self._context, self._length = context, length
        self._prompt = 0
        self.usage = Usage()

    def observe(self, observed: Observed) -> Float32 | None:
        """See `Context`."""
        return self._context.observe(observed)

    def prompt(self, turn: Turn, cancelled: Callable[[], bool]) -> Prompted | None:
        """See `Context`; how much the cache then holds is the prompt."""
        prompted = self._context.prompt(turn, cancelled)
        self._prompt = 0 if prompted is None else self._length()
        self.usage = Usage(self._prompt)
        return prompted

    def answered(self, last: int) -> None:
        """See `Context`; the last token is in no cache."""
        self.usage = Usage(self._prompt, self._length() - self._prompt + 1)
        self._context.answered(last)

    def undo(self) -> None:
        """See `Context`."""
        self._context.undo()

    def remember(self, final: Response) -> None:
        """See `Context`."""
        self._context.remember(final)

    def carry(self, load: Load) -> None:
        """See `Context`."""
        self._context.carry(load)

    def forget_before(self, time_s: float) -> None:
        """See `Context`."""
        self._context.forget_before(time_s)

    def reset(self) -> None:
        """See `Context`."""
        self._context.reset()


@dataclass(slots=True)
class Answer:
    """What is said to one question, as it comes. Threads put, one loop takes.

    State: the newest text, whether it is the last one, why there is none.
    """

    wishes: Wishes = field(default_factory=Wishes)
    question: Question | None = None
    usage: Usage = field(default_factory=Usage)
    fault: EdgeStreamError | None = None
    warning: tuple[str, str] | None = None
    is_cancelled: bool = False
    _newest: Response | None = None
    _is_over: bool = False
    _loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.get_running_loop)
    _news: asyncio.Event = field(default_factory=asyncio.Event)

    def put(self, response: Response) -> None:
        """A partial text, or the final one."""
        self._newest = response
        self._is_over = response.is_final
        self._wake()

    def fail(self, fault: EdgeStreamError) -> None:
        """No answer comes."""
        self.fault, self._is_over = fault, True
        self._wake()

    def cancel(self) -> None:
        """Nobody waits for it any more: the model stops at its next token."""
        self.is_cancelled = True

    @property
    def is_over(self) -> bool:
        """Nothing comes any more."""
        return self._is_over

    async def responses(self) -> AsyncIterator[Response]:
        """Texts as they come, each a later one; the last is final.

        Raises:
            EdgeStreamError: none came, or it broke off.
        """
        told: Response | None = None
        while True:
            await self._news.wait()
            self._news.clear()
            is_over, newest = self._is_over, self._newest
            if self.fault is not None:
                raise self.fault
            if newest is not None and newest is not told:
                told = newest
                yield newest
            if is_over:
                return

    def _wake(self) -> None:
        try:
            self._loop.call_soon_threadsafe(self._news.set)
        except RuntimeError:  # the loop was closed: nobody waits
            self.is_cancelled = True


class Answers:
    """Who waits for which question of one camera. Safe for any number of threads.

    State: answers that somebody waits for, bounded by the inbox.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: dict[str, Answer] = {}

    def ask(self, inbox: Inbox, text: str, answer: Answer) -> None:
        """Ask a question of the camera now; `answer` takes what is said.

        Raises:
            QuestionRefused: as `Inbox.ask`.
        """
        with self._lock:  # the session looks it up under the same lock: it never comes too early
            answer.question = inbox.ask(text)
            self._waiting[answer.question.question_id] = answer

    def of(self, moment: Moment) -> Answer | None:
        """Who waits for what is said of a moment."""
        if not isinstance(moment, Turn) or moment.question is None:
            return None
        with self._lock:
            return self._waiting.get(moment.question.question_id)

    def done(self, answer: Answer) -> None:
        """This one waits no more."""
        if answer.question is not None:
            with self._lock:
                self._waiting.pop(answer.question.question_id, None)

    def fail_all(self, reason: str) -> None:
        """The camera stops: nobody will be answered."""
        with self._lock:
            left = list(self._waiting.values())
            self._waiting.clear()
        for answer in left:
            answer.fail(AnswerLost(f"no answer comes: {reason}", hint="ask again"))


class AnsweringSession:
    """A language session that also tells those who asked; see `Session`."""

    def __init__(self, session: LanguageSession, answers: Answers) -> None:
        self._session, self._answers = session, answers
        self._counted = CountedContext(session.context, lambda: session.model.arena.length)
        session.context = self._counted

    def take(
        self, moment: Moment, cancelled: Callable[[], bool], tell: Callable[[Record], None]
    ) -> Iterator[Response]:
        """As the inner session; cut where the client has gone."""
        answer = self._answers.of(moment)
        if answer is None:
            yield from self._session.take(moment, cancelled, tell)
            return

        def hear(record: Record) -> None:
            if record.type == "warning":
                answer.warning = record.body["code"], record.body["message"]
            tell(record)

        usual = self._session.decoding, self._session.adapter
        self._session.decoding = answer.wishes.over(usual[0])
        self._session.adapter = answer.wishes.adapter or usual[1]
        try:
            for response in self._session.take(
                moment, lambda: answer.is_cancelled or cancelled(), hear
            ):
                answer.usage = self._counted.usage
                if response.is_final:
                    self._answers.done(answer)
                answer.put(response)
                yield response
        finally:
            self._session.decoding, self._session.adapter = usual
