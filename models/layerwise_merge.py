"""A LoRA adapter merged matrix by matrix, for a checkpoint whose decoder stays in its files."""

from __future__ import annotations

import copy
import warnings
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from ..runtime.errors import CheckpointInvalid
from .adapters import PEFT_CONFIG, fitting_adapter, lora_module, merged_by_peft
from .family import Checkpoint


@dataclass(frozen=True, slots=True)
class LayerwiseAdapter:
    """An adapter that fits a checkpoint.

    Attributes:
        folder: PEFT's.
        modules: linear layers that it changes, as the decoder names them.
        assumed: what was taken on trust; None for nothing.
    """

    folder: Path
    modules: tuple[str, ...]
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


def layerwise_adapter(checkpoint: Checkpoint, folder: Path) -> LayerwiseAdapter:
    """The adapter in a folder, checked against a checkpoint as `merge_adapter` does.

    Raises:
        as `merge_adapter`; also CheckpointInvalid for one that brings more than LoRA matrices.
    """
    stored, assumed = fitting_adapter(checkpoint, folder)
    modules: dict[str, None] = {}
    for name in stored:
        module = lora_module(name)
        if module is None:
            raise CheckpointInvalid(
                f"the adapter {folder} brings {name} in full, expected LoRA matrices alone where "
                "the decoder is too large for the memory",
                hint="merge it with peft on a machine with more memory",
            )
        if module.startswith("connector."):
            raise CheckpointInvalid(
                f"the adapter {folder} changes the projector ({name}), expected the decoder alone "
                "where that is too large for the memory",
                hint="merge it with peft on a machine with more memory",
            )
        modules[module] = None
    _check_config(checkpoint, folder, set(modules))
    return LayerwiseAdapter(folder, tuple(modules), assumed)


def _check_config(checkpoint: Checkpoint, folder: Path, modules: set[str]) -> None:
    """What the adapter's config chooses of the decoder is what its tensors are for."""
    from peft import LoraConfig, get_peft_model
    from peft.tuners.lora import LoraLayer

    config = LoraConfig.from_pretrained(str(folder))
    config.task_type = None
    if isinstance(config.target_modules, str):
        return  # an expression may be about names around the decoder, which only PEFT's base has
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with torch.device("meta"):
            shape = get_peft_model(
                copy.deepcopy(checkpoint.decoder), config, low_cpu_mem_usage=True
            )
    prefix = "base_model.model."
    chosen = {
        name.removeprefix(prefix)
        for name, module in shape.named_modules()
        if isinstance(module, LoraLayer)
    }
    if differing := sorted(chosen ^ modules):
        raise CheckpointInvalid(
            f"the adapter {folder} and its {PEFT_CONFIG} do not agree on {differing[0]} and "
            f"{len(differing) - 1} more"
        )
