"""Recorded features: what vision and connector of a bundle make of a clip, kept in .cache/.

Replaying them lets a decoder read thousands of real frames without encoding any again.
"""

from __future__ import annotations

import hashlib
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer

from edgestream.runtime.bundle import Bundle
from edgestream.runtime.engine import Engine, backend_for
from edgestream.runtime.preprocess import fitted_picture, model_pixels
from edgestream.runtime.sources import SourceSettings, open_source
from edgestream.runtime.stream_prompt import StreamText
from edgestream.runtime.values import Float32

ROOT = Path(__file__).parents[1]
CACHE = ROOT / ".cache" / "benchmarks"
SAMPLE = ROOT / "assets" / "sample.mp4"


@dataclass(frozen=True, slots=True, eq=False)
class Recording:
    """A clip as the decoder reads it.

    Attributes:
        embeds: (frames, tokens, hidden) float32.
        prefix_ids: tokens before the first frame.
        join_ids: tokens before every other frame.
        file: a .npz of the three, for another process.
    """

    embeds: Float32
    prefix_ids: tuple[int, ...]
    join_ids: tuple[int, ...]
    file: Path

    def frame(self, index: int) -> Float32:
        """Embeds of a frame, (tokens, hidden); the clip is repeated without end."""
        found: Float32 = self.embeds[index % len(self.embeds)]
        return found


def recording_of(bundle: Bundle, clip: Path = SAMPLE, fps: float | None = None) -> Recording:
    """The clip, encoded on the first call.

    Args:
        bundle: with vision, connector and a decoder that reads frames.
        clip: any source that is a file.
        fps: sampled frames a second; None for those that the bundle was made for.

    Cost: one run of vision per sampled frame on the first call, then reading a file.
    """
    fps = fps or bundle.manifest.input.fps
    about = f"{bundle.sha256} {clip.name} {clip.stat().st_size} {fps}"
    file = CACHE / f"recorded-{hashlib.sha256(about.encode()).hexdigest()[:16]}.npz"
    if not file.is_file():
        print(f"encoding {clip.name} into .cache, once", file=sys.stderr)
        file.parent.mkdir(parents=True, exist_ok=True)
        prefix_ids, join_ids = _texts(bundle)
        part = file.with_suffix(".part.npz")
        np.savez(part, embeds=_encoded(bundle, clip, fps), prefix_ids=prefix_ids, join_ids=join_ids)
        part.rename(file)
    with np.load(file) as arrays:
        prefix, join = arrays["prefix_ids"].tolist(), arrays["join_ids"].tolist()
        return Recording(arrays["embeds"], tuple(prefix), tuple(join), file)


def _encoded(bundle: Bundle, clip: Path, fps: float) -> Float32:
    source = open_source(str(clip), SourceSettings(fps=fps))
    frame_input, found = bundle.manifest.input, []
    with _engine(bundle, "vision") as vision, _engine(bundle, "connector") as connector:
        for frame in source.frames(lambda record: None):
            if frame is None:
                continue
            pixels = model_pixels(fitted_picture(frame.pixels, frame_input), frame_input)
            tokens = vision.run({"pixels": pixels})["tokens"]
            found.append(connector.run({"tokens": tokens})["embeds"][0])
    return np.stack(found).astype(np.float32)


def _engine(bundle: Bundle, role: str) -> Engine:
    variant = bundle.variant(role)
    return backend_for("cpu").open(bundle.path(variant.file), variant)


def _texts(bundle: Bundle) -> tuple[list[int], list[int]]:
    """Tokens before the first frame, and before every other one."""
    tokenizer = Tokenizer.from_file(str(bundle.path("tokenizer.json")))
    text = StreamText(
        bundle.manifest.layout(),
        lambda words: tokenizer.encode(words, add_special_tokens=False).ids,
    )
    return list(text.frame_prefix(0.0)), list(text.frame_prefix(0.0))
