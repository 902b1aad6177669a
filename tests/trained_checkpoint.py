"""A small checkpoint that knows something: trained in the test run on pictures painted here.

What is to be said follows from the pictures and the words before (`painted_streams.py`), so that
the model becomes confident, and what quantization takes from it can be measured.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import cross_entropy

from edgestream.models.checkpoint import save_checkpoint
from edgestream.models.connector import Connector
from edgestream.models.families.live import live_modules
from edgestream.models.frame_tokens import FrameEncoder
from edgestream.models.transformers_parts import DECODERS, TOWERS

from .checkpoints import live_config, new_model, trained_tokenizer
from .painted_streams import (
    COLOURS,
    SHAPES,
    SIDE_PX,
    StreamSequence,
    StreamWriter,
    grammar_text,
    painted,
)

ROOT = Path(__file__).parents[1]
CACHE = ROOT / ".cache"
# What decides the bytes of the checkpoint; a change in one of them trains it anew.
MAKERS = ("tests/trained_checkpoint.py", "tests/painted_streams.py", "tests/checkpoints.py",
          "tests/small_tokenizer.py", "models/families/live.py", "models/live_layout.py",
          "models/frame_tokens.py", "models/connector.py", "models/weights.py",
          "models/checkpoint.py", "runtime/prompt_layout.py")  # fmt: skip

TOWER = {"hidden_size": 96, "intermediate_size": 192, "num_hidden_layers": 2,
         "num_attention_heads": 4, "image_size": SIDE_PX, "patch_size": 16}  # fmt: skip
DECODER = {"hidden_size": 192, "intermediate_size": 512, "num_hidden_layers": 4,
           "num_attention_heads": 6, "num_key_value_heads": 2,
           "max_position_embeddings": 512}  # fmt: skip
SEEING_STEPS, STEPS, BATCH, PEAK_RATE, PICTURES, HELD_OUT = 450, 260, 16, 3e-3, 1536, 32
NOT_SUPERVISED = -100


@dataclass(frozen=True)
class HeldOut:
    """A sequence that was not trained on.

    Attributes:
        embeds: (1, positions, hidden) float32, what the decoder reads.
        targets: (positions,) int64, the token that should follow; `NOT_SUPERVISED` where any may.
    """

    embeds: NDArray[np.float32]
    targets: NDArray[np.int64]


@dataclass(frozen=True)
class TrainedCheckpoint:
    """Where it is, what it was not trained on, and how training went.

    Attributes:
        folder: a checkpoint of the family `live`.
        held_out: sequences of pictures that were not trained on.
        frames: (count, 64, 64, 3) uint8 RGB, pictures that were not trained on.
        curve: step, loss and, at the end, held-out loss and accuracy; seconds.
    """

    folder: Path
    held_out: tuple[HeldOut, ...]
    frames: NDArray[np.uint8]
    curve: tuple[dict[str, float], ...]


def trained_live_checkpoint() -> TrainedCheckpoint:
    """The trained checkpoint, out of the ignored .cache/ where it was made before.

    Cost: two to three minutes on one core the first time, then nothing.
    """
    digest = hashlib.sha256(b"".join((ROOT / name).read_bytes() for name in MAKERS)).hexdigest()
    place = CACHE / f"trained-live-{digest[:16]}"
    if not place.is_dir():
        CACHE.mkdir(exist_ok=True)
        beside = Path(tempfile.mkdtemp(prefix="trained-live-", dir=CACHE))
        try:
            _train(beside)
            os.replace(beside, place)
        except OSError:
            if not place.is_dir():  # else another run was first, with the same bytes
                raise
        finally:
            shutil.rmtree(beside, ignore_errors=True)
    return _read(place)


def _train(place: Path) -> None:
    began = time.perf_counter()
    random = np.random.default_rng(0)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        tokenizer = trained_tokenizer(grammar_text(), most_tokens=400)
        tower = new_model(TOWERS["siglip_vision_model"], **TOWER)
        decoder = new_model(DECODERS["llama"], **DECODER, tie_word_embeddings=True,
                            vocab_size=tokenizer.get_vocab_size())  # fmt: skip
        connector = Connector(TOWER["hidden_size"], DECODER["hidden_size"])
        heads = torch.nn.Linear(DECODER["hidden_size"], len(COLOURS) + len(SHAPES))
    vision = FrameEncoder(tower, 10)
    kinds = [(colour, shape) for colour in COLOURS for shape in SHAPES]
    names = [kinds[index % len(kinds)] for index in range(PICTURES)]
    pictures = np.stack([painted(*name, random) for name in names])
    held_from = PICTURES * 3 // 4
    seeing = _learn_to_see(vision, connector, heads, pictures[:held_from], names, random)
    tokens = _seen(vision.eval().requires_grad_(False), pictures)
    writer = StreamWriter(tokenizer, names[:held_from])
    curve = [{"seeing_loss": seeing, "seconds": round(time.perf_counter() - began, 1)}]
    curve += _fit(decoder, connector, tokens, writer, random)
    last = StreamWriter(tokenizer, names[held_from:])
    with torch.no_grad():
        held_out = [
            _inputs(decoder, connector, tokens[held_from:], [last.sequence(random)])
            for _ in range(HELD_OUT)
        ]
    curve.append({"seconds": round(time.perf_counter() - began, 1), **_quality(decoder, held_out)})
    config = live_config("trained-small", decoder, tower, tokenizer)
    modules = live_modules(decoder, vision, connector)
    save_checkpoint(place / "checkpoint", config, modules, tokenizer)
    (place / "curve.json").write_text(json.dumps(curve))
    arrays = {"frames": pictures[held_from : held_from + 64]}
    for index, (embeds, targets) in enumerate(held_out):
        arrays |= {f"embeds{index}": embeds.numpy(), f"targets{index}": targets[0].numpy()}
    np.savez(place / "held_out.npz", **arrays)


def _learn_to_see(vision, connector, heads, pictures, names, random) -> float:
    """Tower and connector learn to name colour and shape; gives the loss of the last steps."""
    wanted = torch.tensor([[[*COLOURS].index(name[0]), SHAPES.index(name[1])] for name in names])
    weights = [*vision.parameters(), *connector.parameters(), *heads.parameters()]
    optimiser = torch.optim.AdamW(weights, lr=1e-3, weight_decay=0.01)
    losses = []
    for step in range(SEEING_STEPS):
        optimiser.param_groups[0]["lr"] = 1e-3 * min((step + 1) / 20, 1 - step / SEEING_STEPS)
        chosen = random.integers(0, len(pictures), 64)
        told = heads(connector(vision(_pixels(pictures[chosen]))[0]).mean(1))
        colour, shape = told.split([len(COLOURS), len(SHAPES)], dim=-1)
        right = wanted[torch.from_numpy(chosen)]
        loss = cross_entropy(colour, right[:, 0]) + cross_entropy(shape, right[:, 1])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    return round(sum(losses[-20:]) / 20, 4)


def _pixels(pictures: NDArray[np.uint8]) -> Tensor:
    return torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 127.5 - 1


@torch.no_grad()
def _seen(vision: FrameEncoder, pictures: NDArray[np.uint8]) -> Tensor:
    return torch.cat([vision(part[None])[0] for part in _pixels(pictures)])


def _inputs(decoder, connector, tokens: Tensor, batch: Sequence[StreamSequence]):
    """embeds (batch, positions, hidden), padded at the end, and targets (batch, positions)."""
    longest = max(len(sequence.ids) for sequence in batch)
    ids = torch.full((len(batch), longest), -(10**6))
    targets = torch.full((len(batch), longest), NOT_SUPERVISED)
    for row, sequence in enumerate(batch):
        line, wanted = torch.tensor(sequence.ids), torch.tensor(sequence.is_target)
        ids[row, : len(line)] = line
        targets[row, : len(line) - 1] = torch.where(wanted[1:], line[1:], NOT_SUPERVISED)
    embeds = decoder.get_input_embeddings()(ids.clamp(min=0))
    is_picture = (ids < 0) & (ids > -(10**6))
    shown = -1 - ids[is_picture].reshape(-1, 10)[:, 0]
    embeds = embeds.masked_scatter(is_picture[..., None], connector(tokens[shown]))
    return embeds, targets


def _fit(
    decoder, connector, tokens: Tensor, writer: StreamWriter, random
) -> list[dict[str, float]]:
    weights = [*decoder.parameters(), *connector.parameters()]
    optimiser = torch.optim.AdamW(weights, lr=PEAK_RATE, weight_decay=0.01, betas=(0.9, 0.98))
    curve = []
    for step in range(STEPS):
        share = min((step + 1) / 40, 0.5 * (1 + math.cos(math.pi * step / STEPS)))
        optimiser.param_groups[0]["lr"] = PEAK_RATE * share
        batch = [writer.sequence(random) for _ in range(BATCH)]
        embeds, targets = _inputs(decoder, connector, tokens, batch)
        logits = decoder(inputs_embeds=embeds, use_cache=False).logits
        loss = cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=NOT_SUPERVISED)
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optimiser.step()
        if step % 50 == 0 or step == STEPS - 1:
            curve.append({"step": step, "loss": round(loss.item(), 4)})
    return curve


@torch.no_grad()
def _quality(decoder, held_out: Sequence[tuple[Tensor, Tensor]]) -> dict[str, float]:
    losses, right = [], []
    for embeds, targets in held_out:
        logits = decoder(inputs_embeds=embeds, use_cache=False).logits
        is_wanted = targets != NOT_SUPERVISED
        losses.append(cross_entropy(logits[is_wanted], targets[is_wanted], reduction="none"))
        right.append(logits[is_wanted].argmax(-1) == targets[is_wanted])
    return {
        "held_out_loss": round(torch.cat(losses).mean().item(), 4),
        "held_out_accuracy": round(torch.cat(right).float().mean().item(), 4),
    }


def _read(place: Path) -> TrainedCheckpoint:
    with np.load(place / "held_out.npz") as arrays:
        held_out = tuple(
            HeldOut(arrays[f"embeds{index}"], arrays[f"targets{index}"])
            for index in range(HELD_OUT)
        )
        frames = arrays["frames"]
    curve = tuple(json.loads((place / "curve.json").read_text()))
    return TrainedCheckpoint(place / "checkpoint", held_out, frames, curve)
