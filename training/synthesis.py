"""Captions with times turned into streaming dialogues, by templates and without any model.

Source: VideoLLM-online (arXiv 2406.11816) turns narrations and timed steps into dialogues; differs:
requests to be told when something happens, and questions before anything has happened.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .captions import Caption, Captioned
from .dialogues import ASSISTANT, USER, Dialogue, Turn

NARRATE = (
    "Tell me what happens.",
    "Say in a few words whatever happens.",
    "Comment on the video as it goes on.",
    "Let me know of everything that happens.",
    "Describe each thing that happens, shortly.",
    "Keep me informed of what is going on.",
    "What happens? Say it as soon as you see it.",
    "Narrate the video, please.",
    "Please report what you see as it happens.",
    "Watch this for me and tell me what you see.",
)
LAST = ("What happened last?", "What was the last thing that happened?", "What was that?")
NOW = ("What is happening now?", "What is going on?", "What do you see?")
SO_FAR = ("What has happened so far?", "What did I miss?", "Tell me what happened until now.")
BEFORE = ("And before that?", "What happened before that?", "What was before it?")
TELL_WHEN = ("Tell me when this happens: {}.", "Let me know when you see this: {}.",
             "Say so as soon as this happens: {}.")  # fmt: skip
NOTHING = "Nothing yet."
MOST_TOLD = 4
"""Captions that an answer about everything so far repeats: the latest ones."""
MOST_ASKED = 3
"""Questions in a dialogue, without those that follow up."""
APART_S = 1.0
"""Between two questions, and between a request and what it asks for."""
FOLLOWED_UP = 0.5


@dataclass(frozen=True, slots=True)
class Scene:
    """What a template writes about.

    Attributes:
        captions: in the order of their moments, at least one.
        moments_s: when each of them is said.
        until_s: until then questions may be asked.
        rng: of its own, so that a scene is a matter of seed and captions alone.
    """

    captions: tuple[Caption, ...]
    moments_s: tuple[float, ...]
    until_s: float
    rng: np.random.Generator

    def chosen(self, bank: Sequence[str]) -> str:
        """One of the texts."""
        return bank[int(self.rng.integers(len(bank)))]

    def said_until(self, time_s: float) -> list[int]:
        """Numbers of the captions whose moment has come."""
        return [at for at, moment_s in enumerate(self.moments_s) if moment_s <= time_s]


def unasked(scene: Scene) -> list[Turn]:
    """Each caption at its moment; nobody asks."""
    return [
        Turn(moment_s, ASSISTANT, caption.text)
        for caption, moment_s in zip(scene.captions, scene.moments_s, strict=True)
    ]


def narrated(scene: Scene) -> list[Turn]:
    """Each caption at its moment, after somebody asked for it at the beginning."""
    return [Turn(0.0, USER, scene.chosen(NARRATE)), *unasked(scene)]


def told_when(scene: Scene) -> list[Turn]:
    """Somebody asks to be told of one thing; silence but for that, every time it happens."""
    late = [at for at, caption in enumerate(scene.captions) if caption.from_s >= APART_S]
    if not late:
        return []
    caption = scene.captions[int(scene.rng.choice(late))]
    first_s = next(one.from_s for one in scene.captions if one.text == caption.text)
    latest_s = max(0.0, first_s - APART_S)
    asked_s = round(float(scene.rng.uniform(0.0, latest_s)), 3)
    wanted = scene.chosen(TELL_WHEN).format(caption.text.rstrip("."))
    return [
        Turn(asked_s, USER, wanted),
        *(turn for turn in unasked(scene) if turn.text == caption.text),
    ]


def asked(scene: Scene) -> list[Turn]:
    """Questions about what is, was last and has been so far, answered at once."""
    times: list[float] = []
    for time_s in scene.rng.uniform(0.0, scene.until_s, 4 * MOST_ASKED).tolist():
        if all(abs(time_s - other) >= APART_S for other in times):
            times.append(round(time_s, 3))
    turns: list[Turn] = []
    for time_s in sorted(times[:MOST_ASKED]):
        turns += _asked_at(scene, time_s)
    return turns


def _asked_at(scene: Scene, time_s: float) -> list[Turn]:
    """One question with its answer, and perhaps another one about what was before."""
    said = scene.said_until(time_s)
    running = [one for one in scene.captions if one.from_s <= time_s < one.to_s]
    texts = [scene.captions[at].text for at in said]
    if running and scene.rng.random() < 0.5:
        return _answered(time_s, scene.chosen(NOW), running[-1].text)
    if not texts:
        return _answered(time_s, scene.chosen(SO_FAR), NOTHING)
    if scene.rng.random() < 0.5:
        return _answered(time_s, scene.chosen(SO_FAR), " ".join(texts[-MOST_TOLD:]))
    turns = _answered(time_s, scene.chosen(LAST), texts[-1])
    if len(texts) > 1 and scene.rng.random() < FOLLOWED_UP:
        turns += _answered(time_s, scene.chosen(BEFORE), texts[-2])
    return turns


def _answered(time_s: float, question: str, answer: str) -> list[Turn]:
    return [Turn(time_s, USER, question), Turn(time_s, ASSISTANT, answer)]


KINDS: Mapping[str, Callable[[Scene], list[Turn]]] = {
    "unasked": unasked,
    "narrate": narrated,
    "when": told_when,
    "ask": asked,
}
"""Name → what writes the turns of a scene; none where it does not lend itself to it."""


def by_templates(
    captioned: Sequence[tuple[Path, Captioned]],
    kinds: Sequence[str] = tuple(KINDS),
    *,
    at_start: bool = False,
    seed: int = 0,
) -> Iterator[Dialogue]:
    """A dialogue of each kind for the captions of each annotator.

    Args:
        captioned: video and captions.
        kinds: of KINDS.
        at_start: a caption of a stretch is said where that begins, not where it ends.
        seed: of what is drawn; what is written about a video does not depend on the others.
    """
    for video, one in captioned:
        for kind in kinds:
            turns = KINDS[kind](scene_of(one, kind, at_start=at_start, seed=seed))
            if turns:
                yield Dialogue(video, tuple(turns), id=f"{one.video}:{kind}")


def scene_of(one: Captioned, kind: str, *, at_start: bool, seed: int) -> Scene:
    """What a template writes about, with random numbers of its own."""

    def moment(caption: Caption) -> float:
        return caption.from_s if at_start else caption.to_s

    captions = tuple(sorted(one.captions, key=moment))
    words = "\n".join([kind, one.video, *(caption.text for caption in captions)])
    rng = np.random.default_rng([seed, zlib.crc32(words.encode())])
    moments_s = tuple(moment(caption) for caption in captions)
    return Scene(captions, moments_s, max(caption.to_s for caption in captions), rng)
