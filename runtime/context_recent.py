"""The context `recent`: the last frames and the last talk, written anew for each answer.

What two prompts have in common from their beginning stays in the cache and is not read again: the
system text always, the same frames where one question follows another.

Source: SimpleStream finds that the last few frames alone are a strong answerer for what is now.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from .arena import Mark
from .errors import PromptTooLong
from .language_model import LanguageModel
from .prompt import Encode, PromptParts
from .prompt_layout import PromptLayout
from .prompt_plan import PromptSegment, planned_prompt, shared_positions
from .recent import RecentView
from .session import Prompted
from .values import Float32, Observed, Turn


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
    """See `session.Context`. State: which prompt the cache holds.

    Attributes:
        model: the decoder and its cache.
        layout, encode: how a prompt is written.
        view: what memory keeps now.
        rules: what of it is shown.
    """

    model: LanguageModel
    layout: PromptLayout
    encode: Encode
    view: Callable[[], RecentView]
    rules: RecentRules
    name: str = "recent"
    _held: tuple[PromptSegment, ...] = ()
    _mark: Mark | None = field(default=None, repr=False)

    def observe(self, observed: Observed) -> Float32 | None:
        """Nothing: frames are read when something is to be said about them."""
        return None

    def prompt(self, turn: Turn) -> Prompted:
        """The last frames up to the Turn's time, then what is asked; see `session.Context`."""
        parts = self._parts(turn)
        arena = self.model.arena
        budget = arena.capacity - min(self.rules.answer_tokens, arena.capacity // 2)
        plan = planned_prompt(self.layout, self.encode, parts, budget)
        if parts.frames and plan.dropped.frames == len(parts.frames):
            raise PromptTooLong(
                f"the question takes {plan.tokens} of {budget} tokens and leaves no room for a "
                "frame; who sees nothing cannot answer",
                hint="ask a shorter question, or use a larger cache",
            )
        shared = self._rewound_to(plan.segments, plan.tokens - 1)
        embeds = np.concatenate([one.as_embeds(self.model.rows) for one in plan.segments])
        self._held = ()  # until the whole prompt is there
        logits = self.model.append(embeds[shared:])
        self._held, self._mark = plan.segments, arena.mark()
        shown = parts.frames[plan.dropped.frames :]
        from_s = min([turn.time_s, *(time_s for time_s, _ in shown if time_s is not None)])
        return Prompted(logits, (from_s, turn.time_s))

    def answered(self, last: int | None) -> None:
        """The answer is forgotten: memory keeps it, as dialogue."""
        if self._mark is not None:
            self.model.arena.rewind(self._mark)

    def undo(self) -> None:
        """Start again: a prompt is written anew anyway."""
        self.reset()

    def reset(self) -> None:
        """Start again with an empty cache."""
        self._held, self._mark = (), None
        self.model.arena.reset()

    def _parts(self, turn: Turn) -> PromptParts:
        rules, view = self.rules, self.view()
        question = rules.describe_prompt or None
        if turn.question is not None:
            question = turn.question.text
        before = [one for one in view.dialogue if one.time_s <= turn.time_s]
        return PromptParts(
            question,
            view.until(turn.time_s, frames=rules.frames, every_s=rules.every_s),
            before[len(before) - min(len(before), rules.dialogue_turns) :],
            time_s=turn.time_s,
        )

    def _rewound_to(self, segments: tuple[PromptSegment, ...], most: int) -> int:
        """How many positions of the new prompt the cache holds already; the rest is taken out.

        At most `most`: the last position has to be read, since its logits are wanted.
        """
        arena = self.model.arena
        shared = min(shared_positions(self._held, segments), most)
        if arena.length < shared or not shared:
            arena.reset()
            return 0
        arena.rewind(Mark(shared, arena.mark().moves))
        return shared
