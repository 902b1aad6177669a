"""Which weight of a checkpoint is kept how: one plan per part, refused where none can keep it."""

from __future__ import annotations

from collections.abc import Mapping

from ..models.family import Checkpoint
from ..quant.llm_words import variant_name
from ..quant.plan import Plan, default_rules, plan_for
from ..quant.schemes import PartName
from ..runtime.errors import SchemeUnknown, SettingsInvalid
from ..runtime.prompt_layout import ids_of
from ..runtime.speaking import slots_needed
from .decoder_plan import decoder_plan, decoder_schemes, tensor_infos
from .graphs import Schemes
from .layer_writer import LARGEST_POSITION

CAPACITY_STEP = 64


def checked_plans(checkpoint: Checkpoint, schemes: Schemes) -> Mapping[PartName, Plan]:
    """The plan of each quantized part.

    Raises:
        SchemeUnknown: the decoder cannot have its scheme or an exception; see `decoder_schemes`.
    """
    if checkpoint.stored_decoder is not None:
        _refuse_what_needs_memory(schemes)
    decoder_schemes(checkpoint.decoder, schemes.decoder, schemes.exceptions)
    # A graph that was handed in has a plan of its own.
    seen: tuple[PartName, ...] = () if schemes.vision_file is not None else ("vision",)
    return {
        **{
            part: plan_for(tensor_infos(checkpoint.vision), default_rules(part, schemes.vision))
            for part in seen
        },
        "connector": plan_for(
            tensor_infos(checkpoint.connector), default_rules("connector", schemes.vision)
        ),
        "decoder": decoder_plan(checkpoint.decoder, schemes.decoder, schemes.exceptions),
    }


def check_capacity(checkpoint: Checkpoint, capacity: int) -> None:
    """Refuse a cache with more positions than the decoder can tell apart, or too few to speak.

    Raises:
        SettingsInvalid: it has; with a capacity that would do, where there is one.
    """
    most = min(checkpoint.decoder_weights().shape.max_positions, LARGEST_POSITION)
    if capacity > most:
        raise SettingsInvalid(
            f"got --capacity {capacity}, expected at most {most}, the positions of this decoder",
            hint="512 to 2048 keep a device fast; the stream may be of any length",
        )
    tokens, tokenizer = checkpoint.tokens_per_frame, checkpoint.tokenizer
    needed = slots_needed(checkpoint.layout, lambda text: ids_of(tokenizer, text), tokens)
    if capacity < needed:
        enough = -(-needed // CAPACITY_STEP) * CAPACITY_STEP
        raise SettingsInvalid(
            f"got --capacity {capacity}, expected {needed} or more: the shortest question about "
            f"one frame of {tokens} tokens takes {needed // 2} positions, and an answer may take "
            "as many",
            hint=f"--capacity {enough}, or smaller frames: --frame-px or --tokens-per-frame"
            if enough <= most
            else "smaller frames: --frame-px or --tokens-per-frame",
        )


def _refuse_what_needs_memory(schemes: Schemes) -> None:
    """A decoder that stays in its files is rounded and proven in one pass over them."""
    scheme = schemes.decoder
    is_rounded = scheme.method == "nearest" and scheme.weights != "nf4"
    if is_rounded and not schemes.exceptions and schemes.cache == "float32":
        return
    words = variant_name(scheme, schemes.exceptions)
    raise SchemeUnknown(
        f"decoder: got {words} with a cache of {schemes.cache}, expected one scheme that rounds "
        "(int4-64, int8-32, …) and a cache of float32: this decoder is too large for the memory "
        "and stays in its files",
        hint="--llm int4, or export on a machine with more memory",
    )


def plans_text(plans: Mapping[PartName, Plan]) -> str:
    """All plans as a person reads them."""
    return "\n\n".join(f"{part}\n{plan.as_text()}" for part, plan in plans.items())
