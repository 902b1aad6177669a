"""`train gate`: dialogues, their features, up to three stages, and the gate at the end; resumable.

The stages: `extractor`, a recurrence with a linear head, where the base has no gate of its own;
`gate`, the chosen head on the extractor, which is frozen from there on; `distil`, a small gate that
is taught by the other, where one is asked for.
"""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

from ..models.cognition_gate import CognitionGate
from ..runtime.errors import OutputExists, SettingsInvalid
from .dialogues import USER
from .gate_build import head_shape, shape_for
from .gate_recipe import GateChoice, GateTrained
from .gate_run import DONE, GateRun
from .launched_team import launched_team
from .lora_data import check_words
from .lora_training import digest_of
from .run_folder import begin_or_continue, load_state, make_folder
from .training_loop import Tell

RUN_FOLDER = "run"


def train_gate(choice: GateChoice, tell: Tell, *, force: bool = False) -> GateTrained | None:
    """Train a gate and write it; goes on with a run that was cut short.

    Under `torchrun` or `accelerate launch` each process reads its share of every batch.

    Args:
        choice: what, and how long.
        tell: takes how far it is; called by the first process alone.
        force: begin anew where a run lies there.

    Returns:
        None in all processes but the first.

    Raises:
        OutputExists: the run in this folder is finished.
        OutputUnwritable: there can be no such folder of the run or of features.
        UsageError: the run in this folder was begun with something else.
        DialogueInvalid: a request has a word that the model does not know; names file and line.
        SettingsInvalid: the base can have no such gate.
        CheckpointInvalid: the run's state is damaged.
    """
    check_choice(choice)
    with launched_team(choice.device) as team:
        folder = choice.out / RUN_FOLDER
        if team.is_first:
            _begin(choice, folder, force=force)
        team.wait()
        return GateRun(choice, folder, team, tell).finished()


def check_choice(choice: GateChoice) -> None:
    """Refuse before hours of work what cannot come to an end."""
    checkpoint, recipe = choice.checkpoint, choice.recipe
    name = checkpoint.source.checkpoint
    if checkpoint.gate is not None and not isinstance(checkpoint.gate, CognitionGate):
        raise SettingsInvalid(
            f"{name} is of the family {checkpoint.source.family}, whose own gate makes what its "
            "language model reads of a frame, expected a base with another gate, or with none",
            hint="train a checkpoint of another family",
        )
    if recipe.distil and checkpoint.connector_reads_state:
        raise SettingsInvalid(
            f"got --distil {recipe.distil}, but the language model of {name} reads the state of "
            "its gate, which a smaller one does not have",
            hint="leave --distil out",
        )
    head = head_shape(recipe.head, checkpoint)
    told = (*choice.dialogues, *choice.evaluation)
    asked = [replace(one, turns=tuple(turn for turn in one.turns if turn.role == USER))
             for one in told]  # fmt: skip
    shape_for(checkpoint, head, recipe.size, asked=any(one.turns for one in asked),
              spoken=recipe.last_spoke)  # fmt: skip
    check_words(asked, checkpoint.tokenizer)  # what the assistant says, a gate does not read


def _begin(choice: GateChoice, folder: Path, *, force: bool) -> None:
    make_folder(choice.cache, "--cache")  # before the old run is thrown away for nothing
    if force and folder.is_dir():
        shutil.rmtree(folder)
    found = load_state(folder) if folder.is_dir() else None
    if found is not None and found.stage == DONE:
        raise OutputExists(
            f"the run in {folder} is finished",
            hint="name another folder for --out, or begin anew with --force",
        )
    begun = {
        "recipe": choice.recipe.as_json(),
        "base": choice.checkpoint.source.sha256,
        "dialogues": digest_of(choice.dialogues),
        "evaluation": digest_of(choice.evaluation),
    }
    begin_or_continue(folder, begun)
