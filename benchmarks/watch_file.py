"""How fast a file is watched, next to decoding it alone and to FFmpeg's own scene filter.

    python benchmarks/watch_file.py                a minute of 720p30, three interleaved rounds
    python benchmarks/watch_file.py --hour         one hour of it: frames/s, RSS by quarter, profile

The clip is rendered and encoded once (H.264, 1280x720, 30 frames/s) and kept in .cache/; the hour
is that minute sixty times, its packets copied with their times moved on.
"""

from __future__ import annotations

import argparse
import cProfile
import json
import os
import pstats
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import av
import numpy as np

from edgestream.runtime.encoder import PixelEncoder
from edgestream.runtime.gate import gate_from_name
from edgestream.runtime.inbox import Inbox
from edgestream.runtime.metrics import Metrics, rss_bytes
from edgestream.runtime.outlet import Outlet
from edgestream.runtime.pipeline import run
from edgestream.runtime.records import StampedRecord
from edgestream.runtime.router import TurnRouter
from edgestream.runtime.sources import SourceSettings, open_source
from edgestream.runtime.stages import Stages

CACHE = Path(__file__).parents[1] / ".cache"
WIDTH_PX, HEIGHT_PX, CLIP_FPS, CLIP_S = 1280, 720, 30, 60
SAMPLED_FPS = 4.0


def drawn_frames() -> Iterator[np.ndarray]:
    """A minute of a camera that turns over a textured wall, with things that move and lights."""
    random = np.random.default_rng(0)
    coarse = random.integers(30, 220, (60, 110, 3)).astype(np.float32)
    wall = np.kron(coarse, np.ones((16, 16, 1), np.float32)) + random.normal(0, 12, (960, 1760, 3))
    wall = np.clip(wall, 0, 255).astype(np.uint8)
    thing = random.integers(0, 255, (120, 90, 3)).astype(np.uint8)
    for index in range(CLIP_S * CLIP_FPS):
        seconds = index / CLIP_FPS
        left = int(200 + 180 * np.sin(seconds / 4)) if seconds % 20 < 10 else 200
        picture = wall[100 : 100 + HEIGHT_PX, left : left + WIDTH_PX].copy()
        at = int(seconds * 130) % (WIDTH_PX - 90)
        picture[300:420, at : at + 90] = thing
        if seconds % 15 > 12:
            picture //= 3
        yield picture


def clip_of_a_minute() -> Path:
    """The encoded minute; made on the first call, about half a minute of work."""
    path = CACHE / "minute-720p30.mp4"
    if not path.exists():
        CACHE.mkdir(exist_ok=True)
        part = path.with_suffix(".part.mp4")
        with av.open(str(part), "w") as container:
            stream = container.add_stream("libx264", rate=CLIP_FPS, options={"preset": "veryfast"})
            stream.width, stream.height, stream.pix_fmt = WIDTH_PX, HEIGHT_PX, "yuv420p"
            for picture in drawn_frames():
                container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
            container.mux(stream.encode(None))
        part.rename(path)
    return path


def clip_of_an_hour() -> Path:
    """The minute sixty times, without encoding it again."""
    minute, path = clip_of_a_minute(), CACHE / "hour-720p30.mp4"
    if not path.exists():
        part = path.with_suffix(".part.mp4")
        with av.open(str(part), "w") as out:
            stream = None
            for repeat in range(60):
                with av.open(str(minute)) as container:
                    source = container.streams.video[0]
                    stream = stream or out.add_stream_from_template(source)
                    shift = round(repeat * CLIP_S / source.time_base)
                    for packet in container.demux(source):
                        if packet.dts is None:
                            continue
                        packet.pts, packet.dts = packet.pts + shift, packet.dts + shift
                        packet.stream = stream
                        out.mux(packet)
        part.rename(path)
    return path


class NoSink:
    """Counts records and, every minute of stream, the memory of this process."""

    def __init__(self) -> None:
        self.events = 0
        self.rss_by_minute: list[int] = []

    def send(self, record: StampedRecord) -> None:
        self.events += record.record.type == "opened"
        if record.record.type == "stats":
            self.rss_by_minute.append(rss_bytes())

    def close(self) -> None:
        return


def watch_with_edgestream(path: Path) -> tuple[NoSink, Metrics]:
    """The whole pipeline as `edgestream run` puts it together without a model."""
    source = open_source(str(path), SourceSettings(fps=SAMPLED_FPS))
    metrics, sink = Metrics(fps_target=SAMPLED_FPS), NoSink()
    stages = Stages(
        encoder=PixelEncoder(),
        gate=gate_from_name("change"),
        router=TurnRouter(describes_events=False),
        metrics=metrics,
    )
    run(
        source,
        stages,
        Inbox(source.now_s),
        Outlet([sink], camera=source.name, clock=source.now_s),
    )
    return sink, metrics


def decode_only(path: Path) -> None:
    """The floor: PyAV decodes every picture and nobody looks at it."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        for _ in container.decode(stream):
            pass


def ffmpeg_scene_filter(path: Path) -> None:
    """FFmpeg's own cut detector at the same sampling: fps, select='gt(scene,0.3)'."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        graph = av.filter.Graph()
        nodes = [
            graph.add_buffer(template=stream),
            graph.add("fps", str(SAMPLED_FPS)),
            graph.add("select", "gt(scene,0.3)"),
            graph.add("buffersink"),
        ]
        graph.link_nodes(*nodes).configure()
        for picture in container.decode(stream):
            graph.vpush(picture)
            while True:
                try:
                    graph.vpull()
                except (av.BlockingIOError, av.EOFError):
                    break


def timed(work: Callable[[Path], object], path: Path) -> tuple[float, float]:
    """(wall seconds, CPU seconds per wall second)."""
    wall, cpu = time.perf_counter(), time.process_time()
    work(path)
    wall = time.perf_counter() - wall
    return wall, (time.process_time() - cpu) / wall


def compare(rounds: int) -> dict[str, dict[str, float]]:
    """Each way in turn, so that a busy moment hits all; medians over the rounds."""
    ways = {
        "edgestream run": watch_with_edgestream,
        "PyAV decode alone": decode_only,
        "FFmpeg scene filter": ffmpeg_scene_filter,
    }
    path, frames = clip_of_a_minute(), CLIP_S * CLIP_FPS
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, work in ways.items():
            times[name].append(timed(work, path))
    return {
        name: {
            "frames_per_s": round(frames / statistics.median(wall for wall, _ in taken), 1),
            "cpu_share": round(statistics.median(share for _, share in taken), 2),
        }
        for name, taken in times.items()
    }


def watch_an_hour() -> dict[str, object]:
    """One hour at full speed: speed, memory by quarter after warm-up, stage times, profile."""
    path = clip_of_an_hour()
    profile = cProfile.Profile()
    wall, cpu = time.perf_counter(), time.process_time()
    profile.enable()
    sink, metrics = watch_with_edgestream(path)
    profile.disable()
    wall_s = time.perf_counter() - wall
    rss = sink.rss_by_minute[5:]  # the first five minutes fill the windows
    quarter = len(rss) // 4
    first, last = statistics.median(rss[:quarter]), statistics.median(rss[-quarter:])
    pstats.Stats(profile).sort_stats("tottime").print_stats(12)
    return {
        "frames_per_s": round(3600 * CLIP_FPS / wall_s, 1),
        "times_realtime": round(3600 / wall_s, 1),
        "cpu_share": round((time.process_time() - cpu) / wall_s, 2),
        "events": sink.events,
        "rss_first_quarter_mb": round(first / 1e6, 2),
        "rss_last_quarter_mb": round(last / 1e6, 2),
        "rss_last_over_first": round(last / first, 4),
        "stage_ms": dict(metrics.stats().body["stage_ms"]),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--hour", action="store_true", help="one hour instead of the comparison")
    parser.add_argument("--rounds", type=int, default=3)
    chosen = parser.parse_args()
    if chosen.hour:
        print(json.dumps(watch_an_hour()))
        return
    result = compare(chosen.rounds)
    ours = result["edgestream run"]["frames_per_s"]
    for name, one in result.items():
        ratio = ours / one["frames_per_s"]
        print(
            f"{name:22s} {one['frames_per_s']:8.1f} frames/s   CPU share {one['cpu_share']:.2f}"
            f"   edgestream is {ratio:.2f}x"
        )
    print(json.dumps({"clip": "1280x720, 30 frames/s, H.264", "cores": os.cpu_count(), **result}))


if __name__ == "__main__":
    main()
