"""Whether the service stays up and stays the same: cameras for half an hour, or for a day.

    python benchmarks/soak.py                    4 RTSP cameras, 640x360, 10 frames/s, 30 minutes
    python benchmarks/soak.py --minutes 1440     the same for 24 hours

`edgestream serve` runs as its users run it, in a process of its own, with a page's event feed open.
Every ten seconds one line goes to --log: resident memory, threads, descriptors, CPU, and what the
service says of each camera. The cameras (soak_cameras.py) are a third process on the same machine.
What cameras remember and what can be replayed is bounded so low that it is full after five minutes:
what grows after that is a leak. Resident memory is the median of a minute, of the sixth and of
the last; of threads and descriptors the fewest of each minute count.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from figures import BusyTime, Figure, report

from edgestream.runtime.bundle import open_bundle

ROOT = Path(__file__).parents[1]
DECODED_MUST, GATED_MUST, RSS_MUST = 9.5, 4.0, 1.01
EVERY_S, WARM_UP_S = 10.0, 300.0
BOUNDED = ["--set", "service.budget_mb=16", "--set", "service.replay_mb=0.5"]
BOUNDED += ["--set", "memory.snapshot_every_s=60"]  # the first save takes its memory once
RATE_WITHIN = 0.995
"""Of a rate that must be kept: a grid of frames may lose its last one to where the count began."""


def read(url: str) -> bytes:
    """What the service answers."""
    with urllib.request.urlopen(url, timeout=30) as answer:
        return bytes(answer.read())


@contextmanager
def cameras(count: int, fps: float) -> Iterator[list[str]]:
    """Addresses of cameras in a process of their own."""
    command = [sys.executable, str(Path(__file__).with_name("soak_cameras.py"))]
    with subprocess.Popen(
        [*command, str(count), str(fps)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None and process.stdout is not None
        yield json.loads(process.stdout.readline())
        process.stdin.close()


@contextmanager
def service(bundle: Path, addresses: list[str], log: Path) -> Iterator[tuple[str, int]]:
    """URL and process id of a service that watches them, ended as a service manager ends it."""
    program = "import sys; from edgestream.edge.cli import main; sys.exit(main(sys.argv[1:]))"
    named = [f"cam{at}={address}" for at, address in enumerate(addresses)]
    command = [sys.executable, "-c", program, "serve", *named, "--bundle", str(bundle)]
    with tempfile.TemporaryDirectory() as state, log.with_suffix(".err").open("w") as err:
        process = subprocess.Popen(
            [*command, "--state", state, "--port", "0", *BOUNDED],
            stdout=subprocess.PIPE, stderr=err, text=True,
        )  # fmt: skip
        assert process.stdout is not None
        try:
            found = None
            while found is None:
                line = process.stdout.readline()
                if not line:
                    raise RuntimeError(f"the service ended: {log.with_suffix('.err').read_text()}")
                found = re.search(r"http://\S+", line)
            yield found[0].rstrip("/"), process.pid
        finally:
            process.terminate()
            process.wait(60)


@dataclass(slots=True)
class Sample:
    """The service at one moment.

    Attributes:
        at_s: since the soak began.
        rss, threads, descriptors, cpu_s: of its process.
        cameras: name → counters.
    """

    at_s: float
    rss: int
    threads: int
    descriptors: int
    cpu_s: float
    cameras: dict[str, dict[str, float]] = field(default_factory=dict)


def sampled(url: str, pid: int, began_s: float) -> Sample:
    """Look at the process and at what it says."""
    status = Path(f"/proc/{pid}/status").read_text()
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    ticks = os.sysconf("SC_CLK_TCK")
    text = read(f"{url}/metrics").decode()
    found: dict[str, dict[str, float]] = {}
    for name, labels, value in re.findall(r"^edgestream_(\w+)\{([^}]*)\} (\S+)$", text, re.M):
        told = dict(re.findall(r'(\w+)="([^"]*)"', labels))
        if "camera" in told:
            rest = [told[key] for key in sorted(told) if key != "camera"]
            found.setdefault(told["camera"], {})[".".join([name, *rest])] = float(value)
    return Sample(
        time.monotonic() - began_s,
        1024 * int(re.findall(r"VmRSS:\s+(\d+)", status)[0]),
        int(re.findall(r"Threads:\s+(\d+)", status)[0]),
        len(os.listdir(f"/proc/{pid}/fd")),
        (int(fields[11]) + int(fields[12])) / ticks,
        found,
    )


def listened(url: str, heard: list[int], left: threading.Event) -> None:
    """Read the event feed as a page does."""
    with suppress(OSError), urllib.request.urlopen(f"{url}/v1/events", timeout=60) as feed:
        for line in feed:
            heard[0] += line.startswith(b"data:")
            if left.is_set():
                return


def watched(url: str, pid: int, minutes: float, log: Path) -> tuple[list[Sample], int]:
    """Samples of the whole time, each written when it is taken, and how many records were heard."""
    began_s, samples, heard, left = time.monotonic(), [], [0], threading.Event()
    threading.Thread(target=listened, args=(url, heard, left), daemon=True).start()
    with log.open("w") as file:
        while time.monotonic() - began_s < minutes * 60 + 1:
            one = sampled(url, pid, began_s)
            samples.append(one)
            line = {name: getattr(one, name) for name in Sample.__slots__}
            file.write(json.dumps({**line, "heard": heard[0]}) + "\n")
            file.flush()
            if len(samples) % 6 == 1:
                print(told(one), file=sys.stderr)
            time.sleep(max(0.0, len(samples) * EVERY_S - (time.monotonic() - began_s)))
    left.set()
    return samples, heard[0]


def told(one: Sample) -> str:
    """A sample as a person reads it."""
    return (
        f"{one.at_s / 60:6.1f} min  RSS {one.rss / 1e6:.1f} MB  {one.threads} threads  "
        f"{one.descriptors} descriptors"
    )


def rate(samples: list[Sample], camera: str, name: str) -> float:
    """Of a counter, a second, after the warm-up."""
    first, last = samples[0], samples[-1]
    grown = last.cameras[camera][name] - first.cameras[camera][name]
    return grown / (last.at_s - first.at_s)


def by_minute(samples: list[Sample]) -> list[list[Sample]]:
    """Samples of each whole minute, in order."""
    began_s = samples[0].at_s
    count = max(1, int((samples[-1].at_s - began_s) / 60))
    minutes: list[list[Sample]] = [[] for _ in range(count)]
    for one in samples:
        minutes[min(int((one.at_s - began_s) / 60), count - 1)].append(one)
    return minutes


def measured(samples: list[Sample], fps: float) -> tuple[list[dict[str, Any]], list[Figure]]:
    """Rows per camera, and what must hold after the warm-up."""
    warm_s = min(WARM_UP_S, samples[-1].at_s / 2)
    after = [one for one in samples if one.at_s >= warm_s]
    first, last = after[0], after[-1]
    rows: list[dict[str, Any]] = [
        {
            "camera": name,
            "decoded/s": rate(after, name, "frames_decoded_total"),
            "gated/s": rate(after, name, "frames_total"),
            "turns": last.cameras[name]["turns_total"],
            "frame wait p50 ms": 1e3 * last.cameras[name]["stage_seconds.0.5.wait"],
            "frame wait p99 ms": 1e3 * last.cameras[name]["stage_seconds.0.99.wait"],
            "frames dropped": last.cameras[name].get("dropped_total.frames", 0.0),
        }
        for name in sorted(last.cameras)
    ]
    seconds, n = round(last.at_s - first.at_s), len(after)
    gated_must = min(GATED_MUST, fps) * RATE_WITHIN
    minutes = by_minute(after)
    rss = [statistics.median(one.rss for one in minute) for minute in (minutes[0], minutes[-1])]
    # A file that is being written, or a request that is being answered, is open for a moment.
    spans = {
        name: {min(getattr(one, name) for one in minute) for minute in minutes}
        for name in ("threads", "descriptors")
    }
    return rows, [
        Figure("decoded_fps", min(row["decoded/s"] for row in rows), "1/s", seconds,
               at_least=DECODED_MUST / 10 * fps),
        Figure("gated_fps", min(row["gated/s"] for row in rows), "1/s", seconds,
               at_least=gated_must),
        Figure("rss_ratio", rss[1] / rss[0], "1", n, at_most=RSS_MUST),
        Figure("rss_bytes", last.rss, "bytes", n),
        *[Figure(f"{name}_range", max(span) - min(span), "1", n, at_most=0)
          for name, span in spans.items()],
        Figure("frame_wait_p99_ms", max(row["frame wait p99 ms"] for row in rows), "ms", seconds),
        Figure("frames_dropped", sum(row["frames dropped"] for row in rows), "1", seconds),
        Figure("cpu_cores", (last.cpu_s - first.cpu_s) / (last.at_s - first.at_s), "1", n),
    ]  # fmt: skip


def main() -> None:
    """Soak and print; leave with 1 where a figure is not as it must be."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--bundle", type=Path, default=ROOT / "assets" / "reference")
    parser.add_argument("--cameras", type=int, default=4, help="4 where not given")
    parser.add_argument("--fps", type=float, default=10.0, help="of each camera; 10")
    parser.add_argument("--minutes", type=float, default=30.0, help="30; a day is 1440")
    parser.add_argument("--log", type=Path, default=ROOT / "runs" / "soak.jsonl")
    chosen = parser.parse_args()
    chosen.log.parent.mkdir(parents=True, exist_ok=True)
    busy = BusyTime()
    with (
        cameras(chosen.cameras, chosen.fps) as addresses,
        service(chosen.bundle, addresses, chosen.log) as (url, pid),
    ):
        samples, heard = watched(url, pid, chosen.minutes, chosen.log)
    rows, figures = measured(samples, chosen.fps)
    figures.append(Figure("records_heard", heard, "1", len(samples)))
    passed = report(
        "benchmarks/soak.py", rows, figures,
        bundle_sha256=open_bundle(chosen.bundle, check="manifest").sha256,
        threads=os.cpu_count() or 1, cpu_share=busy.cpu_share(), log=chosen.log.name,
    )  # fmt: skip
    sys.exit(not passed)


if __name__ == "__main__":
    main()
