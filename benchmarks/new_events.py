"""Clips of events that the reference assistant does not know: all gets red, or colours turn.

They are rendered here and nowhere else. From some frame on three clips of four are lit by a red
lamp, or show the negatives of themselves, and a sentence of the event is to be said of the first
such frame; they end soon after, before the world tells much that is not true of such colours. What
it tells besides is told as well.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

from edgestream.evaluation.world import Clip, WorldRules, render_clip
from edgestream.evaluation.world.event_types import COLOURS
from edgestream.training.dialogues import ASSISTANT, Dialogue, Turn, write_dialogues

Pixels = NDArray[np.uint8]
LAMP = 0.65
"""Share of a red lamp in the light."""
FRAMES, FPS = 40, 4
FIRST_TURN, LAST_TURN = 8, FRAMES - 6
"""Frames between which colours turn: not at the beginning, and not so late that nobody sees it."""
ALONE, LEAST_CONTRAST = 3, 20.0
"""Frames to the world's own events, and the spread of levels in the picture that changes: what
happens alone, in a picture that is not black, can be told from what the assistant knows."""
AFTER = 6
"""Frames of the event, the first one included, at which such a clip ends."""
LIES = (*COLOURS, "darker", "brighter", "black")
"""Words that are not true of a picture whose colours are not those of the things in it."""


@dataclass(frozen=True, slots=True)
class NewEvent:
    """What is new.

    Attributes:
        sentence: that is to be said, in words that the assistant knows.
        changed: (H, W, 3) uint8 → the same picture when it has happened.
    """

    sentence: str
    changed: Callable[[Pixels], Pixels]


def lit_red(picture: Pixels) -> Pixels:
    """As a red lamp lights it."""
    lit = picture * np.float32(1.0 - LAMP)
    lit[..., 0] += 255 * LAMP
    return lit.astype(np.uint8)


def negative(picture: Pixels) -> Pixels:
    """All colours are their opposites."""
    return 255 - picture


EVENTS = {
    "red": NewEvent("The picture gets red.", lit_red),
    "negative": NewEvent("Black is white.", negative),
}


def written_clips(file: Path, seeds: range, event: NewEvent) -> list[Dialogue]:
    """A clip of each seed as a video beside the file, and in it what is to be said of them."""
    folder = file.with_suffix("")
    folder.mkdir(parents=True, exist_ok=True)
    dialogues = [_written(folder / f"{seed}.mp4", seed, event) for seed in seeds]
    dialogues = [one for one in dialogues if one.turns]
    write_dialogues(file, dialogues)
    return dialogues


def _written(path: Path, seed: int, event: NewEvent) -> Dialogue:
    clip = render_clip(seed, FRAMES, WorldRules())
    begins = _begins(clip, np.random.default_rng([seed, 17])) if seed % 4 else FRAMES
    _write_video(path, clip, begins, event)
    return Dialogue(path, tuple(turns_of(clip, begins, event.sentence)))


def _begins(clip: Clip, rng: np.random.Generator) -> int:
    """A frame at which it may happen; the number of frames where there is none."""
    assert clip.pixels is not None
    happens = [frame for frame, told in enumerate(clip.narration) if told]
    may = [
        frame
        for frame in range(FIRST_TURN, LAST_TURN)
        if all(abs(frame - other) > ALONE for other in happens)
        and float(clip.pixels[frame].std()) > LEAST_CONTRAST
    ]
    return int(rng.choice(may)) if may else FRAMES


def turns_of(clip: Clip, begins: int, sentence: str) -> list[Turn]:
    """What is to be said, and when.

    Args:
        clip: its narration.
        begins: frame from which on it has happened; the number of frames for never. What lies of
            the colours then is left out, or not learned where nothing else is to be said.
        sentence: of the event.
    """
    turns = []
    for frame, sentences in enumerate(clip.narration[: begins + AFTER]):
        if frame == begins:
            turns.append(Turn(frame / FPS, ASSISTANT, sentence))
        elif sentences:
            lie = [frame > begins and any(word in one for word in LIES) for one in sentences]
            true = [one for one, lies in zip(sentences, lie, strict=True) if not lies]
            text = " ".join(true or sentences)
            turns.append(Turn(frame / FPS, ASSISTANT, text, bool(true)))
    return turns


def _write_video(path: Path, clip: Clip, begins: int, event: NewEvent) -> None:
    """The clip as H.264; from a frame on it has happened, and soon it ends."""
    assert clip.pixels is not None
    with av.open(str(path), "w") as file:
        stream = file.add_stream("libx264", rate=FPS, options={"crf": "10"})
        stream.height, stream.width = clip.pixels.shape[1:3]
        stream.pix_fmt = "yuv420p"
        stream.codec_context.time_base = Fraction(1, FPS)
        for number, picture in enumerate(clip.pixels[: begins + AFTER]):
            pixels = event.changed(picture) if number >= begins else picture
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
            file.mux(stream.encode(frame))
        file.mux(stream.encode())
