"""Whether reading frames costs as much after 10,000 frames as at the start, and takes no memory.

    python benchmarks/endless_stream.py            10,000 frames, PyTorch's first 1,000 beside them
    python benchmarks/endless_stream.py --quick    600 and 60

Recorded frames (assets/sample.mp4, through the bundle's own vision and connector) are read by a
session with the context `continuous` into 512 slots, the oldest evicted. Processes beside read the
same ones with eager PyTorch into caches that grow, in turn, until 1,000 frames or ten minutes each:
in bfloat16, and in float32, which is the faster one for so few tokens at a time. A second session
stops at frame 500 and waits: its frames 500 to 1,000 are timed in turn with the last 500 of the
first one, so that a busy moment of the machine hits both alike. (Memory counts both sessions.) The
curve goes to docs/endless-stream.json, drawn by `docs/endless_stream.py`.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from bounded_context import POLICY, Engines, language_model, opened_engines
from figures import BusyTime, Figure, report
from measured_models import random_bundle, random_checkpoint
from recorded_stream import Recording, recording_of
from tokenizers import Tokenizer
from workers import Worker, rss_bytes

from edgestream.runtime.bundle import Bundle, open_bundle
from edgestream.runtime.context_continuous import ContinuousContext, ContinuousRules
from edgestream.runtime.decoder import Decoding
from edgestream.runtime.encoder import PixelEncoder
from edgestream.runtime.records import Record
from edgestream.runtime.session import LanguageSession
from edgestream.runtime.stream_prompt import StreamText
from edgestream.runtime.values import Frame, Observed

HERE = Path(__file__).parent
CURVE = HERE.parent / "docs" / "endless-stream.json"
CAPACITY = 512
STRETCH_FRAMES = 25
"""Of each stream before it is the other one's turn; holds about four evictions."""
RATIO_MUST, RSS_RATIO_MUST = 1.05, 1.01
TORCH_MOST_S = 600.0
OURS, DTYPES = "EdgeStream int4", ("bfloat16", "float32")


@dataclass(frozen=True, slots=True)
class Length:
    """How much is run.

    Attributes:
        frames: of ours.
        torch_frames: of PyTorch's.
        early: first frame that is timed against the last ones.
        compared: how many of each.
    """

    frames: int = 10_000
    torch_frames: int = 1000
    early: int = 500
    compared: int = 500


QUICK = Length(frames=600, torch_frames=60, early=50, compared=100)


@dataclass(slots=True)
class Curve:
    """Seconds of each frame, in order, and memory (frames read, bytes) now and then."""

    frame_s: list[float] = field(default_factory=list)
    rss: list[tuple[int, int]] = field(default_factory=list)
    cpu_shares: list[float] = field(default_factory=list)

    def goes_on(self, length: Length) -> bool:
        """Whether a peer shall read more."""
        return len(self.frame_s) < length.torch_frames and sum(self.frame_s) < TORCH_MOST_S

    def points(self, step: int = 50) -> dict[str, list[float]]:
        """Medians over `step` frames, milliseconds, and memory in MB."""
        starts = range(0, len(self.frame_s) - step + 1, step)
        return {
            "frame": [start + step // 2 for start in starts],
            "ms": [
                round(1e3 * statistics.median(self.frame_s[start : start + step]), 3)
                for start in starts
            ],
            "rss_frame": [count for count, _ in self.rss],
            "rss_mb": [round(n_bytes / 1e6, 1) for _, n_bytes in self.rss],
        }


class OurStream:
    """Recorded frames into a session with the context `continuous`.

    Args:
        bundle: whose decoder reads; `engines` are opened once and shared.
        recording: what it reads.
    """

    def __init__(self, bundle: Bundle, recording: Recording, engines: Engines) -> None:
        model = language_model(bundle, CAPACITY, engines=engines)
        tokenizer = Tokenizer.from_file(str(bundle.path("tokenizer.json")))
        layout = bundle.manifest.layout()
        text = StreamText(
            layout, lambda words: tokenizer.encode(words, add_special_tokens=False).ids
        )
        context = ContinuousContext(model, layout, text, ContinuousRules(POLICY))
        self._session = LanguageSession(model, context, layout, tokenizer.decode, Decoding())
        self._recording = recording
        blank = Frame(0, 0.0, np.zeros((8, 8, 3), np.uint8))
        self._features = replace(PixelEncoder().encode(blank), is_fresh=True)
        self.count = self.moves = 0

    def frames(self, count: int) -> list[float]:
        """Read so many frames more; seconds of each, evictions included."""
        taken_s = []
        arena = self._session.model.arena
        for _ in range(count):
            features = replace(self._features, time_s=self.count / 2)
            observed = Observed(features, self._recording.frame(self.count))
            before, begun_s = arena.length, time.perf_counter()
            for _said in self._session.take(observed, lambda: False, _refused):
                raise AssertionError("nobody asked")
            taken_s.append(time.perf_counter() - begun_s)
            self.count += 1
            self.moves += arena.length <= before
        return taken_s

    def add_to(self, curve: Curve, count: int) -> None:
        """Read so many more frames and write down what they took."""
        busy = BusyTime()
        curve.frame_s += self.frames(count)
        curve.cpu_shares.append(busy.cpu_share())
        curve.rss.append((self.count, rss_bytes()))


def _refused(record: Record) -> None:
    raise RuntimeError(f"the session left a frame out: {record.body}")


def side_by_side(
    stream: OurStream, peers: Mapping[str, Worker], file: Path, length: Length
) -> tuple[Curve, dict[str, Curve]]:
    """The first frames of all in turn, until every peer has had enough."""
    ours, theirs = Curve(), {name: Curve() for name in peers}
    for worker in peers.values():
        worker.ask("open", recording=str(file))
    while going := [name for name, curve in theirs.items() if curve.goes_on(length)]:
        for name in going:
            said, curve = peers[name].ask("frames", count=STRETCH_FRAMES), theirs[name]
            curve.frame_s += said["frame_s"]
            curve.cpu_shares.append(said["cpu_share"])
            curve.rss.append((len(curve.frame_s), said["rss_bytes"]))
        stream.add_to(ours, STRETCH_FRAMES)
    return ours, theirs


def interleaved(
    early: OurStream, late: OurStream, ours: Curve, length: Length
) -> tuple[list[float], list[float]]:
    """Mean seconds a frame of each stretch of the young and of the old stream, in turn."""
    before: list[float] = []
    after: list[float] = []
    for number in range(length.compared // STRETCH_FRAMES):
        pairs = [(early, before), (late, after)]
        for stream, taken in pairs if number % 2 == 0 else reversed(pairs):
            stretch = stream.frames(STRETCH_FRAMES)
            # The first one finds its way back into the processor's caches.
            taken.append(statistics.fmean(stretch[1:]))
            if stream is late:
                ours.frame_s += stretch
        ours.rss.append((late.count, rss_bytes()))
    return before, after


def measured(
    bundle: Bundle, checkpoint: Path, length: Length
) -> tuple[list[dict[str, Any]], list[Figure], dict[str, Curve]]:
    """Rows, figures, and the curve of each."""
    recording, engines = recording_of(bundle), opened_engines(bundle)
    # One stream stops early and waits: it is the snapshot that the other one is compared with.
    early, late = (OurStream(bundle, recording, engines) for _ in range(2))
    early.frames(length.early)
    worker = [sys.executable, str(HERE / "decode_workers.py"), "torch", str(checkpoint)]
    with ExitStack() as stack:
        peers = {
            f"PyTorch {dtype}": stack.enter_context(Worker([*worker, dtype])) for dtype in DTYPES
        }
        ours, theirs = side_by_side(late, peers, recording.file, length)
    while late.count < length.frames - length.compared:
        late.add_to(ours, STRETCH_FRAMES)
    before, after = interleaved(early, late, ours, length)
    settled = next(size for count, size in ours.rss if count >= length.early + length.compared)
    tail_s = statistics.fmean(ours.frame_s[-length.compared :])
    ratios = [after_s / before_s for before_s, after_s in zip(before, after, strict=True)]
    figures = [
        Figure("late over early frame time", statistics.median(ratios), "1", len(ratios),
               at_most=RATIO_MUST),
        Figure("late over early frame time, of the sums", sum(after) / sum(before), "1",
               len(ratios)),
        Figure("late over early RSS", ours.rss[-1][1] / settled, "1", len(ours.rss),
               at_most=RSS_RATIO_MUST),
        Figure("mean of the last frames", 1e3 * tail_s, "ms", length.compared),
        Figure("frames that made room", late.moves, "1", length.frames),
        *(
            Figure(f"{name} at its last frames against ours at our last",
                   statistics.fmean(curve.frame_s[-STRETCH_FRAMES:]) / tail_s, "1",
                   len(curve.frame_s))
            for name, curve in theirs.items()
        ),
    ]  # fmt: skip
    curves = {OURS: ours, **theirs}
    shared = min(len(curve.frame_s) for curve in curves.values())
    return [_row(name, curve, shared) for name, curve in curves.items()], figures, curves


def _row(name: str, curve: Curve, shared: int) -> dict[str, Any]:
    some = max(shared // 10, 1)
    return {
        "decoder": name,
        "frames": len(curve.frame_s),
        "ms/frame at first": round(1e3 * statistics.fmean(curve.frame_s[:some]), 2),
        f"at {shared}": round(1e3 * statistics.fmean(curve.frame_s[shared - some : shared]), 2),
        "at last": round(1e3 * statistics.fmean(curve.frame_s[-some:]), 2),
        "RSS MB first": round(curve.rss[0][1] / 1e6, 1),
        "last": round(curve.rss[-1][1] / 1e6, 1),
        "CPU share": round(statistics.median(curve.cpu_shares), 2),
    }


def main() -> None:
    """Run, print, keep the curve; leave with 1 where a figure is not as it must be."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--bundle", type=Path, help="int4 bundle; a random one otherwise")
    parser.add_argument("--checkpoint", type=Path, help="that the bundle was made of")
    parser.add_argument("--quick", action="store_true", help="600 frames; keeps no curve")
    parser.add_argument("--curve", type=Path, help="where the curve goes instead")
    chosen = parser.parse_args()
    bundle = open_bundle(chosen.bundle or random_bundle(), check="manifest")
    checkpoint = chosen.checkpoint or random_checkpoint()
    length = QUICK if chosen.quick else Length()
    rows, figures, curves = measured(bundle, checkpoint, length)
    curve = chosen.curve or (None if chosen.quick else CURVE)
    if curve is not None:
        points = {name: one.points() for name, one in curves.items()}
        curve.write_text(json.dumps({"capacity": CAPACITY, "curves": points}) + "\n")
    passed = report(
        "benchmarks/endless_stream.py", rows, figures,
        bundle_sha256=bundle.sha256, threads=1,
        cpu_share=statistics.median(curves[OURS].cpu_shares),
    )  # fmt: skip
    sys.exit(not passed)


if __name__ == "__main__":
    main()
