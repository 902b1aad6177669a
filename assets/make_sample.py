"""Render and encode the sample clip, with the truth about it beside it (`make sample`).

The clip is `test:sample`, seed 0, 640x360 at 24 frames/s. Nothing in it is from anybody else.
"""

from __future__ import annotations

import json
from pathlib import Path

import av

from edgestream.runtime.scripted import render, script_named, truth

FPS, WIDTH_PX, HEIGHT_PX = 24, 640, 360
SAMPLED_FPS = 4.0
FOLDER = Path(__file__).parent


def main() -> None:
    """Write sample.mp4 and sample.truth.json into this folder."""
    script = script_named("sample")
    with av.open(str(FOLDER / "sample.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=FPS, options={"preset": "slow", "crf": "26"})
        stream.width, stream.height, stream.pix_fmt = WIDTH_PX, HEIGHT_PX, "yuv420p"
        for _, pixels in render(script, FPS, 0, (HEIGHT_PX, WIDTH_PX)):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode(None))
    events = [
        {
            "event": one.event,
            "from_s": one.from_s,
            "to_s": one.to_s,
            "attributes": dict(one.attributes),
        }
        for one in truth(script, SAMPLED_FPS, 0)
    ]
    text = json.dumps({"sampled_fps": SAMPLED_FPS, "events": events}, indent=2)
    (FOLDER / "sample.truth.json").write_text(text + "\n")


if __name__ == "__main__":
    main()
