"""Teaches the reference assistant an event that it does not know: clips, train lora, export, run.

    python benchmarks/adapt_reference.py --out DIR [--clips 80] [--epochs 8]

The event is rendered here and nowhere else: all colours turn to their opposites, and the assistant
is to say "Black is white.". Half of the clips have it; what the world tells besides is told as
well. Each command of the road is run as a user runs it, and timed; the adapted bundle then watches
clips that were not trained on, in the device's own program, and its sentences are scored.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from edgestream.evaluation.dialogue_scores import TriggerScore, score_triggers
from edgestream.evaluation.world import Clip, WorldRules, render_clip
from edgestream.evaluation.world.event_types import COLOURS
from edgestream.training.dialogues import ASSISTANT, Dialogue, Turn, write_dialogues

SENTENCE = "Black is white."
FRAMES, FPS, TOLERANCE_S = 40, 4, 1.0
HELD_OUT_FROM = 500_000
TURNED = (*COLOURS, "darker", "brighter", "black")
"""Words that are not true of a picture whose colours are turned."""
BASE = Path(__file__).parents[1] / "assets" / "reference-checkpoint"


def main() -> None:
    """The whole road, timed."""
    asked = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    asked.add_argument("--out", type=Path, required=True)
    asked.add_argument("--clips", type=int, default=80)
    asked.add_argument("--held-out", type=int, default=30)
    asked.add_argument("--epochs", type=int, default=8)
    asked.add_argument("--llm", default="int8")
    asked.add_argument("--options", default="", help="more of `train lora`, one text")
    given = asked.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    clips = written_clips(given.out / "clips", range(given.clips))
    held = written_clips(given.out / "held", range(HELD_OUT_FROM, HELD_OUT_FROM + given.held_out))
    for name, dialogues in (("clips", clips), ("held", held)):
        write_dialogues(given.out / f"{name}.jsonl", dialogues)
    adapter, bundle = given.out / "adapter", given.out / "bundle"
    took = {
        "train_s": ran("train", "lora", str(given.out / "clips.jsonl"), "--base", str(BASE),
                       "--out", str(adapter), "--epochs", str(given.epochs), "--force",
                       *given.options.split()),
        "export_s": ran("export", str(BASE), "--adapter", str(adapter), "--out", str(bundle),
                        "--llm", given.llm, "--force"),
    }  # fmt: skip
    begun = time.monotonic()
    event, spoken = watched(bundle, held)
    took["run_s"] = time.monotonic() - begun
    print(json.dumps({
        "benchmark": "adapt_reference", "clips": len(clips), "held_out": len(held),
        "event": scores(event), "all_sentences": scores(spoken),
        **{name: round(value, 1) for name, value in took.items()},
    }))  # fmt: skip


def scores(found: TriggerScore) -> dict[str, float]:
    """Precision, recall and F1, with how many there were."""
    return {"precision": round(found.precision, 3), "recall": round(found.recall, 3),
            "f1": round(found.f1, 3), "true": found.n_true, "spoken": found.n_spoken}  # fmt: skip


def ran(*arguments: str) -> float:
    """Seconds that a command took."""
    begun = time.monotonic()
    subprocess.run([sys.executable, "-m", "edgestream.edge.cli", *arguments], check=True)
    return time.monotonic() - begun


def written_clips(folder: Path, seeds: range) -> list[Dialogue]:
    """A clip of each seed as a video, and what is to be said of it."""
    folder.mkdir(parents=True, exist_ok=True)
    found = []
    for seed in seeds:
        clip = render_clip(seed, FRAMES, WorldRules())
        rng = np.random.default_rng([seed, 17])
        begin = int(rng.integers(8, FRAMES - 6)) if seed % 2 else FRAMES
        path = folder / f"{seed}.mp4"
        write_video(path, clip, begin)
        found.append(Dialogue(path, tuple(turns_of(clip, begin))))
    return [one for one in found if one.turns]


def turns_of(clip: Clip, begin: int) -> list[Turn]:
    """What is to be said, and when; where colours lie, what names one is not learned."""
    turns = []
    for frame, sentences in enumerate(clip.narration):
        if frame == begin:  # the world's own event of that very frame is not told
            turns.append(Turn(frame / FPS, ASSISTANT, SENTENCE))
        elif sentences:
            text = " ".join(sentences)
            lies = frame > begin and any(word in text for word in TURNED)
            turns.append(Turn(frame / FPS, ASSISTANT, text, not lies))
    return turns


def write_video(path: Path, clip: Clip, begin: int) -> None:
    """The clip as H.264; from a frame on its colours are their opposites."""
    assert clip.pixels is not None
    with av.open(str(path), "w") as file:
        stream = file.add_stream("libx264", rate=FPS, options={"crf": "10"})
        stream.height, stream.width = clip.pixels.shape[1:3]
        stream.pix_fmt = "yuv420p"
        stream.codec_context.time_base = Fraction(1, FPS)
        for number, picture in enumerate(clip.pixels):
            pixels = 255 - picture if number >= begin else picture
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
            file.mux(stream.encode(frame))
        file.mux(stream.encode())


def watched(bundle: Path, held: list[Dialogue]) -> tuple[TriggerScore, TriggerScore]:
    """The scores of the new event, and of all moments of speaking, by `edgestream run`."""
    event, spoken = TriggerScore(), TriggerScore()
    for dialogue in held:
        said = said_of(bundle, dialogue.video)
        true = [(turn.time_s, turn.text) for turn in dialogue.turns]
        spoken += score_triggers([at for at, _ in said], [at for at, _ in true], TOLERANCE_S)
        event += score_triggers(
            [at for at, text in said if SENTENCE in text],
            [at for at, text in true if SENTENCE in text],
            TOLERANCE_S,
        )
    return event, spoken


def said_of(bundle: Path, video: Path) -> list[tuple[float, str]]:
    """(seconds, text) of what the device says unasked along a video."""
    command = [sys.executable, "-m", "edgestream.edge.cli", "run", str(video), "--bundle",
               str(bundle), "--gate", "token", "--set", "context.kind=continuous",
               "--jsonl", "-"]  # fmt: skip
    told = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    records = [json.loads(line) for line in told.splitlines()]
    return [
        (float(one["time_s"]), one["text"])
        for one in records
        if one["type"] == "final" and one["text"].strip()
    ]


if __name__ == "__main__":
    main()
