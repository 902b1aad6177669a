"""A frozen base that is shared out: of each of its matrices a process keeps its part (FSDP).

A layer is put together before it computes and let go of behind it, forwards and backwards. What is
trained is small, and whole in every process, so that checkpoints and adapters are as ever.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import distributed, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor

from ..models.decoder_weights import HEAD, DecoderWeights, head_name

if TYPE_CHECKING:
    from .lora_model import LoraModel

LAYERS = "model.layers."
READING = ("logits", "next_logits", "rows")
"""Methods of the model that read the base."""


def without_weights(decoder: Any) -> Any:
    """The same module with one zero in the place of each parameter, which takes no memory.

    Not on the device `meta`: PEFT would put its adapters there too.
    """
    memo: dict[int, Any] = {
        id(one): nn.Parameter(torch.zeros(()).expand(one.shape), requires_grad=False)
        for one in decoder.parameters()
    }
    made = copy.deepcopy(decoder, memo)
    for name, module in list(made.named_modules()):
        if any(one.is_meta for one in module.buffers(recurse=False)):  # they are in no file
            made.set_submodule(name, type(module)(config=made.config))
    return made


def share_base_(model: LoraModel, weights: DecoderWeights, device: str) -> None:
    """Give a model that is `without_weights` its part of them, a layer at a time.

    Args:
        model: with its adapters, which are left out.
        weights: of the base.
        device: cpu or cuda, of this process.

    Cost: each process reads all weights; no more than a layer, or a table of tokens, is whole in
        memory at a time.
    Source: PyTorch's `fully_shard` (FSDP2).
    """
    mesh = init_device_mesh(torch.device(device).type, (distributed.get_world_size(),))
    # The connector is read outside of the layers that gather themselves, also where it is frozen.
    whole = {*model.trained.values(), *model.decoder.connector.parameters()}
    for at, layer in enumerate(model.decoder.model.layers):
        _fill_(layer, f"{LAYERS}{at}.", weights)
        fully_shard(layer, mesh=mesh, reshard_after_forward=True, ignored_params=whole)
    _fill_(model.decoder, "", weights)
    fully_shard(model, mesh=mesh, reshard_after_forward=True, ignored_params=whole)
    for method in READING:
        register_fsdp_forward_method(cast(nn.Module, model), method)


def base_bytes(model: LoraModel) -> tuple[int, int]:
    """(in this process, altogether), of what is not trained."""
    frozen = [one for one in model.parameters() if not one.requires_grad]
    own = [one.to_local() if isinstance(one, DTensor) else one for one in frozen]
    return tuple(sum(one.nbytes for one in some) for some in (own, frozen))  # type: ignore[return-value]


def _fill_(module: nn.Module, prefix: str, weights: DecoderWeights) -> None:
    """Put the weights of the base into their places; what has two places is put into both."""
    put: dict[str, nn.Parameter] = {}
    for name, one in list(module.named_parameters(remove_duplicate=False)):
        inside = f"{prefix}{name}".replace(".base_layer.", ".")
        inside = head_name(weights.shape) if inside == HEAD else inside
        if inside not in weights.shape.parameters() or isinstance(one, DTensor):
            continue
        if inside not in put:
            values = torch.from_numpy(weights.tensor(inside))
            put[inside] = nn.Parameter(values, requires_grad=False)
        place, _, leaf = name.rpartition(".")
        setattr(module.get_submodule(place), leaf, put[inside])
