"""A LoRA adapter merged matrix by matrix into the files of a checkpoint of the Hub.

It may change any linear layer of the model, in the tower too, whatever its size.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from ..runtime.errors import AdapterMismatch, CheckpointInvalid
from .adapters import PEFT_CONFIG, adapter_tensors, lora_module, merged_by_peft
from .decoder_weights import EMBEDDINGS, HEAD
from .family import Checkpoint
from .large_model import decoder_names
from .peft_library import peft_library
from .weights import Stored


@dataclass(frozen=True, slots=True)
class LayerwiseAdapter:
    """An adapter that fits the files of a checkpoint.

    Attributes:
        folder: PEFT's.
        tensors: linear layer that it changes → name of the tensor that it is merged with; of a
            head that is tied, the table of embeddings.
        assumed: what was taken on trust; None for nothing.
    """

    folder: Path
    tensors: Mapping[str, str]
    assumed: str | None

    def merged(self, module: str, weight: Tensor) -> Tensor:
        """W + scale * B A of one layer, float32, as PEFT merges it; `weight` is (out, in).

        Cost: this matrix twice, in float32.
        """
        *outer, last = module.split(".")
        holder = place = nn.Module()
        for name in outer:
            place.add_module(name, nn.Module())
            place = place.get_submodule(name)
        layer = nn.Linear(weight.shape[1], weight.shape[0], bias=False, device="meta")
        layer.weight = nn.Parameter(weight.float(), requires_grad=False)
        place.add_module(last, layer)
        done: nn.Module = merged_by_peft(holder, self.folder, only=module)
        return done.get_parameter(f"{module}.weight").detach()


def layerwise_adapter(
    checkpoint: Checkpoint, folder: Path, weights: Mapping[str, Stored]
) -> LayerwiseAdapter:
    """The adapter in a folder, checked against a checkpoint and its files.

    Args:
        checkpoint: its decoder may be on the device `meta`.
        folder: of the adapter.
        weights: what the files of the checkpoint hold.

    Raises:
        as `merge_adapter`; also CheckpointInvalid for one that brings more than LoRA matrices.
    """
    stored, assumed = adapter_tensors(checkpoint, folder)
    names, tensors = decoder_names(weights), {}
    for name, lora in stored.items():
        module = lora_module(name)
        if module is None:
            raise CheckpointInvalid(
                f"the adapter {folder} brings {name}, expected nothing but LoRA matrices of "
                "linear layers",
                hint="merge it with peft (merge_and_unload, save_pretrained)",
            )
        tensors[module] = _tensor_of(module, names, weights)
        _check_shape(name, lora.shape, weights[tensors[module]].shape)
    _check_config(checkpoint, folder, set(tensors))
    return LayerwiseAdapter(folder, tensors, assumed)


def _tensor_of(module: str, names: Mapping[str, str], weights: Mapping[str, Stored]) -> str:
    name = f"{module}.weight"
    tied = names.get(EMBEDDINGS) if name == HEAD else None
    # VideoLLaMA3's connector is the readout of its projector, whose name begins in two ways.
    inside = f"projector.readout.{name.removeprefix('connector.')}"
    readout = next((one for one in weights if one.endswith(inside)), None)
    # Files of older releases do not have the outermost part of a name.
    for candidate in (names.get(name), name, name.removeprefix("model."), tied, readout):
        if candidate is not None and candidate in weights:
            return candidate
    raise AdapterMismatch(
        f"the adapter changes {module}, which this checkpoint does not have",
        hint="give the checkpoint that it was trained on",
    )


def _check_shape(name: str, lora: tuple[int, ...], weight: tuple[int, ...]) -> None:
    """A is (rank, in) and B (out, rank) of a weight (out, in)."""
    side = 1 if ".lora_A." in name else 0
    if len(lora) != 2 or len(weight) != 2 or lora[side] != weight[side]:
        raise AdapterMismatch(
            f"the adapter's {name} has the shape {list(lora)}, which does not fit the weight "
            f"{list(weight)} of this checkpoint",
            hint="give the checkpoint that it was trained on",
        )


def _check_config(checkpoint: Checkpoint, folder: Path, modules: set[str]) -> None:
    """What the adapter's config chooses of the decoder has tensors."""
    peft = peft_library()

    config = peft.LoraConfig.from_pretrained(str(folder))
    config.task_type = None
    if isinstance(config.target_modules, str):
        return  # an expression may be about names around the decoder, which only PEFT's base has
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        bare: Any = copy.deepcopy(checkpoint.decoder)
        bare.to("meta")
        try:
            chosen = peft.get_peft_model(bare, config, low_cpu_mem_usage=True).named_modules()
        except ValueError:
            return  # so may names be
    found = {name for name, module in chosen if isinstance(module, peft.tuners.lora.LoraLayer)}
    if absent := sorted({name.removeprefix("base_model.model.") for name in found} - modules):
        raise CheckpointInvalid(
            f"the adapter {folder} and its {PEFT_CONFIG} do not agree on {absent[0]} and "
            f"{len(absent) - 1} more"
        )
