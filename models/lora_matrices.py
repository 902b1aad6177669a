"""A LoRA adapter's own matrices, scaled and named by the decoder's layers, to be kept unmerged."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..runtime.errors import AdapterMismatch, CheckpointInvalid
from ..runtime.values import Float32
from .adapter_patterns import patterns_here
from .adapters import PEFT_CONFIG, PEFT_WEIGHTS, adapter_tensors, lora_module
from .decoder_shape import LINEARS
from .family import Checkpoint
from .peft_library import peft_library
from .weights import opened

LARGEST_SCALE = 1e4
"""Of an adapter: far above what is ever trained with, far below what float32 cannot hold."""
_AGAIN = "save it again with PEFT, or train it again: edgestream train lora"
_KEPT_MERGED = "merge it with `export --adapter` or `edgestream merge`"


@dataclass(frozen=True, slots=True, eq=False)
class LoraMatrices:
    """What an adapter adds to one linear layer: x A B.

    Attributes:
        a: (in, rank) float32.
        b: (rank, out) float32, with the adapter's scale in it.
    """

    a: Float32
    b: Float32


def lora_matrices(checkpoint: Checkpoint, folder: Path) -> Mapping[str, LoraMatrices]:
    """Linear layer of the decoder, as `model.layers.0.self_attn.q_proj` → its matrices.

    Args:
        checkpoint: the base.
        folder: of PEFT's own layout.

    Raises:
        CheckpointMissing, CheckpointInvalid, VocabularyMismatch, RemoteCodeNeeded: as
            `merge_adapter` says; also for what can only be merged: DoRA, a connector, a head,
            biases, a layer of the tower.
        AdapterMismatch: trained on another base, or a shape that does not fit; names it.

    Cost: the adapter twice in memory.
    """
    stored, _ = adapter_tensors(checkpoint, folder)
    config = _config(folder)
    sizes = _sizes(checkpoint)
    for name, tensor in stored.items():
        module = lora_module(name)
        if module not in sizes:
            raise CheckpointInvalid(
                f"the adapter {folder} brings {name}, expected nothing but LoRA matrices of the "
                "linear layers of the decoder where several adapters share one base",
                hint=_KEPT_MERGED,
            )
        _check_shape(folder, name, tensor.shape, sizes[module])
    if not stored:
        raise CheckpointInvalid(
            f"the adapter {folder} holds no matrices, expected those of a LoRA adapter",
            hint=_AGAIN,
        )
    return _read(folder, config, tuple(stored))


def _config(folder: Path) -> Any:
    try:
        config = peft_library().LoraConfig.from_pretrained(str(folder))
    except (ValueError, TypeError, KeyError) as error:
        reason = " ".join(str(error).split())
        raise CheckpointInvalid(
            f"PEFT refuses the adapter {folder}: {reason}", hint=_AGAIN
        ) from error
    merged = {"use_dora": config.use_dora, "bias": config.bias != "none",
              "lora_bias": getattr(config, "lora_bias", False),
              "fan_in_fan_out": config.fan_in_fan_out,
              "modules_to_save": bool(config.modules_to_save)}  # fmt: skip
    if not isinstance(config.lora_alpha, int | float) or isinstance(config.lora_alpha, bool):
        raise CheckpointInvalid(
            f"{folder / PEFT_CONFIG} has lora_alpha {config.lora_alpha!r}, expected a number"
        )
    if wrong := [name for name, is_set in merged.items() if is_set]:
        raise CheckpointInvalid(
            f"{folder / PEFT_CONFIG} has {', '.join(wrong)}, expected plain LoRA where several "
            "adapters share one base",
            hint=_KEPT_MERGED,
        )
    return config


def _sizes(checkpoint: Checkpoint) -> dict[str, tuple[int, int]]:
    """Linear layer → (out, in)."""
    shape = checkpoint.decoder_weights().shape
    return {
        f"model.layers.{layer}.{part}.{name}": shape.linears()[name]
        for layer in range(shape.layers)
        for name, part in LINEARS.items()
    }


def _check_shape(folder: Path, name: str, found: Sequence[int], size: tuple[int, int]) -> None:
    side = 1 if ".lora_A." in name else 0
    width = size[1] if side else size[0]
    if len(found) != 2 or found[side] != width:
        expected = f"[rank, {width}]" if side else f"[{width}, rank]"
        raise AdapterMismatch(
            f"the adapter {folder} has {name} of the shape {list(found)}, expected {expected}",
            hint="give the checkpoint that it was trained on",
        )


def _read(folder: Path, config: Any, names: Sequence[str]) -> dict[str, LoraMatrices]:
    sides: dict[str, dict[str, Float32]] = {}
    with opened(folder / PEFT_WEIGHTS) as tensors:
        for name in names:
            module = lora_module(name)
            assert module is not None
            side = "A" if ".lora_A." in name else "B"
            matrix = tensors.get_tensor(name).float().numpy()
            sides.setdefault(module, {})[side] = matrix.T
    try:
        alphas = patterns_here(config.alpha_pattern or {}, names, lora_module, is_whole=True)
    except ValueError as error:
        raise CheckpointInvalid(f"the adapter {folder}: {error}", hint=_AGAIN) from error
    by_module = {name.replace("\\", ""): alpha for name, alpha in alphas.items()}
    return {
        module: _scaled(folder, module, pair, by_module.get(module, config.lora_alpha), config)
        for module, pair in sides.items()
    }


def _scaled(
    folder: Path, module: str, pair: Mapping[str, Float32], alpha: float, config: Any
) -> LoraMatrices:
    if set(pair) != {"A", "B"} or pair["A"].shape[1] != pair["B"].shape[0]:
        raise CheckpointInvalid(
            f"the adapter {folder} has no pair of matrices of one rank for {module}",
            hint=_AGAIN,
        )
    rank = pair["A"].shape[1]
    scale = alpha / (math.sqrt(rank) if config.use_rslora else rank)
    if not abs(scale) <= LARGEST_SCALE:
        raise CheckpointInvalid(
            f"the adapter {folder} scales {module} by {scale:g}, expected at most "
            f"{LARGEST_SCALE:g}",
            hint=f"lower lora_alpha in {PEFT_CONFIG}",
        )
    scaled = pair["B"] * np.float32(scale)
    return LoraMatrices(np.ascontiguousarray(pair["A"]), np.ascontiguousarray(scaled))
