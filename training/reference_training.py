"""`train reference`: the stages in their order, resumable, and the checkpoint folder at the end."""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ..evaluation.world.phrasings import SEEN
from ..models.gate_files import GateMeaning
from ..models.reference_checkpoint import save_reference, uncalibrated
from ..models.reference_model import ReferenceConfig
from ..runtime.engine_pool import usable_cores
from ..runtime.errors import OutputExists
from .curve import Curve
from .gate_thresholds import calibrated
from .gate_traces import figures, held_out_seeds, scored, traces_of
from .narrator_stages import NarratorStage, StreamStage, TextStage
from .reference_card import model_card
from .reference_parts import Parts, parts_of
from .reference_recipe import STAGES, Budget, Recipe, text_of_steps
from .render_ahead import RenderAhead
from .run_folder import RunState, begin_or_continue, load_state, save_state
from .team import Team, team_of
from .token_cache import CLIPS_AT_ONCE, fill_cache, open_cache
from .training_loop import CHECKPOINT_S, Loop, Tell, Told, restore_
from .vision_batches import VisionBatch
from .vision_losses import DenseHeads
from .vision_stage import VisionStage

RUN_FOLDER, CACHE_FOLDER, DONE = "run", "cache", "done"
CHECKED_CLIPS = 24
SCORED_FROM = 1_000_000
"""Held-out clips that are scored begin here, behind those that thresholds are chosen on."""


@dataclass(frozen=True, slots=True)
class TrainingChoice:
    """What is trained, and where.

    Attributes:
        out: checkpoint folder; the run lies in it.
        recipe: all numbers.
        budgets: of each stage.
        device: cpu or cuda.
        renderers: processes that render ahead; 0 renders in the process that trains.
        config: sizes; None for those of the reference assistant.
        checkpoint_s: between two checkpoints, seconds of work.
    """

    out: Path
    recipe: Recipe
    budgets: Mapping[str, Budget]
    device: str = "cpu"
    renderers: int = 0
    config: ReferenceConfig | None = None
    checkpoint_s: float = CHECKPOINT_S


@dataclass(frozen=True, slots=True)
class Trained:
    """What came of a run.

    Attributes:
        out: the checkpoint folder.
        steps: of each stage.
        seconds: of work, by stage.
        held_out: figures of the gate.
    """

    out: Path
    steps: Mapping[str, int]
    seconds: Mapping[str, float]
    held_out: Mapping[str, float]


def train_reference(choice: TrainingChoice, tell: Tell, *, force: bool = False) -> Trained:
    """Train a reference assistant and write its checkpoint; goes on with a run that was cut short.

    Args:
        choice: what, and how long.
        tell: takes how far it is.
        force: begin anew where a run lies there.

    Raises:
        OutputExists: the run in this folder is finished.
        UsageError: the run in this folder was begun with something else.
        CheckpointInvalid: its state is damaged.
    """
    folder = choice.out / RUN_FOLDER
    if force and folder.is_dir():
        shutil.rmtree(folder)
    found = load_state(folder) if folder.is_dir() else None
    if found is not None and found.stage == DONE:
        raise OutputExists(
            f"the run in {folder} is finished",
            hint="name another folder for --out, or begin anew with --force",
        )
    budgets = {name: [one.seconds, one.steps] for name, one in choice.budgets.items()}
    begin_or_continue(folder, {"recipe": choice.recipe.as_json(), "budgets": budgets})
    given = (choice,)
    with team_of(choice.recipe.processes, folder / "meeting", _work, given) as team:
        state = _work(team, choice, tell)
    return Trained(choice.out, state.done, state.notes["seconds"], state.notes["held_out"])


def _work(team: Team, choice: TrainingChoice, tell: Tell = lambda told: None) -> RunState:
    """What every process does, from the stage where the run is to its end."""
    folder = choice.out / RUN_FOLDER
    if choice.device == "cpu":
        torch.set_num_threads(max(1, usable_cores() // team.size))
    state = load_state(folder) or RunState(STAGES[0])
    at = (state.stage, state.step)
    curve = Curve(folder, STAGES, at) if team.is_first else None
    loop = Loop(folder, choice.recipe, team, curve, tell, choice.checkpoint_s)
    try:
        while state.stage != DONE:
            state = _StageRun(choice, loop, state).finished()
    finally:
        if curve is not None:
            curve.close()
    return state


class _StageRun:
    """One stage of a run, from its state to that of the next."""

    def __init__(self, choice: TrainingChoice, loop: Loop, state: RunState) -> None:
        self.choice, self.loop, self.state = choice, loop, state
        self.recipe, self.team = choice.recipe, loop.team
        self.budget = choice.budgets[state.stage]
        self.parts = parts_of(self.recipe.seed, choice.config)
        self.parts.model.to(choice.device)
        self.cache = choice.out / RUN_FOLDER / CACHE_FOLDER
        self._batches: dict[int, VisionBatch] = {}

    def finished(self) -> RunState:
        """Train the stage to its end; every process has the state after it."""
        runs = {"vision": self._vision, "cache": self._cache, "text": self._narrator,
                "stream": self._narrator}  # fmt: skip
        state = runs[self.state.stage]()
        if self.team.is_first:
            self._save_next(state)
        self.team.wait()
        found = load_state(self.loop.folder)
        assert found is not None, "the first process has just saved it"
        return found

    def _vision(self) -> RunState:
        torch.manual_seed(self.recipe.seed)
        heads = DenseHeads(self.parts.model.config.vision["hidden_size"]).to(self.choice.device)
        renderers = self.choice.renderers
        ahead = RenderAhead(self.recipe, self.team, renderers) if renderers else nullcontext()
        with ahead as render:
            model, device = self.parts.model, self.choice.device
            stage = VisionStage(model, heads, self.recipe, self.team, render, device)
            optimiser = stage.optimiser()
            if self.state.tensors:
                restore_({"model.": model, "heads.": heads}, optimiser, self.state)
            return self.loop.run(stage, optimiser, self.budget, self.state, self._checked)

    def _cache(self) -> RunState:
        self._restore_model()
        begun, frames = time.monotonic(), self.recipe.cache_frames

        def is_full(done: int) -> bool:
            own = torch.tensor([self.budget.progress(done, time.monotonic() - begun)])
            progress = float(self.team.average_([], own)[0])
            if self.team.is_first:
                facts = {"frames": float(done * CLIPS_AT_ONCE * frames * self.team.size)}
                self.loop.tell(Told("cache", done, min(progress, 1.0), facts))
            return progress >= 1.0 and done > 0

        done = fill_cache(self.cache, self.parts.model.eval(), self.recipe, self.team, is_full)
        seconds = time.monotonic() - begun
        return RunState("cache", done, seconds, self.state.done, notes=self.state.notes)

    def _narrator(self) -> RunState:
        stage = self._narrator_stage()
        optimiser = stage.optimiser()
        has_optimiser = any(name.startswith("optimiser.") for name in self.state.tensors)
        restore_({"model.": self.parts.model}, optimiser if has_optimiser else None, self.state)
        return self.loop.run(stage, optimiser, self.budget, self.state)

    def _narrator_stage(self) -> NarratorStage:
        model, device = self.parts.model, self.choice.device
        if self.state.stage == "text":
            return TextStage(model, self.recipe, self.team, self.parts.writer, device)
        cache = open_cache(self.cache, self.team.rank)
        meaning = meaning_of(self.parts, self.state.notes)
        writer = self.parts.writer
        return StreamStage(model, self.recipe, self.team, cache, meaning, writer, device)

    def _restore_model(self) -> None:
        restore_({"model.": self.parts.model}, None, self.state)

    def _checked(self) -> dict[str, float]:
        """Figures on a few held-out clips, on which their own thresholds are chosen: a bit kind."""
        seeds = held_out_seeds(SCORED_FROM // 2, CHECKED_CLIPS)
        traces = traces_of(self.parts.model, seeds, self.recipe.cache_frames, self._batches)
        meaning = calibrated(traces, uncalibrated(self.parts.model.config), {})
        return figures(scored(traces, self.parts.model, meaning))

    def _save_next(self, state: RunState) -> None:
        """The state with which the next stage begins; the first process alone."""
        stage, notes = state.stage, dict(state.notes)
        done = {**state.done, stage: state.step}
        notes["seconds"] = {**notes.get("seconds", {}), stage: round(state.seconds, 1)}
        if stage == "vision":
            notes |= self._chosen_thresholds()
        if stage == STAGES[-1]:
            self._write_checkpoint(done, notes)
        following = DONE if stage == STAGES[-1] else STAGES[STAGES.index(stage) + 1]
        tensors = {f"model.{name}": one for name, one in self.parts.model.state_dict().items()}
        save_state(self.loop.folder, RunState(following, 0, 0.0, done, tensors, notes))

    def _chosen_thresholds(self) -> dict[str, Any]:
        """Thresholds on held-out clips, and the gate's figures on others."""
        model, frames, count = (
            self.parts.model,
            self.recipe.cache_frames,
            self.recipe.calibration_clips,
        )
        seeds = held_out_seeds(0, count)
        facts = {"clips": count, "frames": frames, "first_seed": seeds[0], "rules": "training"}
        meaning = calibrated(traces_of(model, seeds, frames), uncalibrated(model.config), facts)
        others = traces_of(model, held_out_seeds(SCORED_FROM, max(1, count // 2)), frames)
        held_out = figures(scored(others, model, meaning))
        told = ", ".join(f"{name} {value:.2f}" for name, value in held_out.items())
        self.loop.tell(Told("vision", self.state.step, 1.0, {}, f"held-out clips: {told}"))
        thresholds = {
            "thresholds": dict(meaning.thresholds),
            "close_ratio": meaning.close_ratio,
            "calibrated_on": facts,
        }
        return {"meaning": thresholds, "held_out": held_out}

    def _write_checkpoint(self, done: Mapping[str, int], notes: Mapping[str, Any]) -> None:
        recipe = self.recipe
        trained = {
            "seed": recipe.seed,
            "processes": recipe.processes,
            "steps": text_of_steps(done),
            "clips_seen": done["vision"] * recipe.clips * recipe.processes,
            "clips_cached": done["cache"] * CLIPS_AT_ONCE * recipe.processes,
            "text_clips": done["text"] * recipe.text_clips * recipe.processes,
            "held_out_clips": max(1, recipe.calibration_clips // 2),
            "calibration_clips": recipe.calibration_clips,
            "recipe": recipe.as_json(),
        }
        save_reference(
            self.choice.out,
            self.parts.model,
            self.parts.tokenizer,
            meaning_of(self.parts, notes),
            name="reference",
            trained=trained,
            questions=example_questions(),
            card=model_card(trained, notes["held_out"]),
        )


def meaning_of(parts: Parts, notes: Mapping[str, Any]) -> GateMeaning:
    """What the gate's scores mean, with the thresholds that a run has chosen."""
    config, chosen = parts.model.config, notes["meaning"]
    return GateMeaning(
        config.events,
        chosen["thresholds"],
        config.attributes,
        config.attributes_of,
        chosen["close_ratio"],
        chosen["calibrated_on"],
    )


def example_questions() -> tuple[str, ...]:
    """One phrasing of each topic, for the proof of an export."""
    return tuple(
        phrasings[0].format(colour="red", clause="the scene change") for phrasings in SEEN.values()
    )
