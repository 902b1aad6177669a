"""Draw what a frame costs as a stream goes on, of `benchmarks/endless_stream.py`.

python docs/endless_stream.py [CURVE.json [PICTURE.png]]       writes docs/endless-stream.png
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot

DOCS = Path(__file__).parent
COLOURS = ("#3b8b5a", "#d1495b", "#30638e")


def draw(told: dict[str, Any], picture: Path) -> None:
    """Time of a frame above, memory below, both over the number of frames read."""
    figure, (times, memory) = pyplot.subplots(
        2, 1, figsize=(9, 5.2), sharex=True, height_ratios=[2, 1]
    )
    for (name, curve), colour in zip(told["curves"].items(), COLOURS, strict=True):
        times.plot(curve["frame"], curve["ms"], color=colour, linewidth=1.6, label=name)
        memory.plot(curve["rss_frame"], curve["rss_mb"], color=colour, linewidth=1.6)
        for axis, x, y, unit in (
            (times, curve["frame"], curve["ms"], "ms"),
            (memory, curve["rss_frame"], curve["rss_mb"], "MB"),
        ):
            axis.annotate(
                f"{y[-1]:.0f} {unit}",
                (x[-1], y[-1]),
                xytext=(5, 5),
                textcoords="offset points",
                color=colour,
            )
    times.set(ylabel="milliseconds a frame")
    memory.set(ylabel="memory, MB", xlabel="frames read")
    times.legend(frameon=False, loc="upper right")
    for axis in (times, memory):
        axis.spines[["top", "right"]].set_visible(False)
        axis.margins(x=0.08, y=0.15)
        axis.set(xlim=(0, None), ylim=(0, None))
    figure.tight_layout()
    figure.savefig(picture, dpi=110)


def main() -> None:
    """Write the picture."""
    given = [Path(text) for text in sys.argv[1:]]
    places = [DOCS / "endless-stream.json", DOCS / "endless-stream.png"]
    curve, picture = [*given, *places[len(given) :]]
    draw(json.loads(curve.read_text()), picture)


if __name__ == "__main__":
    main()
