"""The recipe of the reference assistant: every number of its training, with its reason."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from ..evaluation.world import WorldRules

STAGES = ("vision", "cache", "text", "stream")
"""In this order: vision and gate; their frozen tokens; the narrator on text, then on streams."""
TRAINING_SEEDS, CALIBRATION_SEEDS = 2**30, 2**31
"""Clips below the first number are for training, from there to the second for thresholds; those of
the frozen set lie above both."""
SEEDS_A_RUN = 2**25
"""Clips that one stage of one run may take from the training seeds: 8 stages fit side by side."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """How a reference assistant is trained; what is not said otherwise is from the trial.

    Attributes:
        seed: of weights and data.
        processes: that average their gradients, one thread each on a CPU.
        clips: of a step of each process.
        frames: of a clip; late_frames in the last late_share of the stage, for longer memory.
        late_share: share of the vision stage.
        rate: learning rate of Muon and AdamW alike.
        warm_up_steps: over which it rises.
        shares: of the time, by stage; the rest is for choosing thresholds and scoring.
        cache_frames: of a cached clip; that of the frozen set.
        cache_clips: of each process, at most: 2.9 kB a frame.
        text_clips: of a step of the text-only curriculum, of each process.
        stream_clips: of a step on streams, of each process.
        described: frames that are described in a step on streams, of each process.
        own_from: share of the stream stage after which the model reads its own sentences.
        reused: share of clips in which still frames bring the tokens of the frame before.
        other_rates: share of clips at another interval than 0.25 s.
        checks: times that the vision stage is looked at on held-out clips, plus one.
        looks: backgrounds and things that clips are made of; they are painted once by each process,
            0.06 s a background.
        first_look: number of the first of them.
        calibration_clips: on which thresholds are chosen; half as many others are scored.
    """

    seed: int = 0
    processes: int = 1
    clips: int = 8
    frames: int = 16
    late_frames: int = 32
    late_share: float = 0.1
    rate: float = 2.5e-3
    warm_up_steps: int = 60
    shares: tuple[float, float, float, float] = (0.58, 0.05, 0.06, 0.28)
    cache_frames: int = 40
    cache_clips: int = 2500
    text_clips: int = 12
    stream_clips: int = 3
    described: int = 24
    own_from: float = 0.6
    reused: float = 0.3
    other_rates: float = 0.3
    checks: int = 8
    looks: int = 600
    first_look: int = 0
    calibration_clips: int = 300

    def rules(self) -> WorldRules:
        """Of the world that is trained on."""
        return WorldRules(first_look=self.first_look, looks=self.looks)

    def as_json(self) -> dict[str, Any]:
        """What is kept of it beside the weights."""
        return {**asdict(self), "shares": list(self.shares)}

    def clip_seed(self, stage: str, number: int) -> int:
        """Seed of the clip with a number, counted over all processes."""
        first = STAGES.index(stage) * SEEDS_A_RUN
        return first + (self.seed * 7_368_787 + number) % SEEDS_A_RUN


QUICK = replace(
    Recipe(), shares=(0.72, 0.03, 0.05, 0.12), cache_clips=240, calibration_clips=60,
    warm_up_steps=30, checks=2, looks=48,
)  # fmt: skip
"""For a few minutes: most of them go to what is hardest to learn, the pixels."""


@dataclass(frozen=True, slots=True)
class Budget:
    """How long a stage lasts: so many seconds, or so many steps.

    Attributes:
        seconds: of work; 0 where steps count.
        steps: 0 where seconds count.
    """

    seconds: float = 0.0
    steps: int = 0

    def progress(self, step: int, seconds: float) -> float:
        """Share that is done, 0 to 1 and beyond."""
        if self.steps:
            return step / self.steps
        return seconds / self.seconds if self.seconds else 1.0


def budgets_of_minutes(recipe: Recipe, minutes: float) -> dict[str, Budget]:
    """The budget of every stage, by time."""
    return {
        stage: Budget(seconds=60.0 * minutes * share)
        for stage, share in zip(STAGES, recipe.shares, strict=True)
    }


def budgets_of_steps(steps: Mapping[str, int]) -> dict[str, Budget]:
    """The budget of every stage, by steps; a stage that is not named has none."""
    return {stage: Budget(steps=steps.get(stage, 0)) for stage in STAGES}


def steps_from_text(text: str) -> dict[str, int]:
    """Steps by stage, of `3000` or of `vision=3000,cache=150,text=300,stream=900`.

    A number alone is that of the vision stage; the others follow as in the committed run.

    Raises:
        ValueError: it is neither.
    """
    if text.strip().isdigit():
        count = int(text)
        return {"vision": count, "cache": max(1, count // 8), "text": max(1, count // 10),
                "stream": max(1, count // 4)}  # fmt: skip
    found: dict[str, int] = {}
    for part in text.split(","):
        name, _, number = part.partition("=")
        if name.strip() not in STAGES or not number.strip().isdigit():
            raise ValueError(f"got {part!r}, expected a stage of {', '.join(STAGES)} and a number")
        found[name.strip()] = int(number)
    return found


def text_of_steps(steps: Mapping[str, int]) -> str:
    """What `steps_from_text` reads."""
    return ",".join(f"{stage}={steps[stage]}" for stage in STAGES if stage in steps)
