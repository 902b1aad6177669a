"""The reference assistant in PyTorch and as a bundle, in processes of their own; see
`reference_speed.py`.

python benchmarks/reference_workers.py torch CHECKPOINT
python benchmarks/reference_workers.py edgestream BUNDLE
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from decode_workers import EdgeStreamPeer, TorchPeer
from workers import serve

FPS, CLIP_SEED, CLIP_FRAMES = 4.0, 5, 120
PROMPT_TOKENS, SAID_TOKENS = 250, 64
"""A prompt with 16 remembered frames is about 250 tokens long."""

Watch = Callable[[np.ndarray, float], np.ndarray]
"""(picture, seconds) → scores of the gate."""


class Watcher(Protocol):
    """Stage 0, vision and gate of one peer."""

    def reset(self) -> None:
        """Start again: the next frame is a first frame."""

    def watch(self, pixels: np.ndarray, time_s: float) -> np.ndarray:
        """Scores of the gate at a frame."""


class TorchWatcher:
    """Stage 0 is ours, in numpy; vision and gate are eager PyTorch in float32."""

    def __init__(self, folder: str) -> None:
        import torch

        from edgestream.models.families import load_checkpoint
        from edgestream.runtime.motion import MotionDetector

        torch.set_num_threads(1)
        self._torch, self._detector = torch, MotionDetector()
        checkpoint = load_checkpoint(Path(folder))
        assert checkpoint.gate is not None
        self._vision, self._gate = checkpoint.vision.eval(), checkpoint.gate.eval()
        self._input = checkpoint.frame_input
        self.reset()

    def reset(self) -> None:
        """See `Watcher`."""
        self._detector.reset()
        self._state = self._gate.first_state()

    def watch(self, pixels: np.ndarray, time_s: float) -> np.ndarray:
        """See `Watcher`."""
        from edgestream.runtime.motion_input import vision_input
        from edgestream.runtime.preprocess import small_picture

        torch = self._torch
        small = small_picture(pixels)
        maps = self._detector.step_small(small, time_s).maps
        given = torch.from_numpy(vision_input(small, maps, self._input))
        with torch.inference_mode():
            tokens, summary = self._vision(given)
            dt_s = torch.full((1, 1), 1.0 / FPS)
            told = self._gate(tokens, summary, torch.tensor(maps)[None], dt_s, *self._state)
        self._state = told[-2:]
        return np.asarray(told[0][0].numpy())


class EdgeStreamWatcher:
    """The stages of a bundle; every frame is encoded, as in PyTorch."""

    def __init__(self, folder: str, stack: ExitStack) -> None:
        from edgestream.runtime.assembly import attached
        from edgestream.runtime.bundle import open_bundle
        from edgestream.runtime.engine_pool import EngineRules

        rules = EngineRules(threads=1, heartbeat_s=0.0)
        self._model = stack.enter_context(attached(open_bundle(folder), rules))
        assert self._model.gate is not None
        self._count = 0

    def reset(self) -> None:
        """See `Watcher`."""
        assert self._model.gate is not None
        self._model.encoder.reset()
        self._model.gate.reset()
        self._count = 0

    def watch(self, pixels: np.ndarray, time_s: float) -> np.ndarray:
        """See `Watcher`."""
        from edgestream.runtime.values import Frame

        assert self._model.gate is not None
        features = self._model.encoder.encode(Frame(self._count, time_s, pixels))
        assert features.is_fresh, "every frame is encoded"
        reading = self._model.gate.step(features, 1.0 / FPS if self._count else None)
        self._count += 1
        return np.array(list(reading.scores.values()), np.float32)


def pictures() -> np.ndarray:
    """(CLIP_FRAMES, 112, 112, 3) uint8 RGB of the rendered world."""
    from edgestream.evaluation.world import render_clip

    pixels = render_clip(CLIP_SEED, CLIP_FRAMES).pixels
    assert pixels is not None
    return pixels


def watch_pass(watcher: Watcher, frames: np.ndarray) -> dict[str, Any]:
    """Milliseconds of a frame, and what the gate said of the last ones."""
    watcher.reset()
    scores, cpu_s, begun_s = [], time.process_time(), time.perf_counter()
    for number, pixels in enumerate(frames):
        scores.append(watcher.watch(pixels, number / FPS))
    taken_s = time.perf_counter() - begun_s
    return {
        "ms": 1e3 * taken_s / len(frames),
        "cpu_share": (time.process_time() - cpu_s) / taken_s,
        "scores": np.concatenate(scores[-40:]).astype(float).tolist(),
    }


def decode_pass(peer: TorchPeer | EdgeStreamPeer, ids: list[int]) -> dict[str, Any]:
    """Milliseconds of a token behind a prompt."""
    peer.reset()
    peer.append(ids[:PROMPT_TOKENS])
    begun_s = time.perf_counter()
    for token in ids[PROMPT_TOKENS:]:
        peer.append([token])
    return {"ms": 1e3 * (time.perf_counter() - begun_s) / SAID_TOKENS}


def token_ids(vocabulary: int) -> list[int]:
    """Of a prompt and of what is said behind it."""
    rng = np.random.default_rng(0)
    drawn = rng.integers(2, vocabulary, PROMPT_TOKENS + SAID_TOKENS)
    return [int(one) for one in drawn]


def peers(kind: str, folder: str, stack: ExitStack) -> Iterator[Any]:
    """What watches, and what speaks."""
    if kind == "torch":
        yield TorchWatcher(folder)
        yield TorchPeer(folder, "float32")
    else:
        yield EdgeStreamWatcher(folder, stack)
        yield EdgeStreamPeer(folder, 16)


def main() -> None:
    """Answer until stdin is closed."""
    kind, folder, vocabulary = sys.argv[1:]
    frames, ids = pictures(), token_ids(int(vocabulary))
    with ExitStack() as stack:
        watcher, speaker = peers(kind, folder, stack)
        serve(
            {
                "watch": lambda: watch_pass(watcher, frames),
                "decode": lambda: decode_pass(speaker, ids),
            }
        )


if __name__ == "__main__":
    main()
