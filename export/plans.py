"""Which weight of a checkpoint is kept how: one plan per part, refused where none can keep it."""

from __future__ import annotations

from collections.abc import Mapping

from ..models.family import Checkpoint
from ..quant.plan import Plan, default_rules, plan_for
from ..quant.schemes import PartName
from .decoder_plan import decoder_plan, decoder_schemes, tensor_infos
from .graphs import Schemes


def checked_plans(checkpoint: Checkpoint, schemes: Schemes) -> Mapping[PartName, Plan]:
    """The plan of each quantized part.

    Raises:
        SchemeUnknown: the decoder cannot have its scheme or an exception; see `decoder_schemes`.
    """
    decoder_schemes(checkpoint.decoder, schemes.decoder, schemes.exceptions)
    return {
        "vision": plan_for(
            tensor_infos(checkpoint.vision), default_rules("vision", schemes.vision)
        ),
        "connector": plan_for(
            tensor_infos(checkpoint.connector), default_rules("connector", schemes.vision)
        ),
        "decoder": decoder_plan(checkpoint.decoder, schemes.decoder, schemes.exceptions),
    }


def plans_text(plans: Mapping[PartName, Plan]) -> str:
    """All plans as a person reads them."""
    return "\n\n".join(f"{part}\n{plan.as_text()}" for part, plan in plans.items())
