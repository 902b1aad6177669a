"""What a still scene costs: noise of a sensor and flicker of lamps, and nothing that happens.

    python benchmarks/still_scene.py            10 minutes of stream, 4 frames/s, 640x360
    python benchmarks/still_scene.py --quick    one minute

The scene is the first picture of assets/sample.mp4 behind a sensor: fresh noise for every pixel of
every frame, a lamp that beats slowly against the shutter, lines brighter than others. The bundle
watches it as `run` would (recent, learned), with the cascade, without it (every frame is encoded),
and as a loop that describes a frame each second, which is what a plain caption service does.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import numpy as np
from figures import BusyTime, Figure, report

from edgestream.edge.gate_rules import watching_gate
from edgestream.edge.settings_watching import GateSettings
from edgestream.runtime.assembly import attached
from edgestream.runtime.bundle import open_bundle
from edgestream.runtime.engine_pool import EngineRules
from edgestream.runtime.inbox import Inbox
from edgestream.runtime.metrics import Metrics
from edgestream.runtime.outlet import Outlet
from edgestream.runtime.pipeline import run
from edgestream.runtime.records import Record, StampedRecord
from edgestream.runtime.router import TurnRouter
from edgestream.runtime.speaking import MemoryRules, SpeakingRules
from edgestream.runtime.stages import Stages
from edgestream.runtime.values import Frame, UInt8

ROOT = Path(__file__).parents[1]
WIDTH_PX, HEIGHT_PX, FPS = 640, 360, 4.0
NOISE_LEVELS, FLICKER_SHARE, BEAT_HZ, LINE_LEVELS = 4.0, 0.015, 1.3, 0.8
HEARTBEAT_S = 2.0
OPENING_S = 1.0
"""Within this of the first frame something has happened: a picture is there. It is told once."""


def first_picture() -> UInt8:
    """(360, 640, 3) uint8 RGB: the scene."""
    with av.open(str(ROOT / "assets" / "sample.mp4")) as container:
        picture = next(container.decode(video=0))
        sized = picture.reformat(width=WIDTH_PX, height=HEIGHT_PX, format="rgb24")
    return np.asarray(sized.to_ndarray(), np.uint8)


class StillScene:
    """A still scene behind a sensor; see `Source`. Every run of it gives the same frames."""

    name, is_live = "still", False

    def __init__(self, seconds: float) -> None:
        self.duration_s = seconds
        self._scene, self._now_s = first_picture().astype(np.float32), 0.0

    def now_s(self) -> float:
        """Stream time of the last frame, seconds."""
        return self._now_s

    def frames(self, tell: Callable[[Record], None]) -> Iterator[Frame | None]:
        """Noise, flicker and lines over one and the same picture."""
        random = np.random.default_rng(0)
        # Fields that are rolled, since making noise anew would cost more than watching it.
        fields = random.normal(0, NOISE_LEVELS, (16, HEIGHT_PX, WIDTH_PX, 3)).astype(np.float32)
        for index in range(round(self.duration_s * FPS)):
            self._now_s = index / FPS
            turn = [int(at) for at in random.integers(0, (HEIGHT_PX, WIDTH_PX))]
            noise = np.roll(fields[random.integers(16)], turn, axis=(0, 1))
            lamp = 1.0 + FLICKER_SHARE * np.sin(2 * np.pi * BEAT_HZ * self._now_s)
            lines = random.normal(0, LINE_LEVELS, (HEIGHT_PX, 1, 1)).astype(np.float32)
            pixels = np.clip(self._scene * np.float32(lamp) + noise + lines, 0, 255)
            yield Frame(index, self._now_s, pixels.astype(np.uint8))


class Counted:
    """A sink that counts records by type, those of the opening apart."""

    def __init__(self) -> None:
        self.counts: dict[str, int] = {}
        self.opening: list[str] = []
        self.stats: dict[str, Any] = {}

    def send(self, record: StampedRecord) -> None:
        """Count it; the last counters are kept."""
        kind = record.record.type
        if kind == "final" and record.record.body["about_s"][1] < OPENING_S:
            self.opening.append(record.record.body["text"])
            return
        self.counts[kind] = self.counts.get(kind, 0) + 1
        if kind == "stats":
            self.stats = dict(record.record.body)

    def close(self) -> None:
        """Nothing is held."""


@dataclass(frozen=True, slots=True)
class Watched:
    """What one way of watching cost.

    Attributes:
        cpu_s: CPU seconds of the stages: all of the process less making the frames.
        encoded, turns: calls of the encoder, and of the language model after the opening.
        opening: what was said of the first picture.
    """

    cpu_s: float
    encoded: int
    turns: int
    opening: tuple[str, ...]


def watched(bundle: Path, seconds: float, heartbeat_s: float, gate: str) -> Watched:
    """One run over the scene."""
    source, sink = StillScene(seconds), Counted()
    opened = open_bundle(bundle)
    engines = EngineRules(threads=1, heartbeat_s=heartbeat_s)
    speaking = SpeakingRules(context="recent", memory=MemoryRules())
    with ExitStack() as stack:
        model = stack.enter_context(attached(opened, engines, speaking))
        chosen = watching_gate(GateSettings(kind=gate), model.gate, opened.manifest.gate)
        stages = Stages(
            encoder=model.encoder,
            gate=chosen,
            router=TurnRouter(describes_events=True),
            metrics=Metrics(fps_target=FPS),
            connector=model.connector,
            memory=model.memory,
            session=model.session,
        )
        records = Outlet([sink], camera=source.name, clock=source.now_s)
        begun_s = time.process_time()
        run(source, stages, Inbox(source.now_s), records, in_threads=False)
        cpu_s = time.process_time() - begun_s
    stats = sink.stats
    turns = stats["turns"] - len(sink.opening)
    return Watched(cpu_s, stats["frames_encoded"], turns, tuple(sink.opening))


def making_s(seconds: float) -> float:
    """CPU seconds that making the frames takes alone."""
    begun_s = time.process_time()
    for _ in StillScene(seconds).frames(lambda record: None):
        pass
    return time.process_time() - begun_s


def main() -> None:
    """Run and print; leave with 1 where a figure is not as it must be."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--bundle", type=Path, default=ROOT / "assets" / "reference")
    parser.add_argument("--quick", action="store_true", help="one minute")
    chosen = parser.parse_args()
    seconds, busy = (60.0 if chosen.quick else 600.0), BusyTime()
    making = making_s(seconds)
    ways = {
        "cascade": watched(chosen.bundle, seconds, HEARTBEAT_S, "learned"),
        "every frame encoded": watched(chosen.bundle, seconds, 0.0, "learned"),
        "caption loop": watched(chosen.bundle, seconds, 0.0, "every:1"),
    }
    rows = [
        {
            "way": name,
            "encoder calls": one.encoded,
            "LLM calls": one.turns,
            "of the first picture": " ".join(one.opening) or "nothing",
            "CPU share": (one.cpu_s - making) / seconds,
        }
        for name, one in ways.items()
    ]
    frames, on = round(seconds * FPS), ways["cascade"]
    figures = [
        Figure("llm_calls", on.turns, "1", frames, at_most=0),
        Figure("encoder_calls", on.encoded, "1", frames, at_most=int(seconds / HEARTBEAT_S) + 1),
        *[Figure(f"cpu_share: {row['way']}", row["CPU share"], "1", frames) for row in rows],
    ]
    passed = report(
        "benchmarks/still_scene.py", rows, figures,
        bundle_sha256=open_bundle(chosen.bundle, check="manifest").sha256,
        threads=1, cpu_share=busy.cpu_share(),
    )  # fmt: skip
    sys.exit(not passed)


if __name__ == "__main__":
    main()
