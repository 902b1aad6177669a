"""The memory of `recent`: the last frames as the language model reads them, and the last talk."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from .errors import SettingsInvalid
from .motion import TIME_ROUNDING_S
from .tense import split_override
from .values import Features, Float32, GateDecision, Response

RecentFrame: TypeAlias = "tuple[float, Float32]"
"""(time_s, embeds (tokens, dim) float32, read-only) of one frame."""


@dataclass(frozen=True, slots=True)
class DialogueTurn:
    """A question that was answered.

    Attributes:
        time_s: stream time that the answer is about, seconds.
        question, answer: as they were said.
    """

    time_s: float
    question: str
    answer: str

    @property
    def n_bytes(self) -> int:
        """Size of its words in UTF-8, bytes."""
        return len(self.question.encode()) + len(self.answer.encode())


def answered_turns(said: Iterable[Response]) -> list[DialogueTurn]:
    """Questions of what was said that were answered to the end, with their answers.

    The word that chose what a question was shown (`@recall`) is no part of what was asked.
    """
    return [
        DialogueTurn(response.about_s[1], asked, response.text)
        for response in said
        if response.is_final
        and response.cause == "question"
        and (asked := split_override(response.question or "")[0])
        and response.text.strip()
        and not response.is_cut
    ]


@dataclass(frozen=True, slots=True, eq=False)
class RecentView:
    """What was kept at one moment; it never changes.

    Attributes:
        frames: (time_s, embeds), oldest first; frames without a change share their embeds.
        dialogue: in the order of time.
    """

    frames: tuple[RecentFrame, ...] = ()
    dialogue: tuple[DialogueTurn, ...] = ()

    @property
    def n_bytes(self) -> int:
        """Size of the embeds, shared ones counted once, bytes."""
        return sum(embeds.nbytes for embeds in {id(e): e for _, e in self.frames}.values())

    def until(self, time_s: float, *, frames: int, every_s: float = 1.0) -> tuple[RecentFrame, ...]:
        """The last frames at or before a time.

        Args:
            time_s: seconds; times may be off by the 2 ms that files round them to.
            frames: at most so many.
            every_s: they are at least this far apart, seconds; 0 takes every frame.

        Returns:
            Oldest first. Where nothing is kept from so early, the oldest that is kept.
        """
        if frames < 1 or not self.frames:
            return ()
        end = bisect_right(self.frames, time_s + TIME_ROUNDING_S, key=lambda frame: frame[0])
        if not end:
            return _spaced(self.frames, frames, every_s)
        return _spaced(reversed(self.frames[:end]), frames, every_s)[::-1]


class RecentMemory:
    """A ring of frames and of dialogue, bounded in number and in bytes; see `Memory`.

    `step` and `remember` belong to one thread; any thread may take a view at any time.
    State: the newest view.

    Args:
        max_frames: kept at most: 256 are a minute at 4 frames/s, so that a Turn that had to wait
            still finds the frames it is about.
        max_bytes: of their embeds, at most.
        max_turns: of dialogue, at most.
        max_dialogue_bytes: of their words in UTF-8, at most.
    """

    def __init__(
        self,
        *,
        max_frames: int = 256,
        max_bytes: int = 64_000_000,
        max_turns: int = 16,
        max_dialogue_bytes: int = 64_000,
    ) -> None:
        if max_frames < 1 or max_turns < 0:
            raise ValueError(f"got max_frames={max_frames} and max_turns={max_turns}")
        self._max_frames, self._max_bytes = max_frames, max_bytes
        self._max_turns, self._max_dialogue_bytes = max_turns, max_dialogue_bytes
        self.reset()

    @property
    def n_bytes(self) -> int:
        """Size of the embeds that are kept, bytes."""
        return self._n_bytes

    def reset(self) -> None:
        """Forget everything."""
        self._view = RecentView()
        self._n_bytes = 0

    def snapshot(self) -> RecentView:
        """The state, to be put back by `restore`."""
        return self._view

    def restore(self, state: RecentView) -> None:
        """Continue from a state as if nothing had been between, within the bounds of this one."""
        self._n_bytes = state.n_bytes
        self._view = RecentView(self._bounded(state.frames), self._bounded_dialogue(state.dialogue))

    def view(self) -> RecentView:
        """What is kept now."""
        return self._view

    def step(self, features: Features, embeds: Float32, decision: GateDecision) -> None:
        """Take one frame in and publish a new view.

        Args:
            features: its time_s is read, seconds; it does not go back.
            embeds: (tokens, dim) float32; copied unless read-only.
            decision: not read: the last frames are kept whatever happens in them.

        Raises:
            SettingsInvalid: not even one frame fits into max_bytes.
        """
        if embeds.nbytes > self._max_bytes:
            raise SettingsInvalid(
                f"the memory for recent frames got {self._max_bytes} bytes, "
                f"expected at least the {embeds.nbytes} of one frame",
                hint="give it more memory",
            )
        if embeds.flags.writeable:
            embeds = embeds.copy()
            embeds.flags.writeable = False
        frames = self._view.frames
        if not frames or frames[-1][1] is not embeds:
            self._n_bytes += embeds.nbytes
        frames = self._bounded((*frames, (features.time_s, embeds)))
        self._view = RecentView(frames, self._view.dialogue)

    def remember(self, said: Sequence[Response]) -> None:
        """Keep the questions that were answered, with their answers, and publish a new view."""
        turns = sorted((*self._view.dialogue, *answered_turns(said)), key=lambda turn: turn.time_s)
        self._view = RecentView(self._view.frames, self._bounded_dialogue(tuple(turns)))

    def forget_before(self, time_s: float) -> None:
        """Let go of frames and dialogue of before a time, seconds, and publish a new view."""
        view = self._view
        first = bisect_left(view.frames, time_s, key=lambda frame: frame[0])
        talk = tuple(turn for turn in view.dialogue if turn.time_s >= time_s)
        if first or len(talk) < len(view.dialogue):
            self._view = RecentView(view.frames[first:], talk)
            self._n_bytes = self._view.n_bytes

    def wipe(self) -> None:
        """Forget everything."""
        self.reset()

    def _bounded(self, frames: tuple[RecentFrame, ...]) -> tuple[RecentFrame, ...]:
        """Without the oldest that are too many; keeps the count of bytes."""
        first = 0
        while len(frames) - first > self._max_frames or self._n_bytes > self._max_bytes:
            embeds = frames[first][1]
            first += 1
            if first == len(frames) or frames[first][1] is not embeds:
                self._n_bytes -= embeds.nbytes
        return frames[first:]

    def _bounded_dialogue(self, turns: tuple[DialogueTurn, ...]) -> tuple[DialogueTurn, ...]:
        turns = turns[max(0, len(turns) - self._max_turns) :]
        while sum(turn.n_bytes for turn in turns) > self._max_dialogue_bytes:
            turns = turns[1:]
        return turns


def _spaced(frames: Iterable[RecentFrame], most: int, every_s: float) -> tuple[RecentFrame, ...]:
    """The first of them, and always the next that is far enough from the last one taken."""
    taken: list[RecentFrame] = []
    for frame in frames:
        if len(taken) == most:
            break
        if not taken or abs(frame[0] - taken[-1][0]) >= every_s - TIME_ROUNDING_S:
            taken.append(frame)
    return tuple(taken)
