"""Whether memory keeps its budget over a day, and a frame costs as much in hour 24 as in hour 1.

    python benchmarks/day_stream.py            24 h of stream at 30 frames/s: 2.6 million frames
    python benchmarks/day_stream.py --quick    1 h, compared with its first 2.5 minutes

The recording is assets/sample.mp4 through the bundle's own vision and connector,
with the events of the gate `change`, then a minute in which nothing moves but for the heartbeat. It
is repeated, each time with its numbers turned by another count, so that no two passes look alike.
Somebody asks every ten minutes. The states of both hours go through a state folder and back; then
both memories take the very same frames in turn, so that a busy moment of the machine hits both.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from day_recording import FPS, Day, Recording, recording_of
from figures import BusyTime, Figure, report
from measured_models import random_bundle
from workers import rss_bytes

from edgestream.runtime.bundle import open_bundle
from edgestream.runtime.memory.keyframes import KeyFrameMemory, KeyFrameRules
from edgestream.runtime.memory.memory_state import MemoryState
from edgestream.runtime.state_folder import StateFolder
from edgestream.runtime.state_snapshot import SavedPart, State
from edgestream.runtime.values import Response

HOUR_S, ASKED_EVERY_S = 3600.0, 600.0
HOUR_FRAMES = round(HOUR_S * FPS)
STRETCH_FRAMES, PAIRS = 600, 60
RATIO_MUST, RSS_MUST = 1.05, 1.10


@dataclass(slots=True)
class Peaks:
    """The most that was seen, bytes."""

    kept: int = 0
    rss: int = 0
    rss_saving: int = 0


def watched(memory: KeyFrameMemory, day: Day, frames: int, peaks: Peaks) -> float:
    """Let memory take so many frames; seconds that its steps took."""
    taken_s, clock = 0.0, time.perf_counter
    for number, (features, embeds, decision) in enumerate(day.frames(frames)):
        begun_s = clock()
        memory.step(features, embeds, decision)
        taken_s += clock() - begun_s
        peaks.kept = max(peaks.kept, memory.n_bytes)
        if number % round(FPS * ASKED_EVERY_S) == 0:
            about_s = (max(0.0, features.time_s - 3.0), features.time_s)
            said = Response(f"t{number}", "question", "A red cup.", True, about_s, question="What?")
            memory.remember([said])
        if number % 1800 == 0:
            peaks.rss = max(peaks.rss, rss_bytes())
    return taken_s


def saved(memory: KeyFrameMemory, folder: Path, clock_s: float, peaks: Peaks) -> None:
    """Write the state of the memory."""
    state = memory.snapshot()
    peaks.rss_saving = max(peaks.rss_saving, rss_bytes())
    nothing = SavedPart({}, {})
    with StateFolder(folder) as held:
        part = SavedPart(state.fields, state.arrays)
        held.write(State(None, {}, clock_s, {}, part, nothing))


def restored(folder: Path, budget_bytes: int) -> tuple[KeyFrameMemory, float]:
    """A memory that goes on from a written state, and the time at which."""
    with StateFolder(folder) as held:
        found = held.read(None)
    assert found is not None
    memory = KeyFrameMemory(KeyFrameRules(), budget_bytes)
    memory.restore(MemoryState(found.memory.arrays, found.memory.values))
    return memory, found.clock_s


def compared(
    recording: Recording, folders: list[Path], budget_bytes: int
) -> tuple[list[float], list[float]]:
    """Seconds of each stretch of the young and of the old memory, in turn, over the same frames."""
    pairs = []
    for folder in folders:
        memory, clock_s = restored(folder, budget_bytes)
        # Whole passes later, so that both begin at the same picture.
        pairs.append((memory, Day(recording, round(clock_s * FPS) + 1)))
    length = pairs[0][1].pass_frames
    for _, day in pairs:
        day.count += -day.count % length
    taken: tuple[list[float], list[float]] = ([], [])
    peaks = Peaks()
    for number in range(PAIRS + 1):
        order = (0, 1) if number % 2 == 0 else (1, 0)
        for which in order:
            seconds = watched(*pairs[which], STRETCH_FRAMES, peaks)
            if number:  # the first pair warms up
                taken[which].append(seconds)
    return taken


def measured(
    recording: Recording, budget_bytes: int, frames: int, early: int, folder: Path
) -> tuple[list[dict[str, Any]], list[Figure], float]:
    """Rows, figures, and the CPU share."""
    memory, day, peaks = KeyFrameMemory(KeyFrameRules(), budget_bytes), Day(recording), Peaks()
    day.turn_to(0)
    busy, before, rows = BusyTime(), rss_bytes(), []
    while day.count < frames:
        count = min(early, frames - day.count)
        seconds = watched(memory, day, count, peaks)
        rows.append(_row(memory, day, seconds / count, peaks, before))
        print(f"{day.count} of {frames} frames, {busy.wall_s():.0f} s", file=sys.stderr)
        if day.count == early:
            saved(memory, folder / "early", (day.count - 1) / FPS, peaks)
    saved(memory, folder / "late", (day.count - 1) / FPS, peaks)
    share, view = busy.cpu_share(), memory.view()
    counted = sum(key_frame.covers for key_frame in view.key_frames)
    young, old = compared(recording, [folder / "early", folder / "late"], budget_bytes)
    ratios = [late / soon for soon, late in zip(young, old, strict=True)]
    each = 1e6 / STRETCH_FRAMES
    figures = [
        Figure("frames", day.count, "1", 1),
        Figure("still frames", day.still_share, "1", day.count),
        Figure("encoded frames", day.fresh_share, "1", day.count),
        Figure("peak bytes kept over budget", peaks.kept / budget_bytes, "1", day.count,
               at_most=1.0),
        Figure("RSS growth over budget", (peaks.rss - before) / budget_bytes, "1",
               day.count // 1800, at_most=RSS_MUST),
        Figure("RSS growth over budget, while a state is copied",
               (peaks.rss_saving - before) / budget_bytes, "1", 2),
        Figure("late over early step time", statistics.median(ratios), "1", len(ratios),
               at_most=RATIO_MUST),
        Figure("late over early step time, of the sums", sum(old) / sum(young), "1", len(ratios)),
        Figure("early step", each * statistics.median(young), "us", len(young)),
        Figure("late step", each * statistics.median(old), "us", len(old)),
        Figure("frames that key frames cover", counted / day.count, "1", day.count, at_least=1.0,
               at_most=1.0),
        Figure("key frames", len(view.key_frames), "1", 1),
    ]  # fmt: skip
    return rows, figures, share


def _row(
    memory: KeyFrameMemory, day: Day, step_s: float, peaks: Peaks, before: int
) -> dict[str, Any]:
    return {
        "hour": round(day.count / HOUR_FRAMES, 2),
        "step us": round(1e6 * step_s, 1),
        "kept MB": round(memory.n_bytes / 1e6, 2),
        "key frames": len(memory.view().key_frames),
        "RSS growth MB": round((peaks.rss - before) / 1e6, 1),
    }


def _random_bundle() -> Path:
    """Made in another process: what it frees, memory would fill without being seen to grow."""
    with ProcessPoolExecutor(1, get_context("spawn")) as other:
        return other.submit(random_bundle).result()


def main() -> None:
    """Run and print; leave with 1 where a figure is not as it must be."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--bundle", type=Path, help="whose vision reads; a random one otherwise")
    parser.add_argument("--budget-mb", type=float, default=64.0, help="64 where not given")
    parser.add_argument("--quick", action="store_true", help="one hour")
    chosen = parser.parse_args()
    bundle = open_bundle(chosen.bundle or _random_bundle(), check="manifest")
    hours, parts = (1, 24) if chosen.quick else (24, 24)
    frames = hours * HOUR_FRAMES
    with tempfile.TemporaryDirectory() as folder:
        rows, figures, cpu_share = measured(
            recording_of(bundle),
            round(chosen.budget_mb * 1e6),
            frames,
            frames // parts,
            Path(folder),
        )
    passed = report(
        "benchmarks/day_stream.py", rows, figures,
        bundle_sha256=bundle.sha256, threads=1, cpu_share=cpu_share,
    )  # fmt: skip
    sys.exit(not passed)


if __name__ == "__main__":
    main()
