"""A run of `train gate` from its state to its end: stage after stage, then the gate's files."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from ..models.cognition_gate import CognitionGate
from ..models.gate_heads import HeadShape
from ..runtime.errors import DialogueInvalid, UsageError
from .best_weights import BestWeights, publish
from .curve import Curve
from .dialogues import Dialogue
from .features import FeatureProgress, features_of
from .gate_build import copy_extractor_, gate_for, head_shape, shape_for
from .gate_examiner import GateExaminer
from .gate_recipe import GateChoice, GateTrained
from .gate_stage import DISTIL, EXTRACTOR, GATE, GateStage
from .gate_streams import (
    GateBatch,
    GateStream,
    batch_of,
    batches_of,
    gate_stream,
    query_reader,
)
from .gate_writing import meaning_of, save_gate
from .lora_data import split_held_out
from .reference_recipe import Budget
from .run_folder import RunState, load_state, save_state
from .team import Team
from .training_loop import Loop, Pace, Tell, Told, restore_

RESULT_FOLDER, DONE = "gate", "done"


class GateRun:
    """A run from its state to its end.

    Args:
        choice: checked.
        folder: of the run.
        team: who takes part.
        tell: takes how far it is.

    Raises:
        UsageError: there are fewer rows than processes.
        DialogueInvalid: nothing in the dialogues says when to speak.
    """

    def __init__(self, choice: GateChoice, folder: Path, team: Team, tell: Tell) -> None:
        self.choice, self.folder, self.team, self.tell = choice, folder, team, tell
        recipe, checkpoint = choice.recipe, choice.checkpoint
        if recipe.rows < team.size:
            raise UsageError(
                f"got --rows {recipe.rows} for {team.size} processes, expected one each or more"
            )
        learned, held = split_held_out(choice.dialogues, recipe.held_out, recipe.seed)
        if choice.evaluation:
            learned, held = choice.dialogues, choice.evaluation
        self.streams, held_streams = self._streams(learned), self._streams(held)
        if not any((one.speaks & one.learned).any() for one in self.streams):
            raise DialogueInvalid(
                f"{len(learned)} dialogues say nothing unasked, expected moments at which the "
                "assistant speaks, to learn when to speak",
                hint="`edgestream train synthesize --kinds unasked` makes them out of captions",
            )
        self.asked = any(len(one.texts) > 1 for one in (*self.streams, *held_streams))
        shape_for(checkpoint, head_shape(recipe.head, checkpoint), recipe.size, asked=self.asked,
                  spoken=recipe.last_spoke)  # fmt: skip
        self.first_dt_s = 1.0 / checkpoint.frame_input.fps
        facts = checkpoint.gate_facts
        ratio = {} if facts is None or facts.close_ratio is None else {
            "close_ratio": facts.close_ratio
        }  # fmt: skip
        self.examiner = GateExaminer(held_streams, recipe.loss, self.first_dt_s, **ratio)
        self.batches = batches_of(
            self.streams, epochs=recipe.epochs, rows=recipe.rows,
            most_frames=recipe.row_frames, seed=recipe.seed,
        )  # fmt: skip
        self.held = held
        has_own = isinstance(checkpoint.gate, CognitionGate)
        self.stages = (*(() if has_own else (EXTRACTOR,)), GATE,
                       *((DISTIL,) if recipe.distil else ()))  # fmt: skip

    def finished(self) -> GateTrained | None:
        """Train every stage to its end, and write the gate."""
        state = load_state(self.folder) or RunState(self.stages[0])
        at = (state.stage, state.step)
        curve = Curve(self.folder, self.stages, at) if self.team.is_first else None
        try:
            while state.stage != DONE:
                state = self._stage(state, curve)
        finally:
            if curve is not None:
                curve.close()
        made = None
        if self.team.is_first:
            made = self._written(state)
            save_state(self.folder, state)
        self.team.wait()
        return made

    def _stage(self, state: RunState, curve: Curve | None) -> RunState:
        """One stage, from where it is to the beginning of the next."""
        recipe, steps = self.choice.recipe, len(self.batches)
        gate = self._made(state.stage).to(self.choice.device)
        teacher = self._best(GATE) if state.stage == DISTIL else None
        stage = GateStage(state.stage, gate, self._batch_of(state.stage, gate), recipe.loss,
                          self.team, teacher)  # fmt: skip
        optimiser = stage.optimiser()
        if state.tensors:
            restore_({"gate.": gate}, optimiser, state)
        best = self._best_weights(state.stage, gate)
        pace = Pace(recipe.rate, max(1, round(recipe.warm_up * steps)), recipe.checks)
        loop = Loop(self.folder, pace, self.team, curve, self.tell, self.choice.checkpoint_s)

        def check() -> dict[str, float]:
            loss = self.examiner.loss_of(gate)
            best.offer(stage.steps, loss)
            return {"held_out": loss}

        looks = check if self.examiner.streams else None
        state = loop.run(stage, optimiser, Budget(steps=steps), replace(state, tensors={}), looks)
        if self.team.is_first:
            best.offer(steps, self.examiner.loss_of(gate) if looks else 0.0)
        self.team.wait()
        return self._next(state)

    def _next(self, state: RunState) -> RunState:
        done = {**state.done, state.stage: state.step}
        seconds = {**state.notes.get("seconds", {}), state.stage: round(state.seconds, 3)}
        at = self.stages.index(state.stage) + 1
        following = self.stages[at] if at < len(self.stages) else DONE
        next_state = RunState(following, 0, 0.0, done, notes={"seconds": seconds})
        if self.team.is_first and following != DONE:
            save_state(self.folder, next_state)
        return next_state

    def _made(self, stage: str) -> CognitionGate:
        """The gate with which a stage begins."""
        checkpoint, recipe = self.choice.checkpoint, self.choice.recipe
        seed = recipe.seed * 16 + (EXTRACTOR, GATE, DISTIL).index(stage)
        is_small = stage == DISTIL
        size = recipe.size
        if is_small:
            size = replace(size, width=recipe.distil, layers=1)
        head = head_shape(recipe.head, checkpoint) if stage == GATE else HeadShape()
        gate = gate_for(checkpoint, head, size, asked=self.asked, seed=seed,
                        spoken=recipe.last_spoke, anew=is_small)  # fmt: skip
        if stage == GATE and EXTRACTOR in self.stages:
            copy_extractor_(gate, self._best(EXTRACTOR))
        return gate

    def _best(self, stage: str) -> CognitionGate:
        """The gate of a stage that is done, with its best weights."""
        gate = self._made(stage)
        self._best_weights(stage, gate).take()
        return gate.to(self.choice.device).eval().requires_grad_(False)

    def _best_weights(self, stage: str, gate: CognitionGate) -> BestWeights:
        folder = self.folder / f"best-{stage}"
        if self.team.is_first:
            folder.mkdir(exist_ok=True)
        return BestWeights(_Whole(gate), folder)

    def _batch_of(self, stage: str, gate: CognitionGate) -> Callable[[int], GateBatch]:
        reads = list(gate.shape.reads)
        if stage == DISTIL:  # what the teacher reads as well
            reads = list(dict.fromkeys((*reads, *self._made(GATE).shape.reads)))
        recipe = self.choice.recipe

        def batch(step: int) -> GateBatch:
            rows = self.batches[step]
            drawn = np.random.default_rng([recipe.seed, 13, step]).random(len(rows))
            mine = slice(self.team.rank, None, self.team.size)
            dropped = (drawn < recipe.no_query).tolist()[mine]
            made = batch_of(rows[mine], self.streams, reads, self.first_dt_s, dropped)
            return made.to(self.choice.device)

        return batch

    def _streams(self, dialogues: Sequence[Dialogue]) -> tuple[GateStream, ...]:
        """The first process extracts features, the others read them."""
        checkpoint, videos = self.choice.checkpoint, sorted({one.video for one in dialogues})
        if not self.team.is_first:
            self.team.wait()
        found = features_of(checkpoint, videos, self.choice.cache, tell=self._looked)
        if self.team.is_first:
            self.team.wait()
        read, size = query_reader(checkpoint), int(checkpoint.embeddings.shape[1])
        return tuple(gate_stream(one, found[one.video], read, size) for one in dialogues)

    def _looked(self, at: FeatureProgress) -> None:
        if self.team.is_first:
            part = at.time_s / at.length_s if at.length_s else 0.0
            share = (at.number - 1 + (1.0 if at.is_kept else min(1.0, part))) / at.count
            self.tell(Told("features", at.number, share, counted="video"))

    def _written(self, state: RunState) -> GateTrained:
        """The best weights of the last stage with their threshold, as a folder; the run is done."""
        last, seconds = self.stages[-1], state.notes["seconds"]
        gate = self._best(last).cpu()
        best = {stage: self._best_weights(stage, gate).step for stage in self.stages}
        figures: dict[str, float] = {}
        chosen: float | None = None
        if self.held:
            figures = dict(self.examiner.figures(gate))
            chosen = self.examiner.threshold(self.examiner.scores(gate))
        meaning = meaning_of(self.choice.checkpoint, gate, chosen, self.held, self.frames_held)
        made = self.folder / RESULT_FOLDER
        save_gate(made, gate, meaning, self.choice.checkpoint)
        publish(made, self.choice.out)
        return GateTrained(
            self.choice.out, state.done, best, sum(seconds.values()),
            sum(one.numel() for one in gate.parameters()), self.asked, figures,
            gate.shape.reads_spoken,
        )  # fmt: skip

    @property
    def frames_held(self) -> int:
        """Frames of what is held out."""
        return sum(len(one.speaks) for one in self.examiner.streams)


class _Whole:
    """A gate as `BestWeights` takes it: all of it is kept, so that a stage stands by itself."""

    def __init__(self, gate: CognitionGate) -> None:
        self.trained = gate.state_dict()
