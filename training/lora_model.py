"""A checkpoint that is adapted: LoRA in its language model, its connector trained whole or frozen.

The base stays as it is, in full precision, as NF4 (QLoRA), or read as an export will round it. What
is saved is PEFT's own layout, with edgestream_adapter.json beside it, which says of which base it
is.
"""

from __future__ import annotations

import copy
import json
import os
import shutil
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import Cache

from ..models.adapters import FORMAT, OURS, untie_
from ..models.family import Checkpoint
from ..models.peft_library import bitsandbytes_library, peft_library
from ..runtime.errors import AdapterMismatch, BackendMissing, CheckpointInvalid, QualityError
from .packed_prompts import UNLABELLED, PackedBatch
from .rounded_layers import round_, rounded_layers, rounding_named
from .shared_base import share_base_, without_weights

TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
"""Every linear layer of a Llama; VideoLLM-online takes lm_head as well."""
NF4_BLOCK = 64
ROLE = "stream"
"""What the adapter is for: it reads a stream frame by frame, and decides when to speak."""


@dataclass(frozen=True, slots=True)
class LoraShape:
    """What is trained.

    Attributes:
        rank: of each pair of matrices.
        alpha: what they give is scaled by alpha / rank.
        targets: names of linear layers, such as `q_proj` or `lm_head`.
        dropout: of what goes into them, in training.
        is_nf4: the linear layers that are adapted are kept as NF4.
        is_decoder_only: the connector stays as it is, so that several adapters can share a base.
        round_to: scheme that all linear layers are read in while it is trained, the adapter merged;
            empty for full precision. See `rounded_layers`.
    """

    rank: int = 16
    alpha: int = 32
    targets: tuple[str, ...] = TARGETS
    dropout: float = 0.05
    is_nf4: bool = False
    is_decoder_only: bool = False
    round_to: str = ""


class LoraModel(nn.Module):
    """A language model with adapters, and the connector in front of it.

    Args:
        checkpoint: stays as it is.
        shape: of the adapters.
        seed: of their first weights.
        device: that it is trained on.
        is_shared: each process of the team keeps its part of the base; see `shared_base`.

    Raises:
        AdapterMismatch: there is no layer of a target's name.
        CheckpointInvalid: PEFT refuses the decoder.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        shape: LoraShape,
        seed: int,
        device: str,
        *,
        is_shared: bool = False,
    ) -> None:
        super().__init__()
        check_targets(checkpoint.decoder, shape.targets)
        self.shape, self.source = shape, checkpoint.source
        copied = without_weights if is_shared else copy.deepcopy
        decoder: Any = copied(checkpoint.decoder)
        if "lm_head" in shape.targets:
            untie_(decoder)  # what is added to the head stays off the embeddings
        if shape.is_nf4:
            to_nf4_(decoder, shape.targets)
        if shape.round_to:
            round_(decoder, rounding_named(shape.round_to), but=shape.targets)
        decoder.connector = copy.deepcopy(checkpoint.connector).requires_grad_(False)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.peft = _with_lora(decoder, shape)
        self.decoder = decoder
        if is_shared:
            share_base_(self, checkpoint.decoder_weights(), device)
        self.to(device)
        self.device = device

    @property
    def trained(self) -> dict[str, nn.Parameter]:
        """What is trained, by name."""
        return {name: one for name, one in self.peft.named_parameters() if one.requires_grad}

    def logits(self, batch: PackedBatch, tokens: Tensor, states: Tensor | None) -> Tensor:
        """(labels, vocabulary) of the labelled tokens of some rows, in the order of the batch.

        Args:
            batch: its places name (row, token, frame, row of the frame), where `frame` counts the
                frames that are given here.
            tokens: (frames, n, dim) float32 of vision.
            states: (frames, width) float32 of the gate, for a connector that reads it.
        """
        shown = self.decoder.connector(*((tokens,) if states is None else (tokens, states)))
        embeds = self.decoder.get_input_embeddings()(batch.ids).clone()
        rows = shown[batch.places[:, 2], batch.places[:, 3]]
        embeds[batch.places[:, 0], batch.places[:, 1]] = rows.to(embeds.dtype)
        hidden = self.decoder.model(
            inputs_embeds=embeds,
            attention_mask=batch.mask >= 0,  # boolean: right for whatever type is computed in
            position_ids=batch.positions,
            use_cache=False,
        ).last_hidden_state
        logits: Tensor = self.decoder.lm_head(hidden[batch.labels != UNLABELLED])
        return logits

    def next_logits(self, embeds: Tensor, cache: Cache) -> Tensor:
        """(1, 1, vocabulary) behind some rows (1, rows, hidden), which the cache takes."""
        out = self.decoder(
            inputs_embeds=embeds, past_key_values=cache, use_cache=True, logits_to_keep=1
        )
        logits: Tensor = out.logits
        return logits

    def rows(self, ids: Tensor) -> Tensor:
        """What is read of tokens: (…) int64 → (…, hidden)."""
        rows: Tensor = self.decoder.get_input_embeddings()(ids)
        return rows

    def save(self, folder: Path, facts: Mapping[str, Any]) -> None:
        """Write the adapter, whole or not at all; what lies there is replaced.

        Args:
            folder: of PEFT's layout.
            facts: how it was trained, for people and for a repetition.
        """
        fresh = folder.with_name(f".{folder.name}.new")
        shutil.rmtree(fresh, ignore_errors=True)
        self.peft.save_pretrained(str(fresh), save_embedding_layers=False)
        (fresh / "README.md").unlink(missing_ok=True)  # a card of PEFT's with nothing in it
        told = {"format": FORMAT, "base_sha256": self.source.sha256, "role": ROLE,
                "base": self.source.checkpoint, "trained": dict(facts)}  # fmt: skip
        (fresh / OURS).write_text(json.dumps(told, indent=1) + "\n", "utf-8")
        before = folder.with_name(f".{folder.name}.before")
        if folder.is_dir():
            os.replace(folder, before)
        os.replace(fresh, folder)
        shutil.rmtree(before, ignore_errors=True)


def to_nf4_(decoder: Any, targets: tuple[str, ...]) -> None:
    """Replace the linear layers of these names by bitsandbytes' NF4 ones, in place.

    Raises:
        QualityError, BackendMissing: as `check_nf4` says.
    """
    nn4bit: Any = check_nf4(decoder, targets).nn
    for name, layer in _linears(decoder, targets):
        made = nn4bit.Linear4bit(
            layer.in_features, layer.out_features, bias=layer.bias is not None,
            compute_dtype=torch.float32, compress_statistics=False, quant_type="nf4",
        )  # fmt: skip
        made.weight = nn4bit.Params4bit(
            layer.weight.detach().clone(), requires_grad=False, blocksize=NF4_BLOCK,
            compress_statistics=False, quant_type="nf4",
        )  # fmt: skip
        made.bias = layer.bias
        # On a CPU with products of bfloat16, bitsandbytes 0.50 would pack the weights anew at their
        # first reading in eval mode: scales lose digits, and no gradient goes through from then on.
        made.support_avx512bf16_for_cpu = False
        decoder.set_submodule(name, made.to("cpu"))  # moving it is what quantizes it
    decoder.is_loaded_in_4bit = True


def check_nf4(decoder: Any, targets: tuple[str, ...]) -> Any:
    """The library, where these layers can be kept as NF4.

    Raises:
        QualityError: rows of a layer do not fill whole blocks, which bitsandbytes reads wrongly on
            a CPU.
        BackendMissing: bitsandbytes is not installed.
    """
    library = bitsandbytes_library()
    if library is None:
        raise BackendMissing(
            "NF4 needs bitsandbytes, which is not installed here",
            hint="pip install 'edgestream[train]'",
        )
    for name, layer in _linears(decoder, targets):
        if layer.in_features % NF4_BLOCK:
            raise QualityError(
                f"{name} has rows of {layer.in_features} weights, expected a multiple of "
                f"{NF4_BLOCK} for NF4",
                hint="train without --qlora, or leave this layer out of --targets",
            )
    return library


def _linears(decoder: nn.Module, targets: tuple[str, ...]) -> list[tuple[str, nn.Linear]]:
    return [
        (name, layer)
        for name, layer in decoder.named_modules()
        if isinstance(layer, nn.Linear) and name.rpartition(".")[2] in targets
    ]


def _with_lora(decoder: Any, shape: LoraShape) -> Any:
    """PEFT's model around the decoder, in which the layers are replaced in place."""
    peft = peft_library()
    config = peft.LoraConfig(
        r=shape.rank,
        lora_alpha=shape.alpha,
        lora_dropout=shape.dropout,
        target_modules=list(shape.targets),
        modules_to_save=None if shape.is_decoder_only else ["connector"],
        task_type="CAUSAL_LM" if hasattr(decoder, "prepare_inputs_for_generation") else None,
    )
    if shape.round_to:
        config._register_custom_module(rounded_layers(rounding_named(shape.round_to)))
    try:
        with warnings.catch_warnings():
            # peft 0.21 asks transformers 5.23 by a name that is on its way out.
            warnings.filterwarnings("ignore", "`is_gradient_checkpointing`", FutureWarning)
            return peft.get_peft_model(decoder, config)
    except (ValueError, TypeError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise CheckpointInvalid(f"PEFT does not adapt this decoder: {reason}") from error


def check_targets(decoder: nn.Module, targets: tuple[str, ...]) -> None:
    """Refuse a name that no linear layer has.

    Raises:
        AdapterMismatch: names those that there are.
    """
    linear = {
        name.rpartition(".")[2]
        for name, module in decoder.named_modules()
        if isinstance(module, nn.Linear)
    }
    if absent := [name for name in targets if name not in linear]:
        raise AdapterMismatch(
            f"got --targets {absent[0]}, but the decoder has no linear layer of that name",
            hint=f"it has {', '.join(sorted(linear))}",
        )
