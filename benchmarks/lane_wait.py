"""How long frames wait while the language model talks without a pause, with the lane and without.

    python benchmarks/lane_wait.py            300 frames at 10 frames/s and 900 at 30: 3 minutes
    python benchmarks/lane_wait.py --quick    a fifth of it

Every picture differs from the one before, so each is encoded. At 10 frames/s a ViT of 12 layers,
384 wide, keeps up; at 30 frames/s a SigLIP-B/16 cannot, and the newest picture is taken when it is
free (the others are counted as drops). Meanwhile a thread answers again and again: five recorded
frames in chunks of 16 tokens, then 100 tokens one at a time, evicting when the 512 slots are full.
`lane` and `split` are the two ways that EdgeStream offers: one engine at a time with two threads,
or both at once with one thread each. `no lane` has both at once with two threads each; `plain lock`
is why the lane is none.
"""

from __future__ import annotations

import argparse
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from bounded_context import BoundedContext, language_model, opened_engines
from figures import BusyTime, Figure, report
from measured_lane import LANES, MeasuredLane
from measured_models import random_bundle, small_tower_bundle
from recorded_stream import recording_of

from edgestream.runtime.bundle import Bundle, open_bundle
from edgestream.runtime.connector import EngineConnector
from edgestream.runtime.engine import Engine, backend_for
from edgestream.runtime.engines.lane import Lane
from edgestream.runtime.values import Frame, GateDecision, UInt8
from edgestream.runtime.vision import VisionEncoder

CAPACITY, ANSWER_TOKENS, PROMPT_FRAMES, WARM_UP_FRAMES = 512, 100, 5, 5
WAIT_OVER_MS, SPEAK_SHARE_MUST = 2.0, 0.25


class Talker:
    """A thread that answers without a pause until it is stopped.

    Args:
        bundle: with a decoder.
        lane: that it works in.
        threads: of the decoder.
    """

    def __init__(self, bundle: Bundle, lane: MeasuredLane, threads: int) -> None:
        self._lane = lane
        engines = opened_engines(bundle, threads)
        self._context = BoundedContext(language_model(bundle, CAPACITY, lane=lane, engines=engines))
        recording = recording_of(bundle)
        rows = self._context.model.rows
        self._prompt = np.concatenate(list(recording.embeds[:PROMPT_FRAMES]))
        self._context.append("prefix", rows(recording.prefix_ids))
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._talk)
        self.tokens = 0

    def _talk(self) -> None:
        while not self._stopped.is_set():
            self._lane.speaking = "eviction"
            self._context.make_room(len(self._prompt) + ANSWER_TOKENS)
            self._lane.speaking = "chunk"
            logits = self._context.append("frame", self._prompt)
            self._lane.speaking = "step"
            for _ in range(ANSWER_TOKENS):
                if self._stopped.is_set():
                    return
                logits = self._context.step(int(logits.argmax()))
                self.tokens += 1

    def __enter__(self) -> Talker:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._thread.join()


@dataclass(slots=True)
class Watched:
    """What became of the frames.

    Attributes:
        late_s: of each frame, from when it was due to its embeds.
        drops: frames that a newer one displaced.
        fresh: frames that were encoded.
    """

    late_s: list[float] = field(default_factory=list)
    drops: int = 0
    fresh: int = 0


def moving_picture(index: int) -> UInt8:
    """(360, 640, 3) uint8 RGB: a wall of coloured squares, 8 px further at every index."""
    squares = np.random.default_rng(0).integers(0, 255, (12, 80, 3)).astype(np.uint8)
    wall = np.kron(squares, np.ones((30, 16, 1), np.uint8))
    return np.ascontiguousarray(np.roll(wall, -8 * index, axis=1)[:, :640])


class Watcher:
    """Paced pictures through vision and connector.

    Args:
        bundle: of both.
        lane: that they work in.
        fps: pictures a second.
        threads: of the encoder.
    """

    def __init__(self, bundle: Bundle, lane: MeasuredLane, fps: float, threads: int) -> None:
        self._lane, self._fps = lane, fps
        vision = _engine(bundle, "vision", threads)
        self._encoder = VisionEncoder(vision, bundle.manifest.input, lane)
        self._connector = EngineConnector(_engine(bundle, "connector", threads))
        self._pictures = [moving_picture(index) for index in range(160)]
        for index in range(WARM_UP_FRAMES):
            self._look(index, 0.0, Watched())

    def watch(self, frames: int) -> Watched:
        """So many pictures at their times; the newest one where several are due."""
        watched, last = Watched(), -1
        begun_s = time.perf_counter()
        while last < frames - 1:
            due = last + 1
            time.sleep(max(0.0, begun_s + due / self._fps - time.perf_counter()))
            newest = min(int((time.perf_counter() - begun_s) * self._fps), frames - 1)
            index = max(due, newest)
            watched.drops += index - due
            self._look(index + WARM_UP_FRAMES, begun_s + index / self._fps, watched)
            last = index
        return watched

    def _look(self, index: int, due_s: float, watched: Watched) -> None:
        time_s = index / self._fps
        features = self._encoder.encode(
            Frame(index, time_s, self._pictures[index % len(self._pictures)])
        )
        self._connector.step(features, GateDecision(time_s))
        watched.late_s.append(time.perf_counter() - due_s)
        watched.fresh += features.is_fresh


def _engine(bundle: Bundle, role: str, threads: int) -> Engine:
    variant = bundle.variant(role)
    return backend_for("cpu", threads=threads).open(bundle.path(variant.file), variant)


def rate_alone(decoder: Bundle, threads: int, seconds: float) -> float:
    """Tokens a second of the talker, prompts and evictions included, with nobody watching."""
    with Talker(decoder, MeasuredLane(Lane()), threads) as talker:
        time.sleep(1.0)
        before, begun_s = talker.tokens, time.perf_counter()
        time.sleep(seconds)
        return (talker.tokens - before) / (time.perf_counter() - begun_s)


def trial(decoder: Bundle, seeing: Bundle, kind: str, fps: float, frames: int) -> dict[str, Any]:
    """A row of the table, and under `figures` what is asked of it."""
    make, threads = LANES[kind]
    lane = MeasuredLane(make())
    watcher = Watcher(seeing, lane, fps, threads)
    with Talker(decoder, lane, threads) as talker:
        time.sleep(1.0)
        for kept in (*lane.waits_s.values(), *lane.turns_s.values()):
            kept.clear()
        busy, before = BusyTime(), talker.tokens
        watched = watcher.watch(frames)
        rate, share = (talker.tokens - before) / busy.wall_s(), busy.cpu_share()
    waits_ms = 1e3 * np.array(lane.waits_s["frame"])
    assert watched.fresh == len(waits_ms), "a picture was taken for a still one"
    turns_ms = {what: 1e3 * np.array(turns) for what, turns in lane.turns_s.items()}
    speak_ms = {what: turns_ms[what] for what in ("step", "chunk", "eviction") if what in turns_ms}
    late_ms = 1e3 * np.array(watched.late_s)
    return {
        "way": kind,
        "threads": threads,
        "fps": fps,
        "frames": watched.fresh,
        "drops": watched.drops,
        "wait ms p50": float(np.quantile(waits_ms, 0.5)),
        "p99": float(np.quantile(waits_ms, 0.99)),
        "max": float(waits_ms.max()),
        "encode ms": float(np.median(turns_ms["frame"])),
        "due to embeds p50": float(np.quantile(late_ms, 0.5)),
        "p99 ": float(np.quantile(late_ms, 0.99)),
        **{f"{what} ms": float(np.median(turns)) for what, turns in speak_ms.items()},
        "longest turn": float(max(turns.max() for turns in speak_ms.values())),
        "tok/s": rate,
        "CPU share": share,
    }


def measured(decoder: Bundle, seconds: float) -> tuple[list[dict[str, Any]], list[Figure]]:
    """All trials, and the figures that are asked for."""
    small = open_bundle(small_tower_bundle(), check="manifest")
    alone = {threads: [rate_alone(decoder, threads, seconds / 3)] for threads in (1, 2)}
    rows = [trial(decoder, small, kind, 10.0, round(10 * seconds)) for kind in LANES]
    rows += [
        trial(decoder, decoder, kind, 30.0, round(30 * seconds))
        for kind in ("lane", "split", "no lane")
    ]
    for threads, rates in alone.items():
        rates.append(rate_alone(decoder, threads, seconds / 3))
    figures = [
        Figure(f"tokens a second alone, {threads} threads", float(np.mean(rates)), "tokens/s", 2)
        for threads, rates in alone.items()
    ]
    for row in rows:
        rate = float(np.mean(alone[row["threads"]]))
        name, is_lane = f"{row['way']} at {row['fps']:g} frames/s", row["way"] == "lane"
        is_paced, frames = row["fps"] == 10, row["frames"]
        bound = row["longest turn"] + WAIT_OVER_MS if is_lane and is_paced else None
        share = SPEAK_SHARE_MUST if not is_paced else None
        figures += [
            Figure(f"frame wait p99, {name}", row["p99"], "ms", frames, at_most=bound),
            Figure(f"drops, {name}", row["drops"], "1", frames),
            Figure(f"speed of speech, {name}", row["tok/s"] / rate, "1", frames, at_least=share),
        ]  # fmt: skip
    return rows, figures


def main() -> None:
    """Run, print; leave with 1 where a figure is not as it must be."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--bundle", type=Path, help="int4 bundle; a random one otherwise")
    parser.add_argument("--quick", action="store_true", help="6 seconds a trial instead of 30")
    chosen = parser.parse_args()
    decoder = open_bundle(chosen.bundle or random_bundle(), check="manifest")
    rows, figures = measured(decoder, 6.0 if chosen.quick else 30.0)
    share = float(np.mean([row["CPU share"] for row in rows]))
    passed = report("benchmarks/lane_wait.py", rows, figures, bundle_sha256=decoder.sha256,
                    threads=2, cpu_share=share)  # fmt: skip
    sys.exit(not passed)


if __name__ == "__main__":
    main()
