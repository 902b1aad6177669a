"""`train lora`: dialogues, their features, the one stage, and the adapter at the end; resumable."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from ..models.reference_checkpoint import FAMILY
from ..models.reference_layout import encoder_of
from ..runtime.errors import CheckpointInvalid, OutputExists, SettingsInvalid
from .best_weights import BestWeights, publish
from .curve import Curve
from .dialogues import Dialogue
from .features import FeatureProgress, features_of
from .launched_team import launched_team
from .live_rows import RowWriter
from .lora_data import LiveStream, batches_of, check_words, live_stream, split_held_out
from .lora_examiner import Examiner
from .lora_model import LoraModel
from .lora_recipe import LoraChoice, LoraTrained
from .lora_stage import LoraStage
from .lora_watching import Watcher
from .reference_recipe import Budget
from .rehearsal import Rehearsal
from .run_folder import RunState, begin_or_continue, load_state, make_folder, save_state
from .shared_base import base_bytes
from .shared_checks import check_base, check_team
from .team import Team
from .training_loop import Loop, Pace, Tell, Told

if TYPE_CHECKING:
    from .two_optimisers import MuonAndAdamW

RUN_FOLDER, RESULT_FOLDER, DONE = "run", "adapter", "done"
REHEARSAL_FOLDER = "rehearsal"
STAGES = (LoraStage.name,)


def train_lora(choice: LoraChoice, tell: Tell, *, force: bool = False) -> LoraTrained | None:
    """Train an adapter and write it; goes on with a run that was cut short.

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
        DialogueInvalid: a text cannot be learned; names file and line.
        AdapterMismatch: the decoder has no layer of a target's name.
        EngineFailed: another process broke off.
        SettingsInvalid: the checkpoint has no silent token, or no room for a row.
        CheckpointInvalid: the run's state is damaged.
    """
    _check(choice)
    check_base(choice)
    with launched_team(choice.device) as team:
        check_team(choice, team)
        folder = choice.out / RUN_FOLDER
        if team.is_first:
            _begin(choice, folder, force=force)
        team.wait()
        return _Run(choice, folder, team, tell).finished()


def _check(choice: LoraChoice) -> None:
    layout, recipe = choice.checkpoint.layout, choice.recipe
    if not layout.silent_ids:
        raise SettingsInvalid(
            f"{choice.checkpoint.source.checkpoint} has no token that says silence, which a model "
            "needs to be trained on a stream",
            hint="train a checkpoint of the family reference or live",
        )
    if recipe.standby_s and len(layout.silent_ids) < 2:
        raise SettingsInvalid(
            f"got --standby {recipe.standby_s:g}, but {choice.checkpoint.source.checkpoint} has no "
            "token for standby",
            hint="leave --standby out, or name one as prompt.standby in config.json",
        )
    most = choice.checkpoint.decoder.config.max_position_embeddings
    if recipe.row_tokens > most:
        raise SettingsInvalid(
            f"got --row-tokens {recipe.row_tokens}, but the decoder has {most} positions",
            hint=f"try --row-tokens {most // 2}",
        )
    if recipe.rehearse and (choice.base is None or choice.checkpoint.source.family != FAMILY):
        raise SettingsInvalid(
            f"got --rehearse {recipe.rehearse}, but {choice.checkpoint.source.checkpoint} is of "
            f"the family {choice.checkpoint.source.family}, expected {FAMILY}",
            hint="leave --rehearse out, or mix dialogues about what it knows with the new ones",
        )
    check_words((*choice.dialogues, *choice.evaluation), choice.checkpoint.tokenizer)


def _begin(choice: LoraChoice, folder: Path, *, force: bool) -> None:
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


def digest_of(dialogues: Sequence[Dialogue]) -> str:
    """sha256 of what is said when, in which videos; where the file lies does not count."""
    told = [[one.video.name, one.from_s, one.to_s,
             [[turn.time_s, turn.role, turn.text, turn.learn] for turn in one.turns]]
            for one in dialogues]  # fmt: skip
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()


class _Run:
    """A run from its state to its end."""

    def __init__(self, choice: LoraChoice, folder: Path, team: Team, tell: Tell) -> None:
        self.choice, self.folder, self.team, self.tell = choice, folder, team, tell
        recipe, checkpoint = choice.recipe, choice.checkpoint
        encode = encoder_of(checkpoint.tokenizer)
        self.writer = RowWriter(checkpoint.layout, encode, checkpoint.tokens_per_frame)
        learned, held = split_held_out(choice.dialogues, recipe.held_out, recipe.seed)
        if choice.evaluation:
            learned, held = choice.dialogues, choice.evaluation
        self.streams, self.held = self._streams(learned), self._streams(held)
        self.batches = batches_of(
            self.streams, epochs=recipe.epochs, rows=recipe.rows,
            most_tokens=recipe.row_tokens, seed=recipe.seed,
        )  # fmt: skip
        self.model = self._adapted()
        watcher = Watcher(self.model, checkpoint.layout, encode, recipe.row_tokens)
        fps, silent = checkpoint.frame_input.fps, checkpoint.layout.silent_ids
        self.examiner = Examiner(self.held, self.writer, recipe.loss, watcher, fps, silent)
        self.best = BestWeights(self.model, folder)
        self.stage = LoraStage(
            self.model, self.streams, self.batches, self.writer, recipe.loss, team,
            portions=recipe.portions, seed=recipe.seed, in_bf16=has_bf16(choice.device),
            rehearsal=self._rehearsal(),
        )  # fmt: skip

    def finished(self) -> LoraTrained | None:
        """Train to the end, and write the adapter."""
        state = load_state(self.folder) or RunState(LoraStage.name)
        optimiser = self.stage.optimiser()
        self._restore(optimiser, state)
        at = (state.stage, state.step)
        curve = Curve(self.folder, STAGES, at) if self.team.is_first else None
        recipe, steps = self.choice.recipe, len(self.batches)
        pace = Pace(recipe.rate, max(1, round(recipe.warm_up * steps)), recipe.checks)
        loop = Loop(
            self.folder, pace, self.team, curve, self.tell, self.choice.checkpoint_s,
            all_check=self.choice.is_shared,
        )  # fmt: skip
        try:
            state = replace(state, notes=self._notes(state), tensors={})
            check = self._checked if self.held else None
            state = loop.run(self.stage, optimiser, Budget(steps=steps), state, check)
        finally:
            if curve is not None:
                curve.close()
        made = self._written(state) if self._takes_part else None
        self.team.wait()
        return made

    @property
    def _takes_part(self) -> bool:
        """Whether this process looks at what is held out: a base that is shared out needs all."""
        return self.team.is_first or self.choice.is_shared

    def _adapted(self) -> LoraModel:
        choice, recipe = self.choice, self.choice.recipe
        shared = choice.is_shared
        made = LoraModel(
            choice.checkpoint, recipe.shape, recipe.seed, choice.device, is_shared=shared
        )
        if shared:
            nn.Module.to(choice.checkpoint.decoder, "meta")  # what it takes is free from here on
            own, whole = base_bytes(made)
            note = f"base: {own / 1e6:.1f} MB of {whole / 1e6:.1f} MB in each process"
            self._tell_first(Told(LoraStage.name, 0, 0.0, {}, note))
        return made

    def _tell_first(self, told: Told) -> None:
        if self.team.is_first:
            self.tell(told)

    def _rehearsal(self) -> Rehearsal | None:
        clips, base = self.choice.recipe.rehearse, self.choice.base
        if not clips or base is None:
            return None
        folder, seed = self.folder / REHEARSAL_FOLDER, self.choice.recipe.seed
        return Rehearsal(self.model, base, folder, self.team, clips, seed)

    def _streams(self, dialogues: Sequence[Dialogue]) -> tuple[LiveStream, ...]:
        """The first process extracts features, the others read them."""
        choice, videos = self.choice, sorted({one.video for one in dialogues})
        if not self.team.is_first:
            self.team.wait()
        found = features_of(choice.checkpoint, videos, choice.cache, tell=self._looked)
        if self.team.is_first:
            self.team.wait()
        standby_s = choice.recipe.standby_s
        return tuple(
            live_stream(one, found[one.video], self.writer, standby_s) for one in dialogues
        )

    def _looked(self, at: FeatureProgress) -> None:
        part = at.time_s / at.length_s if at.length_s else 0.0
        share = (at.number - 1 + (1.0 if at.is_kept else min(1.0, part))) / at.count
        self._tell_first(Told("features", at.number, share, counted="video"))

    def _notes(self, state: RunState) -> dict[str, Any]:
        """What goes with the state: the figures of the base, made once."""
        notes = dict(state.notes)
        if self.held and self._takes_part and "before" not in notes:
            notes["before"] = dict(self.examiner.figures())
        return notes

    def _restore(self, optimiser: MuonAndAdamW, state: RunState) -> None:
        if not state.tensors:
            return
        trained = self.model.trained
        there = {name.removeprefix("lora."): one for name, one in state.tensors.items()
                 if name.startswith("lora.")}  # fmt: skip
        if there.keys() != trained.keys():
            raise CheckpointInvalid(
                f"the run in {self.folder} is of another model than this program makes",
                hint="begin anew with --force, or use the version that the run was begun with",
            )
        with torch.no_grad():
            for name, one in there.items():
                trained[name].copy_(one)
        begin = "optimiser."
        optimiser.restore({name.removeprefix(begin): one for name, one in state.tensors.items()
                           if name.startswith(begin)})  # fmt: skip

    def _checked(self) -> dict[str, float]:
        """The loss on what is held out; the best weights so far are kept."""
        loss = self.examiner.loss_of_all()
        if self.team.is_first:
            self.best.offer(self.stage.steps, loss)
        return {"held_out": loss}

    def _written(self, state: RunState) -> LoraTrained | None:
        """The best weights as an adapter folder, scored; and the run is finished.

        None in all processes but the first.
        """
        before = dict(state.notes.get("before", {}))
        after: dict[str, float] = {}
        if self.held:
            self._checked()
            if self.choice.is_shared:
                self.team.wait()  # until the first has kept them
            self.best.take()
            after = dict(self.examiner.figures())
        if not self.team.is_first:
            return None
        step = self.best.step if self.held else state.step
        facts = {"recipe": self.choice.recipe.as_json(), "steps": state.step, "kept_step": step,
                 "dialogues": len(self.streams), "held_out": len(self.held),
                 "before": before, "after": after}  # fmt: skip
        self.model.save(self.folder / RESULT_FOLDER, facts)
        publish(self.folder / RESULT_FOLDER, self.choice.out)
        save_state(self.folder, RunState(DONE, state.step, state.seconds, notes=state.notes))
        return LoraTrained(self.choice.out, state.step, step, state.seconds, before, after)


def has_bf16(device: str) -> bool:
    """Whether products are computed in bfloat16: on a GPU that has it; a CPU gains nothing."""
    return device.startswith("cuda") and torch.cuda.is_bf16_supported()
