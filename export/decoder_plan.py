"""The plan of a decoder: which matrix gets which scheme, and what its graph cannot mix."""

from __future__ import annotations

from collections.abc import Mapping

from torch import nn

from ..models.text_decoder import Decoder
from ..quant.plan import Plan, Role, Rule, TensorInfo, default_rules, plan_for
from ..quant.schemes import Scheme
from ..runtime.errors import SchemeUnknown
from .decoder_onnx import weights_of


def decoder_plan(decoder: Decoder, scheme: Scheme, exceptions: tuple[Rule, ...] = ()) -> Plan:
    """The plan of all tensors; a tied head is `lm_head.weight`.

    Raises:
        SchemeUnknown: a matrix is narrower than its scheme's block: no reference of ours says what
            an engine makes of it; or an exception matches no matrix.
    """
    rules = (*exceptions, *default_rules("decoder", scheme))
    plan = plan_for(tensor_infos(decoder), rules)
    for decision in plan.decisions:
        is_matrix = decision.tensor.role in ("linear", "head")
        if is_matrix and decision.scheme.name != decision.rule.scheme.name:
            raise SchemeUnknown(
                f"decoder: {decision.tensor.name} cannot be {decision.rule.scheme.name}: "
                f"{decision.reason}",
                hint="--llm with a smaller block, such as int4-32 or int8, or --llm fp32",
            )
    for rule in plan.idle_rules:
        if rule in exceptions:
            raise SchemeUnknown(
                f"decoder: the exception {rule.pattern}={rule.scheme.name} matches no matrix",
                hint="`edgestream export --report FILE` lists their names, as model.layers.0.*",
            )
    return plan


def decoder_schemes(
    decoder: Decoder, scheme: Scheme, exceptions: tuple[Rule, ...] = ()
) -> Mapping[str, Scheme]:
    """Name of each parameter that is a matrix of the graph → its scheme.

    Raises:
        SchemeUnknown: as `decoder_plan` says; or matrices that the graph packs into one differ.
    """
    plan = decoder_plan(decoder, scheme, exceptions)
    planned = {decision.tensor.name: decision.scheme for decision in plan.decisions}
    found: dict[str, Scheme] = {}
    for weight in weights_of(decoder):
        is_head = weight.name.startswith("lm_head")
        names = ("lm_head.weight",) if is_head else weight.parameters
        schemes = [planned[name] for name in names]
        if len({one.name for one in schemes}) > 1:
            told = ", ".join(f"{n} {s.name}" for n, s in zip(names, schemes, strict=True))
            raise SchemeUnknown(
                f"decoder: {told}: the graph multiplies by them at once, so they need one scheme",
                hint="name them together, as *.self_attn.[qkv]_proj.*=int8",
            )
        found |= dict(zip(weight.parameters, schemes, strict=True))
    return found


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
