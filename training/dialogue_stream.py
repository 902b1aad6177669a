"""A dialogue along the frames of its video: stretches that are watched, and what is said between.

Source: VideoLLM-online (arXiv 2406.11816): every frame is a decision, to be silent or to speak.
Differs: times of frames are those of the video, not of a grid; the frame before a question teaches
nothing (nobody can know that somebody will ask); the frames behind the last turn teach silence; of
two sentences behind one frame both are said, not the later one alone.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from ..runtime.errors import DialogueInvalid
from .dialogues import ASSISTANT, END_SLACK_S, USER, Dialogue, Turn

SAME_S = 1e-3
"""Times that lie nearer are the same: containers round to it."""


@dataclass(frozen=True, slots=True)
class Watch:
    """Frames that are watched without a word.

    Attributes:
        first: index of the first one.
        count: how many.
        learned: of the first so many of them the decision is learned: to be silent, and where the
            stretch `speaks`, after its last frame to speak.
        speaks: the assistant speaks after the last frame, unasked.
    """

    first: int
    count: int
    learned: int
    speaks: bool = False


@dataclass(frozen=True, slots=True)
class Said:
    """What is said between two stretches.

    Attributes:
        role: `user` or `assistant`.
        text: of it.
        learn: it is learned; never what the user says.
    """

    role: str
    text: str
    learn: bool


Step: TypeAlias = Watch | Said


def streamed(
    dialogue: Dialogue, times_s: Sequence[float], *, most_frames: int | None = None
) -> tuple[Step, ...]:
    """The steps of a dialogue.

    What the user says stands behind the last frame at its time or before it; what the assistant
    says behind the first frame at its time or after it, but at once where it answers at the very
    time of the question. What the assistant says twice after one frame is one text.

    Args:
        dialogue: of a video.
        times_s: of the frames of the video, rising, seconds.
        most_frames: the dialogue is cut before the first stretch that would go beyond.

    Raises:
        DialogueInvalid: there are no frames, or the frames end before the dialogue does.
    """
    first, end = _part(dialogue, times_s)
    turns = _merged(list(_placed(dialogue.turns, times_s, first, end)))
    steps: list[Step] = []
    at = first
    for behind, turn in turns:
        is_learned = turn.role == ASSISTANT and turn.learn
        if behind > at:
            # The moment of a text that is not learned teaches nothing, nor does that of a question.
            learned = behind - at if is_learned else behind - at - 1
            steps.append(Watch(at, behind - at, learned, turn.role == ASSISTANT))
            at = behind
        steps.append(Said(turn.role, turn.text, is_learned))
    if end > at:
        steps.append(Watch(at, end - at, end - at))
    return _cut(steps, most_frames)


def _part(dialogue: Dialogue, times_s: Sequence[float]) -> tuple[int, int]:
    """First frame of the part that is watched, and the one behind its last."""
    first = bisect_left(times_s, dialogue.from_s - SAME_S)
    end = len(times_s)
    if dialogue.to_s is not None:
        end = bisect_right(times_s, dialogue.to_s + SAME_S)
    if first >= end:
        raise DialogueInvalid(
            f"{dialogue.place or dialogue.video.name}: got no frame between {dialogue.from_s:g} s "
            f"and {dialogue.to_s if dialogue.to_s is not None else 'the end'}, expected some",
            hint="watch a longer part (from_s, to_s), or more frames a second (--fps)",
        )
    interval_s = times_s[-1] - times_s[-2] if len(times_s) > 1 else 0.0
    last_s = times_s[-1] + interval_s + END_SLACK_S
    if dialogue.turns[-1].time_s > last_s:
        raise DialogueInvalid(
            f"{dialogue.place or dialogue.video.name}: got a turn at "
            f"{dialogue.turns[-1].time_s:g} s, but the frames of {dialogue.video.name} end at "
            f"{times_s[-1]:g} s",
            hint="the video is cut short or damaged; leave out what is said after that",
        )
    return first, end


def _placed(
    turns: Sequence[Turn], times_s: Sequence[float], first: int, end: int
) -> Iterator[tuple[int, Turn]]:
    """(frames that have been watched when it is said, turn), never falling."""
    behind, asked_s = first, -1.0
    for turn in turns:
        if turn.role == USER:
            at = bisect_right(times_s, turn.time_s + SAME_S)
            asked_s = turn.time_s
        elif turn.time_s <= asked_s + SAME_S:
            at = behind  # at once, also where no frame was at that time
        else:
            at = bisect_left(times_s, turn.time_s - SAME_S) + 1
        behind = max(behind, min(at, end))
        yield behind, turn


def _merged(placed: Sequence[tuple[int, Turn]]) -> list[tuple[int, Turn]]:
    """Two texts of one speaker after the same frame become one."""
    found: list[tuple[int, Turn]] = []
    for behind, turn in placed:
        if found and found[-1][0] == behind and found[-1][1].role == turn.role:
            before = found[-1][1]
            text = f"{before.text} {turn.text}"
            turn = Turn(before.time_s, turn.role, text, before.learn and turn.learn)
            found.pop()
        found.append((behind, turn))
    return found


def _cut(steps: Sequence[Step], most_frames: int | None) -> tuple[Step, ...]:
    watched = 0
    for number, step in enumerate(steps):
        if isinstance(step, Watch):
            watched += step.count
            if most_frames is not None and watched > most_frames:
                return tuple(steps[:number])
    return tuple(steps)
