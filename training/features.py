"""What frozen vision and gate see of videos: extracted once, then read from disk.

    CACHE/<key>/features.json times.f64 still.u1 tokens.f16 summary.f16 motion.f16
                [scores.f16 states.f16]

The key is a hash of contents: of the video's bytes, of the weights, and of how frames are sampled
and made. So a video may move, another checkpoint with the same tower finds the same features, and
nothing that was changed is taken for what it was.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from ..models.family import Checkpoint
from ..runtime.engines.lane import OpenLane
from ..runtime.errors import DialogueInvalid, SourceError
from ..runtime.gate_network import GateNetwork
from ..runtime.json_fields import json_from_value
from ..runtime.source_file import VideoFile
from ..runtime.sources import SourceSettings
from ..runtime.values import Features, Frame
from ..runtime.vision import VisionEncoder
from ..runtime.whole_folder import whole_folder
from .module_engine import ModuleEngine
from .run_folder import make_folder

FORMAT = 2
FACTS = "features.json"
HEARTBEAT_S, SETTLE_S = 2.0, 0.75
"""Of the settings `encoder.heartbeat_s` and `encoder.settle_s`: when a still frame is encoded."""
LARGEST = 65504.0
"""Of float16; what is larger is cut to it."""


@dataclass(frozen=True, slots=True, eq=False)
class VideoFeatures:
    """What was seen of a video, frame by frame, as the device sees it.

    Attributes:
        times_s: (T,) float64, rising, seconds.
        tokens: (T, n, dim) float16, memory-mapped; of a still frame those of an earlier one.
        summary: (T, dim) float16 of unit length.
        states: (T, width) float16: the gate's state_summary; None without a gate.
        scores: (T, names) float16 of the gate, `speak` first where it has it; None without a gate.
            Asked nothing, and as if it had never spoken.
        is_still: (T,) bool: the picture did not move.
        motion: (T, maps, cells, cells) float16: `Motion.maps` in their own units; None of features
            that are not of a video.
    """

    times_s: NDArray[np.float64]
    tokens: NDArray[np.float16]
    summary: NDArray[np.float16]
    states: NDArray[np.float16] | None
    scores: NDArray[np.float16] | None
    is_still: NDArray[np.bool_]
    motion: NDArray[np.float16] | None = None


@dataclass(frozen=True, slots=True)
class FeatureProgress:
    """How far the extraction is.

    Attributes:
        video: that is looked at.
        number, count: of it, from 1, and of all.
        time_s, length_s: in it, seconds; length_s is None where it does not say.
        is_kept: its features were there already.
    """

    video: Path
    number: int
    count: int
    time_s: float = 0.0
    length_s: float | None = None
    is_kept: bool = False


def _untold(progress: FeatureProgress) -> None:
    """Nobody is told."""


def features_of(
    checkpoint: Checkpoint,
    videos: Sequence[Path],
    cache: Path,
    *,
    fps: float | None = None,
    tell: Callable[[FeatureProgress], None] = _untold,
) -> dict[Path, VideoFeatures]:
    """The features of videos, each extracted where the cache does not have it.

    Args:
        checkpoint: its vision and gate are used, where their weights are.
        videos: files; one that is named twice is read once.
        cache: folder; it is made.
        fps: frames a second that are looked at; None for those that the model is made for.
        tell: told of each frame that was seen, and of each video that was there already.

    Raises:
        DialogueInvalid: a video is missing, is none, or has no picture.
        OutputFull, OutputUnwritable: the cache cannot be written; what it had stays.
        OutputExists: something else lies where features of the cache are to lie.

    Cost: decoding and vision of each frame that moves; 2 bytes a number on disk. What is there
        costs the hash of the video, about a second a GB.
    """
    make_folder(cache, "--cache")
    rate = checkpoint.frame_input.fps if fps is None else fps
    wanted = list(dict.fromkeys(videos))
    made_by = _made_by(checkpoint, rate)
    eyes: _Eyes | None = None
    found: dict[Path, VideoFeatures] = {}
    for number, video in enumerate(wanted, 1):
        begun = FeatureProgress(video, number, len(wanted))
        folder = cache / _key(made_by, video)
        if (kept := _opened(folder)) is None:
            eyes = eyes or _Eyes(checkpoint, rate)
            _extract(eyes, video, folder, begun, tell)
            kept = _opened(folder)
            assert kept is not None
        else:
            tell(FeatureProgress(video, number, len(wanted), is_kept=True))
        found[video] = kept
    return found


class _Eyes:
    """Vision and gate of a checkpoint as stages of the device. State: of one video at a time."""

    def __init__(self, checkpoint: Checkpoint, fps: float) -> None:
        frames = checkpoint.frame_input
        pixels = torch.zeros(1, frames.channels or 3, *frames.size_px)
        vision = ModuleEngine(checkpoint.vision, {"pixels": pixels}, ["tokens", "summary"])
        self.encoder = VisionEncoder(
            vision, frames, OpenLane(), heartbeat_s=HEARTBEAT_S, settle_s=SETTLE_S
        )
        self.settings = SourceSettings(fps=fps)
        self.gate: GateNetwork | None = None
        if checkpoint.gate is not None and checkpoint.gate_facts is not None:
            seen = {spec.name: torch.zeros(spec.shape) for spec in vision.outputs}  # type: ignore[arg-type]
            shape, (conv, ssm) = checkpoint.gate.shape, checkpoint.gate.first_state()
            motion = torch.zeros(1, len(shape.map_std), shape.cells, shape.cells)
            known = {**seen, "motion": motion, "query": torch.zeros(1, shape.query_dim),
                     "spoken": torch.ones(1, 1), "dt_s": torch.zeros(1, 1), "conv": conv,
                     "ssm": ssm}  # fmt: skip
            names = checkpoint.gate.input_names()
            engine = ModuleEngine(
                checkpoint.gate, {name: known[name].cpu() for name in names},
                checkpoint.gate.output_names(),
            )  # fmt: skip
            self.gate = GateNetwork(engine, checkpoint.gate_facts, frames.fps)

    def seen(self, frames: Iterator[Frame | None]) -> Iterator[tuple[Features, Any]]:
        """(features, what the gate says or None) of each frame of one video."""
        self.encoder.reset()
        if self.gate is not None:
            self.gate.reset()
        before_s: float | None = None
        for frame in frames:
            if frame is None:
                continue
            features = self.encoder.encode(frame)
            dt_s = None if before_s is None else frame.time_s - before_s
            yield features, None if self.gate is None else self.gate.step(features, dt_s)
            before_s = frame.time_s


def _extract(
    eyes: _Eyes,
    video: Path,
    folder: Path,
    begun: FeatureProgress,
    tell: Callable[[FeatureProgress], None],
) -> None:
    try:
        source = VideoFile(str(video), eyes.settings)
        with whole_folder(folder, replaces=FACTS) as place:
            facts: dict[str, Any] = {"format": FORMAT, "frames": 0}
            with ExitStack() as opened:
                files: dict[str, IO[bytes]] = {}
                for features, reading in eyes.seen(source.frames(lambda record: None)):
                    for name, array in _rows(features, reading).items():
                        if name not in files:
                            files[name] = opened.enter_context((place / name).open("wb"))
                            facts[name] = array.shape
                        files[name].write(np.ascontiguousarray(array).tobytes())
                    facts["frames"] += 1
                    tell(FeatureProgress(video, begun.number, begun.count, features.time_s,
                                         source.duration_s))  # fmt: skip
            (place / FACTS).write_text(json.dumps(facts) + "\n", "utf-8")
    except SourceError as error:
        raise DialogueInvalid(f"{video}: {error.message}", hint=error.hint) from error


def _rows(features: Features, reading: Any) -> dict[str, NDArray[Any]]:
    """Name of a file → what it holds of one frame."""
    rows: dict[str, NDArray[Any]] = {
        "times.f64": np.array(features.time_s, np.float64),
        "still.u1": np.array(features.is_still, np.uint8),
        "tokens.f16": _halves(features.tokens),
        "summary.f16": _halves(features.summary),
        "motion.f16": _halves(features.motion.maps),
    }
    if reading is not None:
        rows["scores.f16"] = _halves(np.array(list(reading.scores.values())))
        if reading.state_summary is not None:
            rows["states.f16"] = _halves(reading.state_summary)
    return rows


def _halves(array: NDArray[Any]) -> NDArray[np.float16]:
    halves: NDArray[np.float16] = np.clip(array, -LARGEST, LARGEST).astype(np.float16)
    return halves


def _opened(folder: Path) -> VideoFeatures | None:
    """The features in a folder; None where there are none, or of another format."""
    try:
        facts = json.loads((folder / FACTS).read_bytes())
        if facts["format"] != FORMAT:
            return None
        kinds = {"f16": np.float16, "f64": np.float64, "u1": np.uint8}
        arrays: dict[str, NDArray[Any]] = {
            name: np.memmap(folder / name, kinds[name.split(".")[1]], "r",
                            shape=(facts["frames"], *shape))
            for name, shape in facts.items() if "." in name
        }  # fmt: skip
    except (OSError, ValueError, LookupError, TypeError):
        return None
    return VideoFeatures(
        np.array(arrays["times.f64"]),
        arrays["tokens.f16"],
        arrays["summary.f16"],
        arrays.get("states.f16"),
        arrays.get("scores.f16"),
        np.array(arrays["still.u1"], np.bool_),
        arrays["motion.f16"],
    )


def _made_by(checkpoint: Checkpoint, fps: float) -> str:
    """Everything but the video that features depend on, as text."""
    gate = [] if checkpoint.gate is None else [_weights_sha256(checkpoint.gate)]
    told = {
        "format": FORMAT,
        "fps": fps,
        "still": [HEARTBEAT_S, SETTLE_S],
        "input": json_from_value(checkpoint.frame_input),
        "weights": [_weights_sha256(checkpoint.vision), *gate],
    }
    return json.dumps(told, sort_keys=True)


def _weights_sha256(module: nn.Module) -> str:
    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        told = tensor.detach().cpu().contiguous()
        digest.update(f"{name} {tuple(told.shape)} {told.dtype}".encode())
        digest.update(told.view(torch.uint8).numpy().data if told.ndim else str(told).encode())
    return digest.hexdigest()


def _key(made_by: str, video: Path) -> str:
    digest = hashlib.sha256(made_by.encode())
    try:
        with video.open("rb") as file:
            while piece := file.read(1 << 20):
                digest.update(piece)
    except OSError as error:
        raise DialogueInvalid(
            f"{video}: it cannot be read: {error.strerror}", hint="is the path right?"
        ) from error
    return digest.hexdigest()
