"""The session: the language model in the stream, and through its context the owner of the cache.

A Turn becomes a prompt (`context_recent.py`, `context_continuous.py`), the prompt becomes logits
(`language_model.py`), logits become tokens (`decoder.py`) and tokens become text, said piece by
piece. An engine that fails ends one answer, not the run: the next rung of the ladder says it again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import count
from typing import TypeAlias

import numpy as np

from .adapters import Adapters
from .answer_text import AnswerText
from .context import Context
from .decoder import Decoding, answer_tokens
from .errors import ContextTooSmall, EngineError, PromptTooLong
from .language_model import LanguageModel
from .prompt_layout import PromptLayout
from .records import Record, warning
from .token_gate import TokenGate
from .values import EndedBy, Float32, Forget, Load, Moment, Observed, Response, Turn

NextRung: TypeAlias = "Callable[[EngineError, Callable[[Record], None]], bool]"

MOST_FAULTS = 3
"""Answers in a row that a failing engine may cost; after that the run ends with its error."""


@dataclass(slots=True)
class _Saying:
    """One answer on its way: when it was begun, what has been said."""

    turn: Turn
    began_s: float
    text: str = ""
    about_s: tuple[float, float] | None = None
    first_token_ms: float | None = None
    used: tuple[tuple[str, float], ...] = ()
    context: str | None = None
    told_ms: float = 0.0
    last: int | None = None
    ended_by: EndedBy = "cut"
    is_done: bool = False


@dataclass(slots=True)
class LanguageSession:
    """A session as the pipeline sees it; see `stages.Session`.

    State: its context's cache, the token gate's phases, how many answers in a row failed.

    Attributes:
        model: the decoder.
        context: what the model has before it.
        layout: its stop tokens end an answer.
        decode: token ids → text.
        decoding: how tokens are chosen.
        gate: the model's own decision to speak; None where another gate decides.
        next_rung: replaces a decoder that failed; whether there was another. It says so itself.
        partials_every_s: time between two partial texts, at least, seconds; 0 tells every token.
        adapters: of the bundle.
        adapter: name of the one that answers; None for the base. May be set between two moments.
        dropped: counts a frame that could not be read.
        monotonic: seconds, for the times in a response.
    """

    model: LanguageModel
    context: Context
    layout: PromptLayout
    decode: Callable[[Sequence[int]], str]
    decoding: Decoding
    gate: TokenGate | None = None
    next_rung: NextRung = lambda fault, tell: False
    partials_every_s: float = 0.0
    adapters: Adapters = field(default_factory=Adapters)
    adapter: str | None = None
    dropped: Callable[[str], None] = lambda what: None
    monotonic: Callable[[], float] = time.perf_counter
    _faults: int = 0
    _is_losing: bool = False
    _ids: Iterator[int] = field(default_factory=lambda: count(1))
    _in_use: str | None = None

    def take(
        self, moment: Moment, cancelled: Callable[[], bool], tell: Callable[[Record], None]
    ) -> Iterator[Response]:
        """Partial texts, then exactly one final for a Turn; see `stages.Session.take`.

        Raises:
            EngineError: the decoder failed MOST_FAULTS times in a row and no rung is left.
        """
        if isinstance(moment, Load):
            self.context.carry(moment)
            return
        if isinstance(moment, Forget):
            self.context.forget_before(moment.before_s)
            return
        self._use_adapter()
        turn = self._observed(moment, tell) if isinstance(moment, Observed) else moment
        if turn is not None:
            yield from self._answered(turn, cancelled, tell)

    def reset(self) -> None:
        """Start again: an empty cache, nothing open."""
        self.context.reset()
        if self.gate is not None:
            self.gate.reset()
        self._faults = 0

    def _use_adapter(self) -> None:
        """Compute with the adapter that was chosen; what another one read is read again."""
        wanted = self.adapters.checked(self.adapter)
        if wanted != self._in_use:
            self.context.reset()
            self.model.use(self.adapters.of(wanted))
            self._in_use = wanted

    def _observed(self, observed: Observed, tell: Callable[[Record], None]) -> Turn | None:
        """Take a frame in; a Turn where the model itself wants to speak of it."""
        try:
            logits = self._read(observed, tell)
        except (EngineError, ContextTooSmall) as fault:
            self.dropped("unread frames")
            if not self._is_losing:  # once: the count tells of the others
                tell(warning(fault.code, f"frames are left out: {fault.message}"))
            self._is_losing = True
            self._lost_one(fault)
            return None
        self._faults, self._is_losing = 0, False
        # Who is asked about a frame answers, and does not decide about it (VideoLLM-online).
        if logits is None or self.gate is None or observed.is_asked:
            return None
        decision = self.gate.step(logits, observed.features.time_s)
        for record in decision.records():
            tell(record)
        if not decision.opened:
            return None
        name = f"s{next(self._ids)}"
        return Turn(name, "event", decision.time_s, "describe", events=decision.opened)

    def _read(self, observed: Observed, tell: Callable[[Record], None]) -> Float32 | None:
        """Logits after a frame; an engine that breaks off at it is replaced where that is possible.

        Embeds that are no numbers are nobody's fault but the encoder's.
        """
        try:
            return self.context.observe(observed)
        except EngineError as fault:
            if not np.isfinite(observed.embeds).all() or not self.next_rung(fault, tell):
                raise
            tell(warning(fault.code, f"a frame is read again: {fault.message}"))
            return self.context.observe(observed)

    def _answered(
        self, turn: Turn, cancelled: Callable[[], bool], tell: Callable[[Record], None]
    ) -> Iterator[Response]:
        saying = _Saying(turn, self.monotonic())
        while True:
            fault: EngineError | PromptTooLong | ContextTooSmall | None = None
            try:
                yield from self._said(saying, cancelled, tell)
            except (EngineError, PromptTooLong, ContextTooSmall) as error:
                fault = error
            except (KeyboardInterrupt, GeneratorExit):  # who leaves still gets what was said
                if not saying.is_done and turn.cause != "standing":
                    saying.ended_by = "cut"
                    tell(self._response(saying, is_final=True, is_cut=True).record())
                raise
            if fault is None:
                self._faults = 0
                return
            tell(warning(fault.code, f"turn {turn.turn_id}: {fault.message}"))
            if isinstance(fault, EngineError) and self.next_rung(fault, tell):
                saying = _Saying(turn, saying.began_s)
                continue
            saying.ended_by = "fault"
            yield self._response(saying, is_final=True, is_cut=True)
            self._lost_one(fault)
            return

    def _lost_one(self, fault: Exception) -> None:
        """Count what a failing engine cost; an engine that never works ends the run."""
        if not isinstance(fault, EngineError):
            return
        self._faults += 1
        if self._faults >= MOST_FAULTS:
            raise fault

    def _said(
        self, saying: _Saying, cancelled: Callable[[], bool], tell: Callable[[Record], None]
    ) -> Iterator[Response]:
        """Partial texts and the final of one answer."""
        prompted = None if cancelled() else self.context.prompt(saying.turn, cancelled)
        if prompted is None:
            saying.is_done = True
            yield self._response(saying, is_final=True, is_cut=True)
            return
        saying.about_s, saying.used = prompted.about_s, prompted.used
        saying.context = prompted.context
        if prompted.about_s[0] > saying.turn.time_s:
            self._tell_forgotten(saying, tell)
        try:
            yield from self._tokens(saying, prompted.logits, cancelled)
        except EngineError:
            self.context.undo()
            raise
        except BaseException:  # the caller left in the middle
            self._close(saying)
            raise
        self._close(saying)
        saying.is_done = True
        final = self._response(saying, is_final=True, is_cut=saying.ended_by == "cut")
        if final.cause == "question" and not final.is_cut:
            self.context.remember(final)
        yield final

    def _tokens(
        self, saying: _Saying, logits: Float32, cancelled: Callable[[], bool]
    ) -> Iterator[Response]:
        """The answer token by token; its partial texts."""
        text = AnswerText(self.decode, self.layout.stop_ids)
        saying.ended_by = "limit"

        def is_to_stop() -> bool:
            if cancelled():
                saying.ended_by = "cut"
            return saying.ended_by == "cut"

        for token in answer_tokens(
            logits, self.model.step, self.layout, self._within_room(), is_to_stop
        ):
            if saying.first_token_ms is None:
                saying.first_token_ms = self._since_ms(saying)
            saying.last = token.token_id
            if token.is_stop:
                saying.ended_by = "model"
            elif text.step(token.token_id) is not None:
                saying.text = text.text
                if self._is_partial_due(saying):
                    yield self._response(saying)
        if saying.ended_by == "model":  # what was stopped short may end in half a character
            saying.text = text.finish()

    def _tell_forgotten(self, saying: _Saying, tell: Callable[[Record], None]) -> None:
        asked_s, (from_s, to_s) = saying.turn.time_s, saying.about_s or (0.0, 0.0)
        tell(
            warning(
                "past-forgotten",
                f"turn {saying.turn.turn_id}: nothing is kept of {asked_s:.2f} s any more; the "
                f"answer is about {from_s:.2f} to {to_s:.2f} s",
            )
        )

    def _close(self, saying: _Saying) -> None:
        if saying.last is None:
            self.context.undo()
        else:
            self.context.answered(saying.last)

    def _is_partial_due(self, saying: _Saying) -> bool:
        now_ms = self._since_ms(saying)
        is_due = now_ms - saying.told_ms >= 1e3 * self.partials_every_s
        if is_due:
            saying.told_ms = now_ms
        return is_due

    def _within_room(self) -> Decoding:
        """The decoding, with no more tokens than the cache has slots for."""
        room = self.model.arena.capacity - self.model.arena.length + 1  # the last is never written
        limit = self.decoding.max_tokens
        return replace(self.decoding, max_tokens=room if limit is None else min(room, limit))

    def _since_ms(self, saying: _Saying) -> float:
        return round((self.monotonic() - saying.began_s) * 1e3, 3)

    def _response(
        self, saying: _Saying, *, is_final: bool = False, is_cut: bool = False
    ) -> Response:
        turn = saying.turn
        return Response(
            turn_id=turn.turn_id,
            cause=turn.cause,
            text=saying.text.strip(),
            is_final=is_final,
            about_s=saying.about_s or (turn.time_s, turn.time_s),
            first_token_ms=saying.first_token_ms,
            total_ms=self._since_ms(saying),
            used=saying.used,
            context=saying.context or self.context.name,
            is_cut=is_cut,
            ended_by=saying.ended_by if is_final else None,
            question=None if turn.question is None else turn.question.text,
            adapter=self._in_use,
        )
