"""How true and how fast the `change` gate is, beside PySceneDetect where that is installed.

    python benchmarks/change_gate.py --clips DIR [--fps 4] [--seeds 500:530] [--json]

Scripted clips (`test:`), altered real clips, and the real clips as they are. Thresholds were set on
seeds 0 to 74, after a look at the totals of 100 to 129 and 300 to 329; none from 500 on was used.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edgestream.evaluation.altered_clips import altered_clips
from edgestream.evaluation.event_scores import Scores, decisions_of, score_events
from edgestream.evaluation.footage import Footage, footage_from_file
from edgestream.runtime.gate_change import CHANGE_EVENTS, ChangeGate
from edgestream.runtime.motion import MotionDetector, thumbnail_summary
from edgestream.runtime.preprocess import small_picture
from edgestream.runtime.scripted import TrueEvent, render, truth
from edgestream.runtime.scripted_stories import SCRIPTS
from edgestream.runtime.values import Event, Features, UInt8

Frames = Sequence[tuple[float, UInt8]]
Opener = Callable[[Frames, float], list[Event]]
SCRIPTED_SIZE_PX = (180, 320)


def change_gate(frames: Frames, fps: float) -> list[Event]:
    """The events that the change gate opens."""
    return [event for decision in decisions_of(frames, ChangeGate()) for event in decision.opened]


def scripted_clips(
    fps: float, seeds: Iterable[int]
) -> Iterator[tuple[Frames, Sequence[TrueEvent], frozenset[str], float]]:
    """Frames, truth, scored types and length of the `test:` clips; `sample` once."""
    for number, seed in enumerate(seeds):
        for name, script in SCRIPTS.items():
            if name != "sample" or number == 0:
                frames = list(render(script, fps, seed, SCRIPTED_SIZE_PX))
                length_s = script.story(seed).length_s
                yield frames, truth(script, fps, seed), frozenset(CHANGE_EVENTS), length_s


def altered(
    footage: Sequence[Footage], fps: float, seeds: Sequence[int]
) -> Iterator[tuple[Frames, Sequence[TrueEvent], frozenset[str], float]]:
    """The same of the altered real clips."""
    for clip in altered_clips(footage, fps=fps, seeds=seeds):
        yield clip.frames, clip.truth, clip.scored, clip.length_s


def scores_of(
    clips: Iterable[tuple[Frames, Sequence[TrueEvent], frozenset[str], float]],
    openers: dict[str, Opener],
    fps: float,
) -> dict[str, Scores]:
    """Scores of each opener on the same sampled frames; peers are scored on cuts alone."""
    totals = {name: Scores() for name in openers}
    for frames, events, scored, length_s in clips:
        for name, opener in openers.items():
            types = scored if name == "change gate" else scored & {"cut"}
            opened = opener(frames, fps)
            totals[name] += score_events(opened, events, fps=fps, watched_s=length_s, scored=types)
    return totals


def peers() -> dict[str, Opener]:
    """PySceneDetect's detectors with their own defaults; empty where it is not installed."""
    try:
        from scenedetect import AdaptiveDetector, ContentDetector  # type: ignore[import-not-found]
        from scenedetect.common import FrameTimecode  # type: ignore[import-not-found]
    except ImportError:
        return {}

    def opener(make: Callable[[], Any]) -> Opener:
        def opened(frames: Frames, fps: float) -> list[Event]:
            detector, events = make(), []
            for index, (_, pixels) in enumerate(frames):
                at = FrameTimecode(index, fps)
                cuts = detector.process_frame(at, np.ascontiguousarray(pixels[..., ::-1]))
                events += [Event("e", "cut", frames[cut.frame_num][0]) for cut in cuts]
            tail = detector.post_process(FrameTimecode(len(frames) - 1, fps))
            return events + [Event("e", "cut", frames[cut.frame_num][0]) for cut in tail]

        return opened

    # min_scene_len is in frames and stands at 15, for 24 frames/s; here a cut may follow at once.
    return {
        "ContentDetector": opener(lambda: ContentDetector(min_scene_len=1)),
        "AdaptiveDetector": opener(lambda: AdaptiveDetector(min_scene_len=1)),
    }


def rows_of(title: str, scores: Scores) -> list[dict[str, Any]]:
    """One row per event type."""
    return [
        {
            "clips": title,
            "event": name,
            "n": score.n_true,
            "recall": round(score.recall, 3),
            "precision": round(score.precision, 3),
            "false_per_min": round(60 * score.n_false / scores.watched_s, 2),
            "latency_frames": round(statistics.fmean(score.latency_frames or (0.0,)), 2),
            "direction": score.direction_accuracy,
        }
        for name, score in sorted(scores.types.items())
    ]


def speed(frames: Frames) -> dict[str, Any]:
    """Milliseconds a frame of motion and gate, resize apart, and the CPU share meanwhile."""
    smalls, resize_ms = [], []
    for time_s, pixels in frames:
        begin = time.perf_counter()
        smalls.append((time_s, small_picture(pixels)))
        resize_ms.append(1e3 * (time.perf_counter() - begin))
    step_ms: list[float] = []
    wall, cpu = time.perf_counter(), time.process_time()
    for _ in range(3):
        detector, gate = MotionDetector(), ChangeGate()
        for time_s, small in smalls:
            begin = time.perf_counter()
            motion = detector.step_small(small, time_s)
            summary = thumbnail_summary(small)
            tokens = np.zeros((0, 0), np.float32)
            gate.step(Features(time_s, tokens, summary, motion, motion.is_still), 0.25)
            step_ms.append(1e3 * (time.perf_counter() - begin))
    share = (time.process_time() - cpu) / (time.perf_counter() - wall)
    return {
        "picture_px": list(frames[0][1].shape[:2]),
        "resize_ms_p50": round(statistics.median(resize_ms), 2),
        "motion_and_gate_ms_p50": round(statistics.median(step_ms), 2),
        "motion_and_gate_ms_p99": round(float(np.quantile(step_ms, 0.99)), 2),
        "threads": int(os.environ.get("OMP_NUM_THREADS", os.cpu_count() or 1)),
        "cpu_share": round(share, 2),
        "machine": platform.processor() or platform.machine(),
    }


def as_they_are(folder: Path, fps: float, openers: dict[str, Opener]) -> dict[str, Any]:
    """What is said of the real clips without any change."""
    said: dict[str, Any] = {}
    for path in sorted(folder.glob("*.mp4")):
        footage = footage_from_file(path, fps=fps, from_s=0.0)
        frames = list(zip(footage.times_s, footage.pictures, strict=True))
        said[path.stem] = {
            name: [
                " ".join([event.event, *event.attributes.values(), f"{event.opened_s:.2f}"])
                for event in opener(frames, fps)
            ]
            for name, opener in openers.items()
        }
    return said


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Rows as text, columns aligned."""
    heads = list(rows[0])
    cells = [heads, *[["-" if row[h] is None else str(row[h]) for h in heads] for row in rows]]
    widths = [max(len(line[i]) for line in cells) for i in range(len(heads))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        for line in cells
    )


def measured(clips: Path | None, fps: float, seeds: range) -> dict[str, Any]:
    """Every figure of this benchmark."""
    openers: dict[str, Opener] = {"change gate": change_gate, **peers()}
    result: dict[str, Any] = {"fps": fps, "seeds": [seeds.start, seeds.stop], "rows": []}
    totals = {"scripted": scores_of(scripted_clips(fps, seeds), openers, fps)}
    if clips is not None:
        footage = [footage_from_file(path) for path in sorted(clips.glob("*.mp4"))]
        totals["altered"] = scores_of(altered(footage, fps, seeds), openers, fps)
        result["real_clips"] = as_they_are(clips, fps, openers)
        frames = list(zip(footage[0].times_s, footage[0].pictures, strict=True))
    else:
        frames = list(render(SCRIPTS["sample"], fps))
    for kind, by_opener in totals.items():
        for name, scores in by_opener.items():
            result["rows"] += rows_of(f"{kind}: {name}", scores)
        gate = by_opener["change gate"]
        result[f"{kind}_false_per_min"] = round(gate.false_per_minute, 2)
        result[f"{kind}_minutes"] = round(gate.watched_s / 60, 1)
    result["speed"] = speed(frames)
    result["peer"] = "PySceneDetect" if len(openers) > 1 else "PySceneDetect is not installed here"
    return result


def main() -> None:
    """Prints a table, or one JSON line with --json."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--clips", type=Path, help="folder of real .mp4 clips")
    parser.add_argument("--fps", type=float, default=4.0, help="sampled frames a second")
    parser.add_argument("--seeds", default="500:530", help="first:after-last")
    parser.add_argument("--json", action="store_true", help="one JSON line")
    options = parser.parse_args()
    first, last = (int(part) for part in options.seeds.split(":"))
    result = measured(options.clips, options.fps, range(first, last))
    if options.json:
        print(json.dumps(result))
        return
    rows = result.pop("rows")
    print(table(rows))
    json.dump(result, sys.stdout, indent=1)
    print()


if __name__ == "__main__":
    main()
