"""Rendered clips, and two ways of talking about them that an adapter is taught in a few minutes.

`camera` speaks of what the camera does and of the light, `things` of what moves, each in words that
the reference assistant never says, and each is silent where the other one speaks.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from edgestream.evaluation.world import Clip, WorldEvent, WorldRules, render_clip
from edgestream.tests.video_files import write_video
from edgestream.training.dialogues import ASSISTANT, Dialogue, Turn, write_dialogues

FRAMES, FPS = 40, 4
LEARNED_FROM, HELD_OUT_FROM = 700_000, 800_000
SENTENCES: Mapping[str, Mapping[str, str]] = {
    "camera": {
        "cut": "I see another place now.",
        "dark": "I see the light go out.",
        "bright": "I see the light get up.",
        "pan": "I look {direction} now.",
        "zoom": "I go {direction} now.",
        "shake": "I have been moving up and down.",
    },
    "things": {
        "enter": "Something {colour} has entered at the {side}.",
        "leave": "Something {colour} was at the {side}.",
        "start": "Something {colour} is moving {direction}.",
        "stop": "Something {colour} is there now.",
        "meet": "Two things are at one place.",
    },
}
"""What each adapter says of an event of the rendered world."""


def written(folder: Path, learned: int, held_out: int) -> dict[str, tuple[Path, Path]]:
    """Adapter → (dialogues that it learns, dialogues that are held out), about the same videos.

    What is there already is taken as it is.
    """
    files = {name: (folder / f"{name}.jsonl", folder / f"{name}-held.jsonl") for name in SENTENCES}
    if all(path.exists() for pair in files.values() for path in pair):
        return files
    folder.mkdir(parents=True, exist_ok=True)
    for at, seeds in enumerate((range(LEARNED_FROM, LEARNED_FROM + learned),
                                range(HELD_OUT_FROM, HELD_OUT_FROM + held_out))):  # fmt: skip
        dialogues: dict[str, list[Dialogue]] = {name: [] for name in SENTENCES}
        for seed in seeds:
            clip = render_clip(seed, FRAMES, WorldRules())
            video = folder / f"{seed}.mp4"
            assert clip.pixels is not None
            pictures = (np.ascontiguousarray(one) for one in clip.pixels)
            write_video(video, pictures, fps=FPS, options={"crf": "10"})
            for name, told in dialogues.items():
                if turns := tuple(_turns(clip, name)):
                    told.append(Dialogue(video, turns))
        for name, told in dialogues.items():
            write_dialogues(files[name][at], told)
    return files


def _turns(clip: Clip, name: str) -> Iterator[Turn]:
    """One sentence at most a frame, of the event that is told first there."""
    frame = -1
    for event in clip.events:
        if event.kind in SENTENCES[name] and event.frame > frame:
            frame = event.frame
            yield Turn(frame / FPS, ASSISTANT, _sentence(event, SENTENCES[name][event.kind]))


def _sentence(event: WorldEvent, form: str) -> str:
    """The form filled in; what has no colour or side is told without."""
    given = {name: getattr(event, name) or "" for name in ("colour", "side", "direction")}
    text = form if given["side"] else form.replace(" at the {side}", "")
    return " ".join(text.format(**given).replace(" .", ".").split())
