"""The loop of every stage: a step, a point of the curve, now and then a checkpoint."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from ..runtime.errors import CheckpointInvalid, QualityError
from .curve import Curve
from .interruption import after_the_step
from .learning_rate import rate_at
from .reference_recipe import Budget
from .run_folder import RunState, save_state
from .team import Team
from .two_optimisers import MuonAndAdamW

CHECKPOINT_S = 300.0
"""Between two checkpoints, seconds of work."""
POINT_STEPS = 10
"""Steps between two points of the curve."""
SMOOTHING = 0.95


@dataclass(frozen=True, slots=True)
class Told:
    """How far a run is.

    Attributes:
        stage: that is under way.
        step: steps of it that are done.
        progress: share of it that is done, 0 to 1.
        values: smoothed losses and rates, by name.
        note: a sentence for people; empty between two of them.
        counted: what `step` counts.
    """

    stage: str
    step: int
    progress: float
    values: Mapping[str, float] = field(default_factory=dict)
    note: str = ""
    counted: str = "step"


Tell = Callable[[Told], None]
Check = Callable[[], Mapping[str, float]]


class Stage(Protocol):
    """What differs from stage to stage.

    Attributes:
        name: for the curve.
        along: (from, to), the stretch of the rate's cosine that the stage goes along.
    """

    name: str
    along: tuple[float, float]

    def losses(self, step: int, progress: float) -> tuple[dict[str, Tensor], dict[str, float]]:
        """Terms of the loss of one step, and numbers for the curve, such as how much was read."""
        ...

    def tensors(self) -> dict[str, Tensor]:
        """All weights, for a checkpoint."""
        ...


class Rates(Protocol):
    """What of a recipe the loop reads."""

    @property
    def rate(self) -> float:
        """The highest learning rate."""
        ...

    @property
    def warm_up_steps(self) -> int:
        """Over which it rises."""
        ...

    @property
    def checks(self) -> int:
        """Times that a stage is looked at on held-out data, plus one."""
        ...


@dataclass(frozen=True, slots=True)
class Pace:
    """Rates without the rest of a recipe; see there."""

    rate: float
    warm_up_steps: int
    checks: int


@dataclass(frozen=True, slots=True)
class Loop:
    """Where and how a run is trained.

    Attributes:
        folder: of the run.
        recipe: of the run.
        team: of processes.
        curve: None in all processes but the first.
        tell: takes how far it is; called by the first process alone.
        checkpoint_s: between two checkpoints, seconds of work.
        all_check: every process looks at what is held out, as a model that is shared out needs it.
    """

    folder: Path
    recipe: Rates
    team: Team
    curve: Curve | None
    tell: Tell
    checkpoint_s: float = CHECKPOINT_S
    all_check: bool = False

    def run(
        self,
        stage: Stage,
        optimiser: MuonAndAdamW,
        budget: Budget,
        state: RunState,
        check: Check | None = None,
    ) -> RunState:
        """Train until the budget is used; the state after it, without tensors.

        At Ctrl-C the step is ended, and a checkpoint written, where no other process waits.

        Args:
            stage: its weights are changed.
            optimiser: of the weights that this stage trains.
            budget: of the stage.
            state: where the stage is; its tensors are in use already.
            check: gives figures for the curve, as often as the recipe says, in the first process
                or in all.
        """
        with after_the_step(self.team.size == 1) as is_stopped:
            return self._run(stage, optimiser, budget, state, check, is_stopped)

    def _run(
        self, stage: Stage, optimiser: MuonAndAdamW, budget: Budget, state: RunState,
        check: Check | None, is_stopped: Callable[[], bool],
    ) -> RunState:  # fmt: skip
        step, before_s = state.step, state.seconds
        begun, saved_s = time.monotonic(), state.seconds
        smooth: dict[str, float] = dict(state.notes.get("smooth", {}))
        notes = {name: one for name, one in state.notes.items() if name != "smooth"}
        # In float32, as the processes tell it to each other: or a resumed run has another rate.
        progress = float(torch.tensor(budget.progress(step, before_s), dtype=torch.float32))
        checks = self.recipe.checks
        while progress < 1.0:
            optimiser.clear()  # before: a stage may take a part of a batch back by itself
            terms, facts = stage.losses(step, progress)
            total = torch.stack(list(terms.values())).sum()
            total.backward()  # type: ignore[no-untyped-call]
            seconds = before_s + time.monotonic() - begun
            numbers = [budget.progress(step + 1, seconds)]
            numbers += [float(term.detach()) for term in terms.values()]
            shared = self._averaged(optimiser, numbers)
            norm = optimiser.step(self._rate(stage, step, progress))
            is_due = int(shared[0] * checks) > int(progress * checks) and shared[0] < 1.0
            step, progress = step + 1, shared[0]
            values = {**dict(zip(terms, shared[1:], strict=True)), **facts, "norm": norm}
            self._check(stage.name, step, values)
            self._log(stage.name, step, progress, seconds, values, smooth)
            if check is not None and is_due and (self.team.is_first or self.all_check):
                self._tell_check(stage.name, step, progress, check())
            if self.team.is_first and (is_stopped() or seconds - saved_s >= self.checkpoint_s):
                kept = {**notes, "smooth": smooth}
                at = RunState(stage.name, step, seconds, state.done, notes=kept)
                self.save(stage, optimiser, at)
                saved_s = seconds
            if is_stopped():
                note = f"stopped after step {step}: the same command goes on from there"
                self.tell(Told(stage.name, step, min(progress, 1.0), {}, note))
                raise KeyboardInterrupt
        seconds = before_s + time.monotonic() - begun
        return RunState(stage.name, step, seconds, state.done, notes=notes)

    def save(self, stage: Stage, optimiser: MuonAndAdamW, state: RunState) -> None:
        """Write a checkpoint of a stage that is under way."""
        tensors = stage.tensors()
        tensors |= {f"optimiser.{name}": one for name, one in optimiser.state().items()}
        save_state(
            self.folder,
            RunState(state.stage, state.step, state.seconds, state.done, tensors, state.notes),
        )

    def _rate(self, stage: Stage, step: int, progress: float) -> float:
        first, last = stage.along
        along = first + (last - first) * progress
        return rate_at(self.recipe.rate, step, along, self.recipe.warm_up_steps)

    def _tell_check(
        self, stage: str, step: int, progress: float, figures: Mapping[str, float]
    ) -> None:
        if not self.team.is_first:
            return
        if self.curve is not None:
            self.curve.add(stage, step, {"check": True, **figures})
        told = ", ".join(f"{name} {value:.2f}" for name, value in figures.items())
        self.tell(Told(stage, step, min(progress, 1.0), {}, f"{stage} step {step}: {told}"))

    def _averaged(self, optimiser: MuonAndAdamW, numbers: list[float]) -> list[float]:
        """Progress and losses as all processes have them; the gradients become their average."""
        gradients = []
        for parameter in optimiser.parameters.values():
            if parameter.grad is None:  # a head that nothing in this batch asked for
                parameter.grad = torch.zeros_like(parameter)
            gradients.append(parameter.grad)
        device = gradients[0].device
        averaged = self.team.average_(gradients, torch.tensor(numbers, device=device))
        return [float(number) for number in averaged]

    def _check(self, stage: str, step: int, values: Mapping[str, float]) -> None:
        if not all(abs(value) < float("inf") for value in values.values()):
            raise QualityError(
                f"step {step} of the stage {stage} has a loss that is no number: {dict(values)}",
                hint="repeat the command: it goes on from the last checkpoint; else lower the rate",
            )

    def _log(
        self,
        stage: str,
        step: int,
        progress: float,
        seconds: float,
        values: Mapping[str, float],
        smooth: dict[str, float],
    ) -> None:
        if not self.team.is_first:
            return
        for name, value in values.items():
            old = smooth.get(name, value)
            smooth[name] = SMOOTHING * old + (1.0 - SMOOTHING) * value
        self.tell(Told(stage, step, min(progress, 1.0), dict(smooth)))
        if self.curve is not None and step % POINT_STEPS == 0:
            point: dict[str, Any] = {"seconds": round(seconds, 1), "progress": progress, **smooth}
            self.curve.add(stage, step, point)


def restore_(
    modules: Mapping[str, nn.Module], optimiser: MuonAndAdamW | None, state: RunState
) -> None:
    """Put a checkpoint back.

    Args:
        modules: prefix of the names → module; all of its parameters must be there.
        optimiser: of the stage; None to begin it.
        state: of `run_folder.load_state`.
    """
    for prefix, module in modules.items():
        own = {
            name.removeprefix(prefix): tensor
            for name, tensor in state.tensors.items()
            if name.startswith(prefix)
        }
        try:
            module.load_state_dict(own, strict=True)
        except RuntimeError as error:
            raise CheckpointInvalid(
                f"the run is of another model than this program makes: {error}",
                hint="begin anew with --force, or use the version that the run was begun with",
            ) from error
    if optimiser is not None:
        begin = "optimiser."
        optimiser.restore(
            {
                name.removeprefix(begin): tensor
                for name, tensor in state.tensors.items()
                if name.startswith(begin)
            }
        )
