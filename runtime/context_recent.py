"""The context `recent`: the last frames and the last talk, written anew for each answer.

What two prompts have in common from their beginning stays in the cache and is not read again: the
system text always, the same frames where one question follows another.

Source: SimpleStream finds that the last few frames alone are a strong answerer for what is now.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from .arena import Mark
from .context import Prompted, stretch_read
from .errors import PromptTooLong
from .language_model import LanguageModel
from .prompt import Encode, PromptParts
from .prompt_layout import PromptLayout
from .prompt_plan import (
    PlannedPrompt,
    PromptSegment,
    planned_prompt,
    segment_positions,
    shared_positions,
)
from .recall import Recall, Recalled, used_of
from .recent import DialogueTurn, RecentFrame, RecentView, answered_turns
from .token_pooling import pooled
from .values import Float32, Load, Observed, Response, Turn

LEAST_READ = 2
"""Positions that are read however much is shared: the last one for its logits, and one more, since
quantized matrices have another kernel for one row, whose rounding differs (0.06 of a logit)."""
TALK_KEPT = 4
"""Answers that memory may not have heard of yet: those given between two frames."""


@dataclass(frozen=True, slots=True)
class RecentRules:
    """What of the stream is shown.

    Attributes:
        frames: at most so many.
        every_s: at least so far apart, seconds.
        dialogue_turns: questions and answers before this one, at most.
        answer_tokens: slots that are kept free for the answer.
        describe_prompt: what is asked when an event opens; empty: the frames are shown, no more.
    """

    frames: int = 4
    every_s: float = 1.0
    dialogue_turns: int = 4
    answer_tokens: int = 100
    describe_prompt: str = ""


@dataclass(slots=True)
class RecentContext:
    """See `context.Context`. State: which prompt the cache holds, the last few answers, the load.

    Attributes:
        model: the decoder and its cache.
        layout, encode: how a prompt is written.
        view: what memory keeps now.
        rules: what of it is shown.
        plain: a text of the user → one without tokens that steer the model.
        recall: what of memory a question is shown; None for the last frames alone.
    """

    model: LanguageModel
    layout: PromptLayout
    encode: Encode
    view: Callable[[], RecentView]
    rules: RecentRules
    plain: Callable[[str], str] = str
    recall: Recall | None = None
    name: str = "recent"
    _held: tuple[PromptSegment, ...] = ()
    _mark: Mark | None = field(default=None, repr=False)
    _talk: tuple[DialogueTurn, ...] = ()
    _load: Load = field(default_factory=Load)
    _held_from_s: float = 0.0

    def observe(self, observed: Observed) -> Float32 | None:
        """Nothing: frames are read when something is to be said about them."""
        return None

    def prompt(self, turn: Turn, cancelled: Callable[[], bool]) -> Prompted | None:
        """The last frames up to the Turn's time, then what is asked; see `context.Context`."""
        view = self.view()
        rules = self.rules
        frames = view.until(turn.time_s, frames=rules.frames, every_s=rules.every_s)
        recalled = self._recalled(turn, [time_s for time_s, _ in frames])
        parts = self._parts(turn, frames, recalled, view)
        arena = self.model.arena
        budget = arena.capacity - min(rules.answer_tokens, arena.capacity // 2)
        plan = planned_prompt(self.layout, self.encode, parts, budget)
        if parts.frames and plan.dropped.frames == len(parts.frames):
            raise PromptTooLong(
                f"the question takes {plan.tokens} of {budget} tokens and leaves no room for a "
                "frame; who sees nothing cannot answer",
                hint="ask a shorter question, or use a larger cache",
            )
        logits = self._read(plan, cancelled)
        if logits is None:
            return None
        times_s = [time_s for time_s, _ in plan.shown.frames if time_s is not None]
        times_s += [entry.time_s for entry in plan.shown.memory]
        shown_s = [*times_s, *(said.time_s for said in plan.shown.dialogue)]
        self._held_from_s = min(shown_s, default=turn.time_s)
        about_s = stretch_read(times_s, turn.time_s)
        return Prompted(logits, about_s, recalled.context, used_of(plan.shown.memory))

    def _parts(
        self, turn: Turn, frames: Sequence[RecentFrame], recalled: Recalled, view: RecentView
    ) -> PromptParts:
        """What is shown, with as many tokens of each frame as the load allows."""
        share, grid = self._load.token_share, self.model.arena.frame_grid
        return PromptParts(
            recalled.question or None,
            [(time_s, pooled(embeds, share, grid)) for time_s, embeds in frames],
            self._talk_before(turn, recalled, view),
            [replace(one, embeds=pooled(one.embeds, share, grid)) for one in recalled.entries],
            time_s=turn.time_s,
        )

    def _read(self, plan: PlannedPrompt, cancelled: Callable[[], bool]) -> Float32 | None:
        """Logits after the prompt, of which only what the cache does not hold is read."""
        shared = self._rewound_to(plan.segments, plan.tokens - LEAST_READ)
        embeds = np.concatenate([one.as_embeds(self.model.rows) for one in plan.segments])
        grid = self.model.arena.frame_grid
        new = None if grid is None else segment_positions(plan.segments, grid)[:, shared:]
        self._held = ()  # until the whole prompt is there
        logits = self.model.append(embeds[shared:], positions=new, cancelled=cancelled)
        if logits is not None:
            self._held, self._mark = plan.segments, self.model.arena.mark()
        return logits

    def answered(self, last: int) -> None:
        """The answer is forgotten; it is shown again as dialogue."""
        self.undo()

    def undo(self) -> None:
        """Hold the prompt alone: the next one may begin as it does."""
        arena, mark = self.model.arena, self._mark
        if mark is None or mark.moves != arena.mark().moves or mark.length > arena.length:
            self.reset()
        else:
            arena.rewind(mark)

    def remember(self, final: Response) -> None:
        """Keep the answer until memory has heard of it, which is at the next frame."""
        if final.question is not None and final.text:
            self._talk = (*self._talk, *answered_turns([final]))[-TALK_KEPT:]

    def carry(self, load: Load) -> None:
        """Show so much of a frame's tokens, and of memory; see `context.Context`."""
        self._load = load

    def forget_before(self, time_s: float) -> None:
        """Let go of older talk, and of a prompt that shows what is older."""
        self._talk = tuple(turn for turn in self._talk if turn.time_s >= time_s)
        if self._held and self._held_from_s < time_s:
            self.reset()

    def reset(self) -> None:
        """Start again with an empty cache."""
        self._held, self._mark = (), None
        self.model.arena.reset()

    def _recalled(self, turn: Turn, shown_s: Sequence[float]) -> Recalled:
        """What is asked, and what memory is asked for it."""
        if turn.question is None:
            return Recalled(self.rules.describe_prompt, "recent")
        question = self.plain(turn.question.text)
        if self.recall is None:
            return Recalled(question, "recent")
        return self.recall.of(question, turn.time_s, shown_s, self._load.recall_share)

    def _talk_before(
        self, turn: Turn, recalled: Recalled, view: RecentView
    ) -> tuple[DialogueTurn, ...]:
        """The last turns; for a question about the past those that it is likely about.

        A check is asked as if nobody had talked: what it finds is to depend on the stream alone.
        """
        if turn.cause == "standing":
            return ()
        talk = {(one.time_s, one.question): one for one in (*view.dialogue, *self._talk)}
        in_order = sorted(talk.values(), key=lambda one: one.time_s)
        before = tuple(one for one in in_order if one.time_s <= turn.time_s)
        most = self.rules.dialogue_turns
        if self.recall is not None and recalled.context == "recall":
            shown = self.recall.talk(recalled.question, before, most)
        else:
            shown = before[len(before) - min(len(before), most) :]
        return tuple(self._plain_turn(one) for one in shown)

    def _plain_turn(self, turn: DialogueTurn) -> DialogueTurn:
        return DialogueTurn(turn.time_s, self.plain(turn.question), self.plain(turn.answer))

    def _rewound_to(self, segments: tuple[PromptSegment, ...], most: int) -> int:
        """How many positions of the new prompt the cache holds already; the rest is taken out.

        At most `most`: some have to be read, since logits are wanted.
        """
        arena = self.model.arena
        shared = min(shared_positions(self._held, segments), most)
        if arena.length < shared or shared < 1:
            arena.reset()
            return 0
        arena.rewind(Mark(shared, arena.mark().moves))
        return shared
