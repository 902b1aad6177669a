"""Draw the README's picture: the sample clip, the gate's scores on it, and the events it told.

python docs/picture.py            writes docs/sample.png
"""

from __future__ import annotations

import json
from pathlib import Path

import matplotlib
import numpy as np

from edgestream.runtime.encoder import PixelEncoder
from edgestream.runtime.gate import gate_from_name
from edgestream.runtime.sources import SourceSettings, open_source
from edgestream.runtime.values import Event, Frame

matplotlib.use("Agg")
from matplotlib import pyplot

ROOT = Path(__file__).parents[1]
TYPES = ("cut", "dark", "bright", "motion", "pan")
COLOURS = dict(zip(TYPES, ("#d1495b", "#30638e", "#e8a33d", "#3b8b5a", "#7a4fa3"), strict=True))
ARROWS = {"left": "←", "right": "→", "up": "↑", "down": "↓"}
STRIP_FRAMES = 13


def watched() -> tuple[list[Frame], dict[str, list[float]], list[Event]]:
    """The sampled frames, the score of each type at each, and the events in order of closing."""
    encoder, gate = PixelEncoder(), gate_from_name("change")
    source = open_source(str(ROOT / "assets" / "sample.mp4"), SourceSettings())
    frames: list[Frame] = []
    scores: dict[str, list[float]] = {name: [] for name in TYPES}
    events: dict[str, Event] = {}
    for frame in source.frames(lambda record: None):
        if frame is None:
            continue
        decision = gate.step(encoder.encode(frame), 0.25 if frames else None)
        frames.append(frame)
        for name in TYPES:
            scores[name].append(decision.scores.get(name, 0.0))
        for event in (*decision.opened, *decision.closed):
            events[event.event_id] = event
    return frames, scores, list(events.values())


def main() -> None:
    """Write docs/sample.png."""
    frames, scores, events = watched()
    truth = json.loads((ROOT / "assets" / "sample.truth.json").read_text())["events"]
    end_s = frames[-1].time_s
    figure, axes = pyplot.subplots(
        1 + len(TYPES), 1, figsize=(12, 5.6), height_ratios=[1.5] + [1] * len(TYPES)
    )
    chosen = [frames[i] for i in np.linspace(0, len(frames) - 1, STRIP_FRAMES).astype(int)]
    axes[0].imshow(np.hstack([frame.pixels[::3, ::3] for frame in chosen]), aspect="auto")
    axes[0].set_axis_off()
    times_s = [frame.time_s for frame in frames]
    for axis, name in zip(axes[1:], TYPES, strict=True):
        for one in (one for one in truth if one["event"] == name):
            axis.axvspan(one["from_s"], max(one["to_s"], one["from_s"] + 0.25), color="#d8d8d8")
        axis.plot(times_s, scores[name], color=COLOURS[name], linewidth=1.4)
        for event in (event for event in events if event.event == name):
            direction = ARROWS.get(event.attributes.get("direction", ""), "")
            axis.plot(event.opened_s, 1.15, "v", color=COLOURS[name], markersize=8)
            axis.text(event.opened_s + 0.3, 1.15, direction, color=COLOURS[name], va="center")
        axis.set(xlim=(0, end_s), ylim=(0, 1.4), yticks=[0, 1])
        axis.set_ylabel(name, rotation=0, ha="right", va="center", fontsize=11)
        axis.spines[["top", "right"]].set_visible(False)
        axis.tick_params(labelbottom=axis is axes[-1])
    axes[-1].set_xlabel("stream time, seconds")
    figure.subplots_adjust(left=0.075, right=0.99, top=0.99, bottom=0.09, hspace=0.18)
    figure.savefig(ROOT / "docs" / "sample.png", dpi=110)


if __name__ == "__main__":
    main()
