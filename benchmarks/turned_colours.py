"""Clips of an event that the reference assistant does not know: all colours turn to opposites.

It is rendered here and nowhere else. From some frame on three clips of four show the negatives of
themselves, and "Black is white." is to be said of the first such frame; they end soon after, before
the world tells much that is not true of turned colours. What it tells besides is told as well.
"""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from edgestream.evaluation.world import Clip, WorldRules, render_clip
from edgestream.evaluation.world.event_types import COLOURS
from edgestream.training.dialogues import ASSISTANT, Dialogue, Turn, write_dialogues

SENTENCE = "Black is white."
FRAMES, FPS = 40, 4
FIRST_TURN, LAST_TURN = 8, FRAMES - 6
"""Frames between which colours turn: not at the beginning, and not so late that nobody sees it."""
ALONE, LEAST_CONTRAST = 3, 20.0
"""Frames to the world's own events, and the spread of levels in the picture that turns: what
happens alone, in a picture that is not black, can be told from what the assistant knows."""
AFTER = 6
"""Frames of turned colours, the first one included, at which such a clip ends."""
LIES = (*COLOURS, "darker", "brighter", "black")
"""Words that are not true of a picture whose colours are turned."""


def written_clips(file: Path, seeds: range) -> list[Dialogue]:
    """A clip of each seed as a video beside the file, and in it what is to be said of them."""
    folder = file.with_suffix("")
    folder.mkdir(parents=True, exist_ok=True)
    dialogues = [_written(folder / f"{seed}.mp4", seed) for seed in seeds]
    dialogues = [one for one in dialogues if one.turns]
    write_dialogues(file, dialogues)
    return dialogues


def _written(path: Path, seed: int) -> Dialogue:
    clip = render_clip(seed, FRAMES, WorldRules())
    turned = _turned(clip, np.random.default_rng([seed, 17])) if seed % 4 else FRAMES
    _write_video(path, clip, turned)
    return Dialogue(path, tuple(turns_of(clip, turned)))


def _turned(clip: Clip, rng: np.random.Generator) -> int:
    """A frame at which colours may turn; the number of frames where there is none."""
    assert clip.pixels is not None
    happens = [frame for frame, told in enumerate(clip.narration) if told]
    may = [
        frame
        for frame in range(FIRST_TURN, LAST_TURN)
        if all(abs(frame - other) > ALONE for other in happens)
        and float(clip.pixels[frame].std()) > LEAST_CONTRAST
    ]
    return int(rng.choice(may)) if may else FRAMES


def turns_of(clip: Clip, turned: int) -> list[Turn]:
    """What is to be said, and when.

    Args:
        clip: its narration.
        turned: frame from which on colours are turned; the number of frames for never. What lies
            of turned colours is left out, or not learned where nothing else is to be said.
    """
    turns = []
    for frame, sentences in enumerate(clip.narration[: turned + AFTER]):
        if frame == turned:
            turns.append(Turn(frame / FPS, ASSISTANT, SENTENCE))
        elif sentences:
            lie = [frame > turned and any(word in one for word in LIES) for one in sentences]
            true = [one for one, lies in zip(sentences, lie, strict=True) if not lies]
            text = " ".join(true or sentences)
            turns.append(Turn(frame / FPS, ASSISTANT, text, bool(true)))
    return turns


def _write_video(path: Path, clip: Clip, turned: int) -> None:
    """The clip as H.264; from a frame on its colours are their opposites, and soon it ends."""
    assert clip.pixels is not None
    with av.open(str(path), "w") as file:
        stream = file.add_stream("libx264", rate=FPS, options={"crf": "10"})
        stream.height, stream.width = clip.pixels.shape[1:3]
        stream.pix_fmt = "yuv420p"
        stream.codec_context.time_base = Fraction(1, FPS)
        for number, picture in enumerate(clip.pixels[: turned + AFTER]):
            pixels = 255 - picture if number >= turned else picture
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
            file.mux(stream.encode(frame))
        file.mux(stream.encode())
