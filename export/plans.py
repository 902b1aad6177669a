"""Which weight of a checkpoint is kept how: one plan per part, refused where none can keep it."""

from __future__ import annotations

from collections.abc import Mapping

from torch import nn

from ..models.family import Checkpoint
from ..quant.plan import Plan, Role, TensorInfo, default_rules, plan_for
from ..quant.schemes import PartName, Scheme
from ..runtime.errors import SchemeUnknown
from .graphs import Schemes


def checked_plans(checkpoint: Checkpoint, schemes: Schemes) -> Mapping[PartName, Plan]:
    """The plan of each quantized part.

    Raises:
        SchemeUnknown: the decoder has a matrix that is narrower than the scheme's block: its
            builder would quantize it all the same, and no reference of ours says how well.
    """
    wanted: dict[PartName, tuple[nn.Module, Scheme]] = {
        "vision": (checkpoint.vision, schemes.vision),
        "connector": (checkpoint.connector, schemes.vision),
        "decoder": (checkpoint.decoder, schemes.decoder),
    }
    plans = {
        part: plan_for(tensor_infos(module), default_rules(part, scheme))
        for part, (module, scheme) in wanted.items()
    }
    for decision in plans["decoder"].decisions:
        is_matrix = decision.tensor.role in ("linear", "head")
        if is_matrix and decision.scheme.name != schemes.decoder.name:
            raise SchemeUnknown(
                f"decoder: {decision.tensor.name} cannot be {schemes.decoder.name}: "
                f"{decision.reason}",
                hint="--llm with a smaller block, such as int4-32 or int8, or --llm fp32",
            )
    return plans


def tensor_infos(module: nn.Module) -> list[TensorInfo]:
    """What a plan needs to know of each parameter; embeddings of tokens are left out."""
    owners = {
        f"{name}.{kind}" if name else kind: owner
        for name, owner in module.named_modules()
        for kind, _ in owner.named_parameters(recurse=False)
    }
    return [
        TensorInfo(name, tuple(parameter.shape), _role(name, owners[name], parameter.ndim))
        for name, parameter in module.named_parameters(remove_duplicate=False)
        if not isinstance(owners[name], nn.Embedding) or "position" in name
    ]


def _role(name: str, owner: nn.Module, dimensions: int) -> Role:
    if name.endswith("lm_head.weight"):
        return "head"
    if dimensions == 1:
        return "bias" if name.endswith("bias") else "norm"
    if isinstance(owner, nn.Conv2d):
        return "conv"
    if isinstance(owner, nn.Linear) or name.endswith("in_proj_weight"):
        return "linear"
    return "other"


def plans_text(plans: Mapping[PartName, Plan]) -> str:
    """All plans as a person reads them."""
    return "\n\n".join(f"{part}\n{plan.as_text()}" for part, plan in plans.items())
