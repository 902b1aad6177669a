"""Cameras for the soak: RTSP servers that play the sample clip, in a process of their own.

python benchmarks/soak_cameras.py COUNT FPS     prints one JSON line of addresses, then serves
                                                until its stdin is closed
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import av
import numpy as np

from edgestream.runtime.values import UInt8
from edgestream.tests.rtsp_server import RtspServer, clip_from_pictures

SAMPLE = Path(__file__).parents[1] / "assets" / "sample.mp4"
WIDTH_PX, HEIGHT_PX = 640, 360


def pictures(fps: float) -> Iterator[UInt8]:
    """The sample clip at this rate, (360, 640, 3) uint8 RGB."""
    due_s = 0.0
    with av.open(str(SAMPLE)) as container:
        for picture in container.decode(video=0):
            if picture.time is None or picture.time + 1e-6 < due_s:
                continue
            due_s += 1 / fps
            sized = picture.reformat(width=WIDTH_PX, height=HEIGHT_PX, format="rgb24")
            yield np.asarray(sized.to_ndarray(), np.uint8)


def main() -> None:
    """Serve until stdin is closed."""
    count, fps = int(sys.argv[1]), float(sys.argv[2])
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        clip = clip_from_pictures(Path(folder) / "clip.mp4", pictures(fps), fps=fps)
        servers = [stack.enter_context(RtspServer(clip)) for _ in range(count)]
        print(json.dumps([server.url() for server in servers]), flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main()
