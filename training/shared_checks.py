"""What a LoRA run over several processes is refused for, before anything is looked at."""

from __future__ import annotations

from ..runtime.errors import CheckpointInvalid, SettingsInvalid, UsageError
from .launched_team import HOW
from .lora_model import check_nf4, check_targets
from .lora_recipe import LoraChoice
from .rounded_layers import check_rounding, rounding_named
from .team import Team

SHARED = f"{HOW} --fsdp"


def check_base(choice: LoraChoice) -> None:
    """Refuse what the decoder cannot have, before hours of features.

    Raises:
        AdapterMismatch: there is no layer of a target's name.
        CheckpointInvalid: it is too large to be whole in every process.
        QualityError, BackendMissing: as `lora_model.check_nf4` says.
        SettingsInvalid: it cannot be read rounded, or not with what else was said.
    """
    shape, stored = choice.recipe.shape, choice.checkpoint.stored_decoder
    check_targets(choice.checkpoint.decoder, shape.targets)
    if stored is not None and not choice.is_shared:
        raise CheckpointInvalid(
            f"the decoder has {stored.shape.n_parameters() / 1e9:.1f} thousand million parameters, "
            "which are not loaded whole into a process",
            hint=f"share it out, {SHARED}, or train a smaller model",
        )
    if shape.is_nf4:
        check_nf4(choice.checkpoint.decoder, shape.targets)
    if not shape.round_to:
        return
    if shape.is_nf4 or choice.is_shared:
        raise SettingsInvalid(
            f"got --round-to {shape.round_to} with --{'qlora' if shape.is_nf4 else 'fsdp'}, "
            "expected one of both",
            hint="--round-to fp32",
        )
    check_rounding(choice.checkpoint.decoder, rounding_named(shape.round_to))


def check_team(choice: LoraChoice, team: Team) -> None:
    """Refuse what these processes cannot do together.

    Raises:
        UsageError, SettingsInvalid: says what.
    """
    rows = choice.recipe.rows
    if rows < team.size:
        raise UsageError(
            f"got --rows {rows} for {team.size} processes, expected one each or more",
            hint=f"--rows {team.size}",
        )
    if not choice.is_shared:
        return
    if team.size == 1:
        raise UsageError("got --fsdp in one process, expected several", hint=SHARED)
    if rows % team.size:
        raise UsageError(
            f"got --fsdp with --rows {rows}, expected a multiple of the {team.size} processes: "
            "all of them read a layer at the same time",
            hint=f"--rows {rows + team.size - rows % team.size}",
        )
    if choice.recipe.shape.is_nf4:
        raise SettingsInvalid(
            "got --fsdp with --qlora, expected one of both: NF4 layers are not shared out",
            hint="leave --fsdp out: each process then keeps the whole base as NF4",
        )
    if choice.recipe.rehearse:
        raise SettingsInvalid(
            f"got --fsdp with --rehearse {choice.recipe.rehearse}, expected one of both",
            hint="leave --fsdp out: a reference assistant is small enough for every process",
        )
