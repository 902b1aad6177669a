"""Heads of a cognition gate side by side: what each finds of what it is asked for, at what cost.

    python benchmarks/gate_ablation.py [--clips 1000] [--steps 1000] [--distil-steps 1000]

The task is the rendered world's: on each clip several queries, each for a kind of event ("Tell me
when the camera pans."); a gate is to speak at the frames at which an event of that kind begins, and
at no other. All heads stand on the extractor of the reference assistant's own gate, frozen, and are
trained on the same clips. Two rows are distilled, both taught by the row that is best on the clips
that thresholds are chosen on: a small head on that extractor, and a small gate with an extractor of
its own. Figures are of clips whose backgrounds and things none of the others show. A run that was
cut short goes on.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gate_asking import ClipBatches, HeadStage, Scores, queries_of, scores_of, stage_of
from gate_cost import parameters, times_us
from gate_scores import asked_apart, event_f1, fired, fires_at, threshold_of
from gate_world import SETS, SeenClips, clips_of, few_of
from safetensors.torch import load_file, save_file

from edgestream.models.cognition_gate import CognitionGate
from edgestream.models.families.reference import Reference
from edgestream.models.family import Checkpoint, LoadOptions
from edgestream.training.curve import Curve
from edgestream.training.gate_build import HEADS, ExtractorSize, gate_for, head_shape
from edgestream.training.gate_loss import GateLoss
from edgestream.training.gate_stage import DISTIL, STAGES, GateStage
from edgestream.training.reference_recipe import Budget
from edgestream.training.run_folder import RunState, load_state
from edgestream.training.team import Team
from edgestream.training.training_loop import Loop, Pace, Told, restore_

BASE = Path(__file__).parents[1] / "assets" / "reference-checkpoint"
RATE, WARM_UP_STEPS = 2e-3, 30
READS = ("tokens", "summary", "motion")
DISTILLED, DISTILLED_HEAD, TWENTIETH = "distilled", "distilled-head", 20
SMALL = ((24, 8), (32, 4), (40, 8), (48, 8), (64, 8), (80, 16), (96, 16), (112, 16))
"""Width of a small gate's extractor, and what tokens are narrowed to; the last one with at most a
twentieth of the teacher's parameters is taken."""
UNASKED_CLIPS = 40
LOSS = GateLoss(speak_weight=0.25)
HEAD_TAUGHT = GateLoss(speak_weight=0.25, taught=0.5)
TAUGHT = GateLoss(speak_weight=0.75, taught=0.7)
"""What is asked for begins at a quarter of the frames that are drawn, and at one of a hundred."""


@dataclass(frozen=True, slots=True)
class World:
    """What all rows share.

    Attributes:
        checkpoint: the base.
        train, threshold, held_out: clips.
        queries: (14, phrasings, query_dim).
        out: folder of the rows.
        steps: of a head, and of the distilled gate.
    """

    checkpoint: Checkpoint
    train: SeenClips
    threshold: SeenClips
    held_out: SeenClips
    queries: Scores
    out: Path
    steps: tuple[int, int]

    def steps_of(self, name: str) -> int:
        """Of a row."""
        head, distilled = self.steps
        return distilled if name == DISTILLED else head


def main() -> None:
    """All rows, a table and one line of JSON."""
    asked = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    asked.add_argument("--out", type=Path, default=Path("out/gate_ablation"))
    asked.add_argument("--clips", type=int, default=1000, help="to learn from")
    asked.add_argument("--threshold-clips", type=int, default=80)
    asked.add_argument("--held-out", type=int, default=160)
    asked.add_argument("--steps", type=int, default=1000, help="of each head")
    asked.add_argument("--distil-steps", type=int, default=1000)
    given = asked.parse_args()
    torch.set_num_threads(1)
    checkpoint = Reference().load(BASE, LoadOptions())
    counts = {"train": given.clips, "threshold": given.threshold_clips, "held_out": given.held_out}
    clips = {name: clips_of(checkpoint, SETS[name], count, given.out / "features")
             for name, count in counts.items()}  # fmt: skip
    world = World(checkpoint, **clips, queries=queries_of(checkpoint), out=given.out,
                  steps=(given.steps, given.distil_steps))  # fmt: skip
    begun = time.process_time()
    gates = {name: trained(world, name, _head(world, name)) for name in HEADS if name != "narrow"}
    chosen = {name: _chosen(world, gate, on_states=True) for name, gate in gates.items()}
    teacher = max(gates, key=lambda name: chosen[name][1])
    for name, made in ((DISTILLED_HEAD, _head(world, "narrow")),
                       (DISTILLED, _small(world, gates[teacher]))):  # fmt: skip
        gates[name] = trained(world, name, made, teacher, gates[teacher])
        chosen[name] = _chosen(world, gates[name], on_states=name != DISTILLED)
    trained_s = time.process_time() - begun
    rows = {
        name: scored(world, gate, chosen[name][0], on_states=name != DISTILLED)
        for name, gate in gates.items()
    }
    cost = times_us(gates, given.out / "graphs")
    for name, row in rows.items():
        row |= {"parameters": parameters(gates[name]), "of_head": parameters(gates[name].speak),
                "us": cost.us[name],
                "steps": world.steps_of(name)}  # fmt: skip
    told = {"benchmark": "gate_ablation", **counts, "teacher": teacher,
            "base_heads_f1": base_f1(world), "rows": rows, "cpu_share": cost.cpu_share,
            "training_cpu_s": round(trained_s, 1)}  # fmt: skip
    print(table(rows))
    print(json.dumps(told))


def _head(world: World, name: str) -> Callable[[], CognitionGate]:
    head = head_shape(name, world.checkpoint)
    return lambda: gate_for(world.checkpoint, head, ExtractorSize(), asked=True, seed=0)


def _small(world: World, teacher: CognitionGate) -> Callable[[], CognitionGate]:
    head, most = head_shape("linear", world.checkpoint), parameters(teacher) // TWENTIETH

    def made(width: int, token_width: int) -> CognitionGate:
        size = ExtractorSize(width, 1, token_width, READS)
        return gate_for(world.checkpoint, head, size, asked=True, seed=0, anew=True)

    fitting = [size for size in SMALL if parameters(made(*size)) <= most]
    return lambda: made(*(fitting or SMALL)[-1 if fitting else 0])


def trained(
    world: World,
    name: str,
    made: Callable[[], CognitionGate],
    taught_by: str = "",
    teacher: CognitionGate | None = None,
) -> CognitionGate:
    """A row's gate, trained where the folder does not have it."""
    steps = world.steps_of(name)
    folder = world.out / "rows" / "-".join(filter(None, (name, taught_by, str(steps))))
    folder.mkdir(parents=True, exist_ok=True)
    gate, path = made(), folder / "gate.safetensors"
    if path.is_file():
        gate.load_state_dict(load_file(path))
        return gate.eval()
    stage, inner = _stage(world, name, gate, teacher)
    optimiser, state = inner.optimiser(), load_state(folder) or RunState(stage.name)
    if state.tensors:
        restore_({"gate.": gate}, optimiser, state)
    curve = Curve(folder, STAGES, (stage.name, state.step))
    loop = Loop(folder, Pace(RATE, WARM_UP_STEPS, 1), Team(), curve, _quiet, checkpoint_s=60.0)
    begun = time.process_time()
    loop.run(stage, optimiser, Budget(steps=steps), state)
    curve.close()
    save_file({key: one.contiguous() for key, one in gate.state_dict().items()}, path)
    print(f"{name}: {steps} steps, {time.process_time() - begun:.0f} s of CPU", flush=True)
    return gate.eval()


def _stage(
    world: World, name: str, gate: CognitionGate, teacher: CognitionGate | None
) -> tuple[GateStage | HeadStage, GateStage]:
    """What is trained, and the product's stage in it."""
    taught = None
    if teacher is not None:
        taught = scores_of(teacher, world.train, world.queries, on_states=True)
    if name == DISTILLED:
        assert taught is not None
        whole = GateStage(
            DISTIL, gate, ClipBatches(world.train, world.queries, taught).batch, TAUGHT, Team()
        )
        return whole, whole
    loss = LOSS if taught is None else HEAD_TAUGHT
    of_head = stage_of(gate, world.train, world.queries, loss, taught)
    return of_head, of_head.inner


def _quiet(told: Told) -> None:
    """The curve tells it."""


def _chosen(world: World, gate: CognitionGate, *, on_states: bool) -> tuple[float, float]:
    """The threshold of the best F1 on the clips for that, and this F1."""
    scores = scores_of(gate, world.threshold, world.queries, on_states=on_states)
    above = threshold_of(scores, world.threshold)
    f1 = event_f1(fired(scores, above), world.threshold)
    print(f"a threshold of {above}: F1 {f1:.3f} where it was chosen", flush=True)
    return above, f1


def scored(world: World, gate: CognitionGate, above: float, *, on_states: bool) -> dict[str, Any]:
    """The figures of a gate on clips that no threshold was chosen on."""

    def scores(clips: SeenClips, queries: Scores = world.queries) -> Scores:
        return scores_of(gate, clips, queries, on_states=on_states)

    told = fired(scores(world.held_out), above)
    apart, count = asked_apart(told, world.held_out, seed=0)
    own, other = fires_at(told, world.held_out)
    few = few_of(world.held_out, UNASKED_CLIPS)
    unasked = fired(scores(few, np.zeros_like(world.queries)), above)
    return {
        "f1": round(event_f1(told, world.held_out), 4),
        "f1_without_query": round(event_f1(unasked, few), 4),
        "above": above,
        "apart": round(apart, 4), "apart_clips": count,
        "own_query_fires": round(own, 4), "another_fires": round(other, 4),
    }  # fmt: skip


def base_f1(world: World) -> float:
    """Of the base's own score of each kind, read by who knows which one is asked for."""
    gate = world.checkpoint.gate
    assert isinstance(gate, CognitionGate)

    @torch.inference_mode()
    def scores(clips: SeenClips) -> Scores:
        read = (clips.tokens, clips.summary, clips.motion, clips.dt_s)
        tokens, summary, motion, dt_s = (torch.from_numpy(one.astype(np.float32)) for one in read)
        told = torch.sigmoid(gate.sequence(tokens, summary, motion, dt_s).logits[..., 1:])
        return np.ascontiguousarray(told.numpy().transpose(0, 2, 1))

    above = threshold_of(scores(world.threshold), world.threshold)
    return round(event_f1(fired(scores(world.held_out), above), world.held_out), 4)


def table(rows: dict[str, dict[str, Any]]) -> str:
    """For people."""
    lines = ["| gate | event F1 | without a query | right one alone | parameters "
             "| of the head | us a frame |", "|---|---|---|---|---|---|---|"]  # fmt: skip
    for name, row in rows.items():
        lines.append(f"| {name} | {row['f1']:.3f} | {row['f1_without_query']:.3f} | "
                     f"{row['apart']:.3f} | {row['parameters']:,} | {row['of_head']:,} "
                     f"| {row['us']:.0f} |")  # fmt: skip
    return "\n".join(lines)


if __name__ == "__main__":
    main()
