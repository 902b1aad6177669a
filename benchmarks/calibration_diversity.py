"""How much a calibration set differs within itself, against as many frames at even distances.

    python benchmarks/calibration_diversity.py CLIP...

Both are taken from the same frames, ten a second. Each is seen by the embedding that chose and by
the other one: light, colour and edges by place, and the vision summary of the reference assistant.
`farthest` is how far some frame of the clips lies from the nearest one of the set.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from figures import BusyTime, Figure, report

from edgestream.calibration.selection import distances_to, diversity
from edgestream.edge.calibrating import CalibrationChoice, calibrate
from edgestream.edge.calibration_looks import Look, look_for
from edgestream.edge.settings_tables import Settings
from edgestream.runtime.sources import SourceSettings, open_source
from edgestream.runtime.values import Float32, Frame, UInt8

REFERENCE = Path(__file__).parents[1] / "assets" / "reference"
FPS = 10.0
MUST_GAIN = 1.2
"""Of the least distance, also where another embedding looks than the one that chose."""


def main() -> None:
    """Compare, print, and leave with 1 where a set differs no more than even frames do."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("clips", nargs="+", metavar="CLIP")
    parser.add_argument("--count", type=int, default=24)
    chosen = parser.parse_args()
    busy, rows, figures = BusyTime(), [], []
    every = [pixels for clip in chosen.clips for pixels in pictures_of(clip)]
    for bundle in (None, REFERENCE):
        picked = CalibrationChoice(count=chosen.count, every_s=1 / FPS, bundle=bundle)
        with tempfile.TemporaryDirectory() as place:
            made = calibrate(chosen.clips, Path(place) / "set", picked, Settings()).made
        count = len(made.frames)
        even = [every[at] for at in np.linspace(0, len(every) - 1, count).astype(int)]
        by = str(made.settings["compared_by"])
        for other in (None, REFERENCE):
            with look_for(other, Settings()) as look:
                seen, ours, theirs = (embedded(look, some) for some in (every, made.frames, even))
                name = look.name
            told = {"chosen by": by, "seen by": name, "frames": f"{count} of {len(every)}"}
            rows += [{**told, "which": "set", **spread(ours, seen)},
                     {**told, "which": "even", **spread(theirs, seen)}]  # fmt: skip
            gain = diversity(ours).least / max(diversity(theirs).least, 1e-6)
            figures.append(Figure(f"least distance, chosen by {by}, seen by {name}", gain, "1",
                                  count, at_least=MUST_GAIN))  # fmt: skip
    sys.exit(not report("benchmarks/calibration_diversity.py", rows, figures, bundle_sha256=None,
                        threads=1, cpu_share=busy.cpu_share()))  # fmt: skip


def pictures_of(clip: str) -> Iterable[UInt8]:
    """What is looked at of a clip."""
    for frame in open_source(clip, SourceSettings(fps=FPS)).frames(lambda record: None):
        if frame is not None:
            yield frame.pixels


def embedded(look: Look, pictures: Iterable[UInt8]) -> Float32:
    """(pictures, dim) float32, each by itself."""
    rows = []
    for index, pixels in enumerate(pictures):
        look.reset()
        rows.append(look(Frame(index, index / FPS, pixels)))
    return np.stack(rows)


def spread(rows: Float32, every: Float32) -> dict[str, Any]:
    """How far the pictures lie apart, and how far the farthest of all lies from them."""
    found = diversity(rows)
    farthest = max(distances_to(rows, one).min() for one in every)
    return {"mean": found.mean, "least": found.least, "farthest": farthest}


if __name__ == "__main__":
    main()
