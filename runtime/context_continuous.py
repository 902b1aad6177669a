"""The context `continuous`: every frame goes into the cache as it comes, and the oldest go out.

The cache never grows. Room for a question and its answer is always kept free, so that speaking
evicts nothing: frames make room for frames. What goes out and what stays is in `eviction.py`.

Source: VideoLLM-online's stream (arXiv 2406.11816) in a cache of constant size as StreamingVLM has
one (arXiv 2510.09608); differs: kept keys are turned to their new positions, so positions never
exceed the capacity, and frames at which an event opened outlast the others.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from .arena import Mark
from .context import Prompted, stretch_read
from .errors import ContextTooSmall, PromptTooLong
from .eviction import EvictionPolicy, Kind, Span, keep_slots, kept_spans
from .language_model import LanguageModel
from .motion import TIME_ROUNDING_S
from .prompt_layout import PromptLayout
from .stream_prompt import StreamPlace, StreamText
from .token_pooling import pooled
from .values import Float32, Load, Observed, Response, Turn

QUESTION_SLOTS = 48
"""Kept free for a question: some forty words. A longer one makes its own room."""


def reserved_slots(capacity: int, answer_tokens: int) -> int:
    """Slots that are kept free for a question and its answer; half of a small cache."""
    return min(QUESTION_SLOTS + answer_tokens, capacity // 2)


@dataclass(frozen=True, slots=True)
class ContinuousRules:
    """How a stream is kept.

    Attributes:
        eviction: what goes out first.
        answer_tokens: slots that are kept free for the answer.
        protected_slots: slots that frames with an event may hold for themselves.
        every_s: a frame sooner after the last one is not read, seconds: the rate that the model was
            made for, however often the gate looks.
        skip_still: a frame without a change is not read again.
        on_branch: a question is answered beside the stream, which then goes on as if nobody had
            asked; else question and answer stay in it.
        describe_prompt: what is asked when an event opens; empty: the model just speaks.
    """

    eviction: EvictionPolicy
    answer_tokens: int = 100
    protected_slots: int = 0
    every_s: float = 0.0
    skip_still: bool = True
    on_branch: bool = False
    describe_prompt: str = ""


@dataclass(frozen=True, slots=True)
class _Before:
    """Where the stream stood before a prompt; there it goes on after an answer on a branch."""

    is_branch: bool
    mark: Mark
    place: StreamPlace
    spans: tuple[Span, ...]


@dataclass(slots=True)
class ContinuousContext:
    """See `context.Context`.

    State: what is in each slot of the cache, where the text stands, what was read last, the load.

    Attributes:
        model: the decoder and its cache.
        layout: of the model.
        text: what stands between frames, questions and answers.
        rules: what is kept.
        plain: a text of the user → one without tokens that steer the model.
    """

    model: LanguageModel
    layout: PromptLayout
    text: StreamText
    rules: ContinuousRules
    plain: Callable[[str], str] = str
    name: str = "continuous"
    _spans: tuple[Span, ...] = ()
    _before: _Before | None = field(default=None, repr=False)
    _read: Observed | None = field(default=None, repr=False)
    _load: Load = field(default_factory=Load)

    @property
    def spans(self) -> tuple[Span, ...]:
        """What is in the cache, in the order of its slots."""
        return self._spans

    @property
    def reserve_slots(self) -> int:
        """Slots that frames leave free for a question and its answer."""
        return reserved_slots(self.model.arena.capacity, self.rules.answer_tokens)

    def observe(self, observed: Observed) -> Float32 | None:
        """Append the frame; see `context.Context`."""
        features = observed.features
        if not self._is_due(observed):
            return None
        place = self.text.snapshot()
        is_done = False
        try:
            grid = self.model.arena.frame_grid
            embeds = pooled(observed.embeds, self._load.token_share, grid)
            logits = self._append_frame(features.time_s, embeds)
            is_done = True
        finally:
            if not is_done:
                self._mend(place)
        self._read = observed
        return logits

    def _is_due(self, observed: Observed) -> bool:
        """Whether this frame is read: the model's rate allows it, and it differs from the last."""
        read = self._read
        if read is None:
            return True
        since_s = observed.features.time_s - read.features.time_s
        # Frames without a change have the very embeds of the frame that they are like.
        is_new = observed.embeds is not read.embeds or not self.rules.skip_still
        return is_new and since_s >= self.rules.every_s - TIME_ROUNDING_S

    def prompt(self, turn: Turn, cancelled: Callable[[], bool]) -> Prompted | None:
        """Append the question, or what lets the model speak; see `context.Context`."""
        place = self.text.snapshot()
        is_done = False
        try:
            logits = self._append_prompt(turn, place, cancelled)
            is_done = logits is not None
        finally:
            if not is_done:
                self._mend(place)
        if logits is None:
            return None
        times_s = [one.time_s for one in self._spans if one.kind == "frame"]
        return Prompted(logits, stretch_read(times_s, turn.time_s), self.name)

    def answered(self, last: int) -> None:
        """Take the branch back, or leave question and answer in the stream."""
        if self._before is not None and self._before.is_branch:
            self.undo()
            return
        written = self.model.arena.length - sum(span.slots for span in self._spans)
        self._spans, self._before = _grown(self._spans, written), None
        self.text.answered(last)

    def remember(self, final: Response) -> None:
        """Nothing: what shall stay of it is in the stream."""

    def undo(self) -> None:
        """Be as before the prompt; an arena that was emptied since begins anew."""
        before, self._before = self._before, None
        arena = self.model.arena
        if before is None or arena.mark().moves != before.mark.moves:
            self.reset()
            return
        arena.rewind(before.mark)
        self.text.restore(before.place)
        self._spans = before.spans

    def carry(self, load: Load) -> None:
        """Read so much of a frame's tokens; see `context.Context`."""
        self._load = load

    def forget_before(self, time_s: float) -> None:
        """Evict what is older; where nothing else is left, begin anew."""
        kept = [
            index
            for index, span in enumerate(self._spans)
            if span.kind == "prefix" or span.time_s >= time_s
        ]
        if len(kept) == len(self._spans):
            return
        if all(self._spans[index].kind == "prefix" for index in kept):
            self.reset()
            return
        self.model.evict(keep_slots(self._spans, kept))
        self._spans = tuple(self._spans[index] for index in kept)

    def reset(self) -> None:
        """Start again with an empty cache."""
        self.model.arena.reset()
        self.text.reset()
        self._spans, self._before, self._read = (), None, None

    def _append_frame(self, time_s: float, embeds: Float32) -> Float32:
        ids = self.text.frame_prefix(time_s)
        before = self.model.rows(ids) if ids else embeds[:0]
        is_first = not self._spans
        self._make_room(len(ids) + len(embeds) + self.reserve_slots)
        positions = self.model.positions((len(ids), False), (len(embeds), True))
        logits = self.model.append(np.concatenate([before, embeds]), positions=positions)
        if is_first:  # the system text and the opening of the first stretch stay for ever
            self._add("prefix", len(ids), time_s)
        elif self._spans and self._spans[-1].kind != "prefix":
            # What joins two frames says that the one before was passed over in silence, so it goes
            # out with that one; what ends an answer goes out with the answer.
            self._spans = _grown(self._spans, len(ids))
        else:
            self._add("text", len(ids), time_s)
        self._add("frame", len(embeds), time_s)
        return logits

    def _append_prompt(
        self, turn: Turn, place: StreamPlace, cancelled: Callable[[], bool]
    ) -> Float32 | None:
        text, time_s = self.text, turn.time_s
        question = self.rules.describe_prompt
        if turn.question is not None:
            question = self.plain(turn.question.text)
        if turn.question is None:
            self._protect(time_s)
        # Only the system text stays for ever, where a question comes before any frame.
        system = 0 if text.is_begun else len(text.system_ids())
        ids = text.ask(question, time_s) if question else text.describe(time_s)
        self._make_room_for(ids)
        spans, mark = self._spans, self.model.arena.mark()
        logits = self.model.append(self.model.rows(ids), cancelled=cancelled)
        if logits is None:
            return None
        is_branch = turn.cause == "standing" or (turn.cause == "question" and self.rules.on_branch)
        self._before = _Before(is_branch, mark, place, spans)
        self._add("prefix", min(system, len(ids)), time_s)
        self._add("text", len(ids) - min(system, len(ids)), time_s)
        return logits

    def _make_room_for(self, ids: Sequence[int]) -> None:
        answer = min(self.rules.answer_tokens, self.model.arena.capacity // 2)
        try:
            self._make_room(len(ids) + answer)
        except ContextTooSmall as fault:
            raise PromptTooLong(
                f"the question takes {len(ids)} tokens with the words around it, which leaves the "
                f"cache of {self.model.arena.capacity} no room for an answer",
                hint="ask a shorter question, or use a larger cache",
            ) from fault

    def _add(self, kind: Kind, slots: int, time_s: float) -> None:
        if slots:
            self._spans = (*self._spans, Span(kind, slots, time_s))

    def _make_room(self, slots: int) -> None:
        """Evict until so many slots are free.

        Raises:
            ContextTooSmall: what must stay leaves less.
        """
        arena = self.model.arena
        if arena.length + slots <= arena.capacity:
            return
        kept = kept_spans(self._spans, self.rules.eviction, slots, arena.capacity)
        self.model.evict(keep_slots(self._spans, kept))
        self._spans = tuple(self._spans[index] for index in kept)

    def _protect(self, time_s: float) -> None:
        """Let the newest frame at or before an event outlast others, within the slots for that."""
        marked = [
            index
            for index, span in enumerate(self._spans)
            if span.kind == "frame" and (span.is_protected or span.time_s <= time_s)
        ]
        newest = max(marked, default=None, key=lambda index: self._spans[index].time_s)
        protected = {index for index in marked if self._spans[index].is_protected}
        if newest is not None:
            protected.add(newest)
        free = self.rules.protected_slots
        spans = list(self._spans)
        for index in sorted(protected, reverse=True):  # the newest keep their protection
            free -= spans[index].slots
            spans[index] = replace(spans[index], is_protected=free >= 0)
        self._spans = tuple(spans)

    def _mend(self, place: StreamPlace) -> None:
        """After a fault: the text stands where the cache does; an emptied cache begins anew."""
        if self.model.arena.length == sum(span.slots for span in self._spans):
            self.text.restore(place)
        else:
            self.reset()


def _grown(spans: tuple[Span, ...], slots: int) -> tuple[Span, ...]:
    """The spans, the last one longer."""
    return (*spans[:-1], replace(spans[-1], slots=spans[-1].slots + slots))
