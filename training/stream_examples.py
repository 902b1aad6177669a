"""Examples for the narrator out of a clip: sentences and answers, in the layout of the device."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from ..evaluation.world import Clip, WorldQuestion
from ..models.reference_layout import MEMORY_TOPK, answer_ids, rendered_prompt
from ..runtime.prompt import Encode
from ..runtime.prompt_layout import PromptLayout
from ..runtime.recent import DialogueTurn
from ..runtime.tense import tense_of
from .packed_prompts import Example

FRAME_S = 0.25
RECENT_FRAMES, RECENT_EVERY = 4, 4
"""Frames that the context `recent` shows, and how many frames they are apart: its defaults."""
LAST_FRAMES = 16
QUESTION_KINDS_OF_TEXT = ("recent", "long")
"""What can be answered from what was told, without a picture."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A remembered frame of a clip, and what was said of it; empty for nothing."""

    frame: int
    said: str = ""


@dataclass(frozen=True, slots=True)
class Writer:
    """Writes examples.

    Attributes:
        layout: of the reference assistant.
        encode: text → token ids.
        text: token ids → text, without special tokens.
        tokens_per_frame: 0 writes without pixels.
    """

    layout: PromptLayout
    encode: Encode
    text: Callable[[Sequence[int]], str]
    tokens_per_frame: int = 10

    def example(
        self,
        frames: Sequence[int],
        answer: str,
        kind: str,
        *,
        question: str | None = None,
        memory: Sequence[Entry] = (),
        dialogue: Sequence[DialogueTurn] = (),
    ) -> Example:
        """One prompt with its answer.

        Args:
            frames: that are shown, oldest first.
            answer: empty for silence.
            kind: under which it is counted.
            question: None for a sentence that nobody asked for.
            memory: oldest first.
            dialogue: oldest first.
        """
        prompt = rendered_prompt(
            self.layout,
            self.encode,
            memory=[(entry.frame * FRAME_S, entry.said) for entry in memory],
            frames=len(frames) if self.tokens_per_frame else 0,
            dialogue=dialogue,
            question=question,
            tokens_per_frame=self.tokens_per_frame,
        )
        shown = tuple(
            memory[place.index].frame if place.is_memory else frames[place.index]
            for place in prompt.places
        )
        return Example(prompt.ids, shown, answer_ids(self.layout, self.encode, answer), kind)

    def described(self, frame: int, text: str, dialogue: Sequence[DialogueTurn] = ()) -> Example:
        """The sentence of an event, as the device asks for it."""
        return self.example(recent_frames(frame), text, "describe", dialogue=dialogue)

    def asked(
        self,
        question: WorldQuestion,
        memory: Sequence[Entry],
        dialogue: Sequence[DialogueTurn] = (),
        frames: Sequence[int] | None = None,
        *,
        is_forced: bool = False,
    ) -> Example:
        """A question, as the device asks it: about now without memory, about the past with it.

        Args:
            question: of the clip.
            memory: all that is remembered; what is younger is left out.
            dialogue: before it.
            frames: that are shown; None for those of the device.
            is_forced: memory is shown in any case, as where the user asks for it.
        """
        is_past = is_forced or tense_of(question.text) == "past"
        until = [entry for entry in memory if entry.frame <= question.frame]
        return self.example(
            recent_frames(question.frame) if frames is None else frames,
            question.answer,
            question.kind,
            question=question.text,
            memory=until[-MEMORY_TOPK:] if is_past else (),
            dialogue=dialogue,
        )


def recent_frames(
    frame: int, most: int = RECENT_FRAMES, every: int = RECENT_EVERY
) -> tuple[int, ...]:
    """The last frames up to one, oldest first."""
    return tuple(range(frame, -1, -every))[:most][::-1]


def told(clip: Clip) -> list[Entry]:
    """What a perfect assistant has said, and when."""
    return [
        Entry(frame, " ".join(sentences))
        for frame, sentences in enumerate(clip.narration)
        if sentences
    ]


def truth_near(clip: Clip, frame: int) -> str:
    """What is to be said at a frame: of itself, of the one before, of the next; or nothing."""
    for near in (frame, frame - 1, frame + 1):
        if 0 <= near < len(clip.narration) and clip.narration[near]:
            return " ".join(clip.narration[near])
    return ""


def late(
    entries: Sequence[Entry], frames: int, rng: np.random.Generator, share: float
) -> list[Entry]:
    """The same, with a share of them one frame late, as a gate is now and then."""
    moved = {
        entry.frame
        + int(entry.frame > 0 and entry.frame + 1 < frames and rng.random() < share): entry.said
        for entry in entries
    }
    return [Entry(frame, said) for frame, said in sorted(moved.items())]


def with_silent(
    entries: Sequence[Entry], frames: int, rng: np.random.Generator, share: float = 0.6
) -> list[Entry]:
    """The same, with frames between them of which nothing was said, as memory keeps them.

    Memory keeps about one frame of every five: the most typical of a cluster.
    """
    kept = {entry.frame: entry for entry in entries}
    for first in range(0, frames, 5):
        stretch = range(first, min(first + 5, frames))
        if rng.random() < share and not any(frame in kept for frame in stretch):
            frame = int(rng.choice(stretch))
            kept[frame] = Entry(frame)
    return [kept[frame] for frame in sorted(kept)]


def dialogue_before(
    questions: Sequence[WorldQuestion], frame: int, rng: np.random.Generator, most: int = 4
) -> list[DialogueTurn]:
    """Some questions that were asked before a frame, with their answers, in order of time."""
    before = [question for question in questions if question.frame <= frame]
    count = min(len(before), int(rng.integers(1, most + 1)))
    chosen = sorted(rng.choice(len(before), count, replace=False)) if count else []
    return [
        DialogueTurn(before[at].frame * FRAME_S, before[at].text, before[at].answer)
        for at in chosen
    ]
