"""The law of every family: its bundle says what transformers' own model says, token by token.

A family's test gives a tiny checkpoint of the real architecture and how transformers' model takes
ids and pixels; `FamilyLaw` exports it, runs it as a device does, and compares.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast

from edgestream.edge.cli import main
from edgestream.export.build import ExportChoice, export_bundle
from edgestream.export.graphs import Schemes
from edgestream.models.families import load_checkpoint
from edgestream.models.family import Checkpoint, LoadOptions
from edgestream.runtime.arena import Arena
from edgestream.runtime.bundle import Bundle, hash_line, open_bundle, sha256_of_file
from edgestream.runtime.connector import EngineConnector
from edgestream.runtime.engines.lane import Lane
from edgestream.runtime.engines.ort import OrtBackend
from edgestream.runtime.file_names import HASH_FILE, MANIFEST_FILE
from edgestream.runtime.gate_network import GateNetwork
from edgestream.runtime.language_model import LanguageModel
from edgestream.runtime.manifest_values import FrameInput
from edgestream.runtime.preprocess import fitted_picture
from edgestream.runtime.prompt import PromptParts
from edgestream.runtime.prompt_layout import PromptLayout, ids_of
from edgestream.runtime.prompt_plan import PlannedPrompt, planned_prompt, segment_positions
from edgestream.runtime.recent import DialogueTurn
from edgestream.runtime.sources import SourceSettings, open_source
from edgestream.runtime.values import Features, Frame, GateDecision
from edgestream.runtime.vision import VisionEncoder

from .torch_reference import TorchReference, closed_up

CLIP = Path(__file__).parents[1] / "assets" / "sample.mp4"
QUESTION = "How many people are there now?"
TOLERANCE = 1e-4
# ids (1, tokens) with the image token for each row of a frame, pixels (frames, 3, height, width)
# float32, normalised → what transformers' model is called with.
FullInputs = Callable[[torch.Tensor, torch.Tensor], dict[str, Any]]


def clip_frames(count: int, every_s: float = 10.0) -> list[Frame]:
    """Frames of the sample clip, so many seconds apart."""
    frames = open_source(str(CLIP), SourceSettings(fps=1 / every_s)).frames(lambda record: None)
    return list(islice((frame for frame in frames if frame is not None), count))


@dataclass
class FamilyLaw:
    """One family's checkpoint, its bundle, and what transformers says.

    Attributes:
        folder: the checkpoint.
        work: where bundles are written.
        model: transformers' full model of the same weights, float32.
        image_id: the token that stands for a row of a frame in the ids of `model`.
        full_inputs: how `model` is called.
        options: of the load.
        capacity: of the cache.
        frames: how many frames a prompt shows.
    """

    folder: Path
    work: Path
    model: Any
    image_id: int
    full_inputs: FullInputs
    options: LoadOptions = field(default_factory=LoadOptions)
    capacity: int = 512
    frames: int = 3

    @cached_property
    def checkpoint(self) -> Checkpoint:
        return load_checkpoint(self.folder, self.options)

    @cached_property
    def bundle(self) -> Bundle:
        """Exported in float32."""
        return open_bundle(self.exported("fp32", "fp32"))

    @cached_property
    def device(self) -> OnDevice:
        return OnDevice(self.bundle)

    @cached_property
    def plan(self) -> PlannedPrompt:
        """The prompt about the frames, as the device writes it."""
        shown = [(frame.time_s, self.device.embeds(frame)) for frame in clip_frames(self.frames)]
        return self.device.planned(PromptParts(QUESTION, shown))

    def exported(self, vision: str, llm: str) -> Path:
        """A bundle that has passed its proof."""
        target = self.work / f"{vision}-{llm}"
        schemes = Schemes.named(vision, llm)
        choice = ExportChoice(
            schemes=schemes, name=target.name, capacity=self.capacity, options=self.options
        )
        made = export_bundle(self.folder, target, choice, lambda *told: None)
        assert made.report.passed
        return target

    def check_logits(self) -> None:
        """What is said of frames and a question is what transformers says, 1e-4."""
        logits = self.device.read(self.plan)
        expected = self._full_logits()
        error = float(np.abs(logits - expected).max())
        assert error <= TOLERANCE, f"logits differ by {error:.2e}, they span {np.ptp(expected):.1f}"

    def check_greedy(self, tokens: int = 40) -> None:
        """Greedy tokens are those of `generate`, and they vary."""
        said, logits = [], self.device.read(self.plan)
        for _ in range(tokens):
            said.append(int(logits.argmax()))
            logits = self.device.model.step(said[-1])
        self.model.generation_config.eos_token_id = None
        self.model.generation_config.pad_token_id = 0
        inputs = self._inputs()
        with torch.inference_mode():
            out = self.model.generate(**inputs, max_new_tokens=tokens, do_sample=False)
        # Some models give the whole sequence, those that are asked with embeds the new tokens.
        assert said == out[0, -tokens:].tolist()
        assert len(set(said)) >= 10, f"only {len(set(said))} distinct tokens in {said}"

    def check_eviction(self, steps: int = 24) -> None:
        """After a frame was let go: as a model that attends over the kept tokens alone."""
        device, plan = self.device, self.plan
        device.read(plan)
        reference = TorchReference(self.checkpoint.decoder, self.bundle.manifest.positions)
        for embeds, places in device.segments(plan):
            reference.append(embeds, places)
        np.testing.assert_array_equal(reference.places, device.places)
        keep = device.without_frame(plan, 1)
        expected = closed_up(device.places, keep)
        device.model.evict(keep)
        np.testing.assert_array_equal(device.places, expected)
        reference.keep(keep, expected)
        token = 5
        for _ in range(steps):
            logits = device.model.step(token)
            wanted = reference.append(device.model.rows([token]))
            error = float(np.abs(logits - wanted).max())
            assert error <= TOLERANCE, f"logits differ by {error:.2e} after an eviction"
            token = int(wanted.argmax())

    def check_quantized(self, vision: str = "int8", llm: str = "int4-32") -> None:
        """int8 and int4 pass the gates of the proof."""
        open_bundle(self.exported(vision, llm))

    def run_on_the_clip(self, capsys: Any, *more: str) -> list[dict[str, Any]]:
        """Records of events and answers of `edgestream run`, with a question after 30 s.

        Random weights may not speak there: the manifest of a copy says that these have learned.
        """
        folder = self.work / "run"
        shutil.copytree(self.bundle.folder, folder)
        manifest = folder / MANIFEST_FILE
        facts = json.loads(manifest.read_text())
        facts["parity"]["weights_look_random"] = False
        manifest.write_text(json.dumps(facts))
        (folder / HASH_FILE).write_bytes(hash_line(sha256_of_file(manifest)))
        ask = ("--ask", f"30:{QUESTION}", "--jsonl", "-", "--fps", "1")
        assert main(["run", str(CLIP), "--bundle", str(folder), *ask, *more]) == 0
        records = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        return [one for one in records if one["type"] in ("opened", "final")]

    def _inputs(self) -> dict[str, Any]:
        return self.full_inputs(self._ids(), self._pixels())

    def _ids(self) -> torch.Tensor:
        ids = [
            token
            for one in self.plan.segments
            for token in (one.ids if one.embeds is None else [self.image_id] * one.positions)
        ]
        return torch.tensor([ids])

    def _pixels(self) -> torch.Tensor:
        """Made without the device's own arithmetic."""
        frame_input = self.bundle.manifest.input
        made = [independent_pixels(frame, frame_input) for frame in clip_frames(self.frames)]
        return torch.stack(made)

    def _full_logits(self) -> np.ndarray:
        with torch.inference_mode():
            logits: np.ndarray = self.model(**self._inputs()).logits[0, -1].numpy()
        return logits


class OnDevice:
    """A bundle's engines put together as `attached` does, without threads."""

    def __init__(self, bundle: Bundle) -> None:
        manifest = bundle.manifest
        assert manifest.cache is not None and manifest.positions is not None
        files = {role: variant.file for role, variant in manifest.variants()}
        engines = {role: OrtBackend("cpu").open(bundle.path(file)) for role, file in files.items()}
        self.bundle, self.layout = bundle, manifest.layout()
        self.tokenizer = Tokenizer.from_file(str(bundle.path("tokenizer.json")))
        lane = Lane()
        self._encoder = VisionEncoder(engines["vision"], manifest.input, lane, heartbeat_s=0.0)
        self._connector = EngineConnector(engines["connector"])
        self._gate: GateNetwork | None = None
        if "gate" in engines and manifest.gate is not None:
            self._gate = GateNetwork(engines["gate"], manifest.gate, manifest.input.fps)
        arena = Arena(manifest.cache, manifest.positions, turn=engines["evict"])
        self.model = LanguageModel(engines["decoder"], arena, bundle.token_rows(), lane)

    def embeds(self, frame: Frame) -> np.ndarray:
        """(tokens, width) float32 of a frame; the model's own gate goes on by it."""
        features: Features = self._encoder.encode(frame)
        state = self._gate.step(features, None).state_summary if self._gate else None
        decision = GateDecision(frame.time_s, state_summary=state)
        return self._connector.step(features, decision).copy()

    def planned(self, parts: PromptParts) -> PlannedPrompt:
        capacity = self.model.arena.capacity
        return planned_prompt(
            self.layout, lambda text: ids_of(self.tokenizer, text), parts, capacity
        )

    @property
    def places(self) -> np.ndarray:
        """(axes, length): where each token in the cache stands."""
        arena = self.model.arena
        return arena.positions[:, : arena.length].copy()

    def segments(self, plan: PlannedPrompt) -> Sequence[tuple[np.ndarray, np.ndarray | None]]:
        """(embeds, positions (axes, tokens) or None to go on by one) of each segment."""
        embeds = [one.as_embeds(self.model.rows) for one in plan.segments]
        grid = self.model.arena.frame_grid
        if grid is None:
            return [(one, None) for one in embeds]
        ends = np.cumsum([len(one) for one in embeds])[:-1]
        places = np.split(segment_positions(plan.segments, grid), ends, axis=1)
        return list(zip(embeds, places, strict=True))

    def read(self, plan: PlannedPrompt) -> np.ndarray:
        """Logits after a prompt, from an empty cache."""
        self.model.arena.reset()
        parts = self.segments(plan)
        embeds = np.concatenate([one for one, _ in parts])
        places = [one for _, one in parts if one is not None]
        positions = np.concatenate(places, axis=1) if places else None
        return self.model.append(embeds, positions=positions).copy()

    def without_frame(self, plan: PlannedPrompt, number: int) -> np.ndarray:
        """Slots of a prompt without those of one of its frames."""
        slot, frames, keep = 0, -1, []
        for one in plan.segments:
            frames += one.kind == "frame"
            if one.kind != "frame" or frames != number:
                keep += range(slot, slot + one.positions)
            slot += one.positions
        return np.array(keep)


def independent_pixels(frame: Frame, frame_input: FrameInput) -> torch.Tensor:
    """(3, height, width) float32 of a frame, normalised."""
    fitted = torch.from_numpy(fitted_picture(frame.pixels, frame_input).copy())
    mean, std = (torch.tensor(one).view(3, 1, 1) for one in (frame_input.mean, frame_input.std))
    return (fitted.permute(2, 0, 1).float() / 255 - mean) / std


def check_layout(
    layout: PromptLayout,
    tokenizer: Tokenizer,
    template: str,
    expand: Callable[[str], str],
    image_id: int,
    tokens_per_frame: int,
    **more: Any,
) -> None:
    """A layout writes what the model's own chat template writes, token for token.

    Args:
        template: the published chat template.
        expand: the template's text → the same with the image token once per row of a frame, as
            the model's processor does.
        more: for `apply_chat_template`.
    """
    theirs = PreTrainedTokenizerFast(tokenizer_object=tokenizer)
    rows = np.zeros((tokens_per_frame, 1), np.float32)
    for frames, dialogue, question in (
        (1, (), QUESTION),
        (3, (), QUESTION),
        (0, (), QUESTION),
        (2, (("Is it dark?", "Two people stand there."), ("Why?", "I will tell you.")), QUESTION),
        (0, (("Is it dark?", "No."),), "Why?"),
    ):
        turns = [DialogueTurn(1.0, asked, said) for asked, said in dialogue]
        parts = PromptParts(question, [(2.0, rows)] * frames, turns)
        plan = planned_prompt(layout, lambda text: ids_of(tokenizer, text), parts, 10_000)
        ours = [
            token
            for one in plan.segments
            for token in (one.ids if one.embeds is None else [image_id] * one.positions)
        ]
        messages = []
        for asked, said in dialogue:
            messages += [_message("user", asked), _message("assistant", said)]
        messages.append(_message("user", question, frames))
        written = theirs.apply_chat_template(
            messages, chat_template=template, tokenize=False, add_generation_prompt=True, **more
        )
        expected = ids_of(tokenizer, expand(written))
        assert ours == list(expected), (tokenizer.decode(ours, False), expand(written))


def _message(role: str, text: str, frames: int = 0) -> dict[str, Any]:
    return {
        "role": role,
        "content": [*[{"type": "image"}] * frames, {"type": "text", "text": text}],
    }
