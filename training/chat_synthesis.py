"""Captions with times turned into dialogues by a language model: it writes words, never times.

Source: VideoLLM-online's live chat (arXiv 2406.11816): drawn questions, and a line of the assistant
at each moment; differs: the model fills numbered lines, so that no time of its own can be wrong.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from .captions import Captioned
from .chat_endpoint import Messages
from .dialogues import ASSISTANT, USER, Dialogue, Turn
from .synthesis import APART_S, MOST_ASKED, Scene, scene_of

Ask = Callable[[Messages, int], str]
"""(messages, seed) → what the model says."""

ABOUT = (
    "something that happened before",
    "what is happening at this moment",
    "what will come next, or advice for it",
    "being told when something of the list happens, which has not happened yet",
    "being told of everything from now on",
)
SYSTEM = (
    "You write training data for an assistant that watches a live video and talks with its user. "
    "You get what happens in the video, with times in seconds, and numbered lines of a dialogue, "
    "each with its time and who speaks. Write the words of each line. A line of the user is a "
    "short natural request about what is told in brackets. A line of the assistant is one short "
    "sentence that uses only what has happened up to the time of the line, and serves what the "
    "user asked for; where there is nothing to say to that, its words are empty. Never mention a "
    "time, a number of seconds or a list. Answer with one JSON object from the number of a line to "
    "its words, and nothing else."
)
TRIES = 3
_TIME_TOLD = re.compile(
    r"\b\d+(?:[.,]\d+)?\s*(?:s|sec|secs|seconds?|minutes?)\b|\b\d{1,2}:\d{2}\b", re.IGNORECASE
)
_OBJECT = re.compile(r"\{.*\}", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Line:
    """A line that the model has to write.

    Attributes:
        time_s: seconds.
        role: who speaks.
        about: what the user asks about; empty for the assistant.
    """

    time_s: float
    role: str
    about: str = ""


def by_language_model(
    captioned: Sequence[tuple[Path, Captioned]],
    ask: Ask,
    *,
    each: int = 1,
    at_start: bool = False,
    seed: int = 0,
    leave_out: Callable[[str], None] = lambda why: None,
) -> Iterator[Dialogue]:
    """Dialogues about the captions of each annotator.

    Args:
        captioned: video and captions.
        ask: the model.
        each: dialogues of each annotator.
        at_start: a caption of a stretch is told where that begins, not where it ends.
        seed: of the questions and of the model.
        leave_out: told of a dialogue that the model did not write in the form that was asked for,
            or in which it speaks of times.

    Raises:
        EndpointFailed: the model does not answer.
    """
    for video, one in captioned:
        for number in range(each):
            name = f"{one.video}:chat-{number}"
            scene = scene_of(one, f"chat-{number}", at_start=at_start, seed=seed)
            turns = _written(scene, ask, 1000 * seed + number)
            if turns:
                yield Dialogue(video, tuple(turns), id=name)
            else:
                leave_out(f"{name}: the language model wrote no dialogue that can be used")


def lines_of(scene: Scene) -> list[Line]:
    """Up to three questions, each answered at once, and a line at each moment after the first."""
    count = 1 + int(scene.rng.integers(MOST_ASKED))
    times: list[float] = []
    for time_s in scene.rng.uniform(0.0, scene.until_s, 4 * count).tolist():
        if all(abs(time_s - other) >= APART_S for other in times):
            times.append(round(time_s, 3))
    times = sorted(times[:count])
    lines = []
    for time_s in times:
        lines += [Line(time_s, USER, scene.chosen(ABOUT)), Line(time_s, ASSISTANT)]
    for moment_s in dict.fromkeys(scene.moments_s):
        if moment_s > times[0] and moment_s not in times:
            lines.append(Line(moment_s, ASSISTANT))
    return sorted(lines, key=lambda line: line.time_s)


def messages_of(scene: Scene, lines: Sequence[Line]) -> Messages:
    """What the model is asked."""
    happens = [
        f"{one.to_s:.1f}: {one.text}"
        if one.from_s == one.to_s
        else f"{one.from_s:.1f} to {one.to_s:.1f}: {one.text}"
        for one in scene.captions
    ]
    wanted = [
        f"{number}. {line.time_s:.1f} {line.role}"
        + (f" [asks about {line.about}]" if line.about else "")
        for number, line in enumerate(lines, 1)
    ]
    text = "\n".join(["What happens:", *happens, "", "Lines:", *wanted])
    return [{"role": "system", "content": SYSTEM}, {"role": "user", "content": text}]


def _written(scene: Scene, ask: Ask, seed: int) -> list[Turn]:
    """The turns of a dialogue; none where the model cannot do it in TRIES."""
    lines = lines_of(scene)
    messages = messages_of(scene, lines)
    for tried in range(TRIES):
        words = words_of(ask(messages, seed + 100 * tried))
        turns = turns_of(lines, words)
        is_told = any(turn.role == ASSISTANT for turn in turns)
        if is_told and not any(_TIME_TOLD.search(turn.text) for turn in turns):
            return turns
    return []


def words_of(answer: str) -> Mapping[int, str]:
    """Number of a line → its words; empty where the answer holds no such object."""
    found = _OBJECT.search(answer)
    try:
        value = json.loads(found.group()) if found else {}
        return {int(key): " ".join(text.split()) for key, text in value.items()}
    except (ValueError, AttributeError):
        return {}


def turns_of(lines: Sequence[Line], words: Mapping[int, str]) -> list[Turn]:
    """The lines that were written; no answer to a question that was not."""
    turns: list[Turn] = []
    for number, line in enumerate(lines, 1):
        text = words.get(number, "")
        is_answer = number > 1 and lines[number - 2].role == USER and line.role == ASSISTANT
        if not text or (is_answer and not words.get(number - 1)):
            continue
        turns.append(Turn(line.time_s, line.role, text))
    return turns
