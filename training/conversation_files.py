"""Dialogues with times, of the files that data sets have them in."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from ..runtime.json_fields import Fields
from .captions import fault_in
from .dialogues import ASSISTANT, USER, Turn

MOST_WAITING_S = 10.0
"""Frames before the first question of a live chat: 0 to 20 at 2 frames a second."""


def live_chats(
    found: Sequence[Any], path: Path, seed: int, leave_out: Callable[[str], None]
) -> Iterator[tuple[str, tuple[Turn, ...], float, str]]:
    """VideoLLM-online's live chat: [{video_uid, duration, conversation: [{role, content, time}]}].

    As there, a dialogue begins with a question, up to 10 s of the video before it, and ends where
    times go back.

    Args:
        found: the file.
        path: of it, for messages.
        seed: of the stretches before the first question.
        leave_out: told of each dialogue whose end is passed over, how much of it and why.

    Returns:
        Of each dialogue: name of the video, turns (none where it has no question), where it begins
        in seconds, and where it stands.

    Raises:
        DialogueInvalid: names the place.
    """
    rng = np.random.default_rng(seed)
    for index, value in enumerate(found):
        fields = Fields(value, f"[{index}]", fault_in(path))
        video, said = fields.text("video_uid"), fields.objects("conversation", _message)
        first = next((at for at, turn in enumerate(said) if turn.role == USER), len(said))
        turns = _until_back(said[first:])
        if (lost := len(said) - first - len(turns)) > 0:
            at = first + len(turns)
            leave_out(
                f"{path}: [{index}].conversation[{at}]: time goes back from "
                f"{said[at - 1].time_s:g} to {said[at].time_s:g} s, "
                f"{lost} of its {len(said)} turns are left out"
            )
        waiting_s = round(float(rng.uniform(0.0, MOST_WAITING_S)), 3)
        from_s = max(0.0, turns[0].time_s - waiting_s) if turns else 0.0
        yield video, turns, from_s, f"{path}: [{index}]"


def question_sequences(
    found: Sequence[Any], path: Path
) -> Iterator[tuple[str, tuple[Turn, ...], float, str]]:
    """CogStream's `QA_Dataset/VIDEO.json`: sequences of {Q, A, T, info}; T ends the segment.

    Returns:
        As `live_chats`: a dialogue a sequence, each question answered at once.

    Raises:
        DialogueInvalid: names the place.
    """
    for index, sequence in enumerate(found):
        holder = Fields({"sequence": sequence}, "", fault_in(path))
        turns: list[Turn] = []
        for time_s, question, answer in sorted(
            holder.objects("sequence", _asked), key=lambda one: one[0]
        ):
            turns += [Turn(time_s, USER, question), Turn(time_s, ASSISTANT, answer)]
        yield path.stem, tuple(turns), 0.0, f"{path}: [{index}]"


def _message(fields: Fields) -> Turn:
    role = fields.text("role", one_of=(USER, ASSISTANT))
    return Turn(float(fields.number("time", at_least=0)), role, fields.text("content").strip())


def _asked(fields: Fields) -> tuple[float, str, str]:
    time_s = float(fields.number("T", at_least=0))
    return time_s, fields.text("Q").strip(), fields.text("A").strip()


def _until_back(turns: Sequence[Turn]) -> tuple[Turn, ...]:
    """The turns up to the first one whose time lies before that of the one before it."""
    for number, (before, turn) in enumerate(pairwise(turns), 1):
        if turn.time_s < before.time_s:
            return tuple(turns[:number])
    return tuple(turns)
