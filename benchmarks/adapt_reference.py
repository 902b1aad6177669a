"""Teaches the reference assistant an event that it does not know: clips, train lora, export, run.

    python benchmarks/adapt_reference.py --out DIR [--event red|negative] [--options "--rehearse 0"]

Each command of the road is run as a user runs it, and timed: wall and CPU seconds. The adapted
bundle then watches clips that nothing was trained on or chosen by, in the device's own program, and
its sentences about the new event are scored; before and after are LIVE's figures, and when both
bundles speak of their own accord. What the adaptation costs of what was known says
`eval reference`, line by line, against the bundle of the same scheme that was not adapted; that
takes half an hour of one core (--eval-clips: less of it). The last line of stdout is that of
docs/FORMATS.md, section 5.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from figures import Figure, report
from new_events import EVENTS, written_clips
from workers import ONE_THREAD

from edgestream.evaluation.dialogue_scores import TriggerScore, score_triggers
from edgestream.training.dialogues import Dialogue

TOLERANCE_S = 1.0
HELD_OUT_FROM = 500_000
BASE = Path(__file__).parents[1] / "assets" / "reference-checkpoint"
MOST_S = 15 * 60.0
LEAST_F1 = 0.80
TOKEN_GATE = ("--set", "gate.kind=token", "--set", "context.kind=continuous")
LIVE = ("lm_ppl", "time_diff_s", "fluency", "correctness", "precision", "recall", "f1")
AGAINST = "_minus_against"


@dataclass(frozen=True, slots=True)
class Ran:
    """A command that has ended: its stdout, and seconds of wall and CPU time."""

    told: str
    wall_s: float
    cpu_s: float


def main() -> None:
    """The whole road; leaves with 1 where a figure is not what it must be."""
    asked = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    asked.add_argument("--out", type=Path, required=True)
    asked.add_argument("--event", choices=EVENTS, default="red", help="that is new")
    asked.add_argument("--clips", type=int, default=160, help="that are trained on")
    asked.add_argument("--held-out", type=int, default=60)
    asked.add_argument("--held-from", type=int, default=HELD_OUT_FROM, help="first seed of those")
    asked.add_argument("--eval-clips", type=int, default=1000, help="of the frozen set; 0: none")
    asked.add_argument("--processes", type=int, default=os.cpu_count() or 1, help="of that")
    asked.add_argument("--llm", default="int4")
    asked.add_argument("--threads", type=int, default=os.cpu_count() or 1, help="of each command")
    asked.add_argument("--options", default="", help="more of `train lora`, one text")
    given = asked.parse_args()
    os.environ.update(dict.fromkeys(ONE_THREAD, str(given.threads)))  # of what is run from here on
    given.out.mkdir(parents=True, exist_ok=True)
    clips, held = given.out / "clips.jsonl", given.out / "held.jsonl"
    event = EVENTS[given.event]
    written_clips(clips, range(given.clips), event)
    seeds = range(given.held_from, given.held_from + given.held_out)
    dialogues = written_clips(held, seeds, event)
    base, bundle, adapter = (given.out / name for name in ("base", "bundle", "adapter"))
    ran("export", str(BASE), "--out", str(base), "--llm", given.llm, "--force")
    road = {
        # One look at the end, so that nothing is chosen by what is held out.
        "train": ran("train", "lora", str(clips), "--base", str(BASE), "--out", str(adapter),
                     "--evaluate-on", str(held), "--checks", "1", "--force", "--json",
                     *given.options.split()),
        "export": ran("export", str(BASE), "--adapter", str(adapter), "--out", str(bundle),
                      "--llm", given.llm, "--force"),
    }  # fmt: skip
    score, road["run"] = watched(bundle, dialogues, event.sentence)
    print(json.dumps({"road": seconds_of(road), "event_f1": score.f1}), file=sys.stderr)
    found = {
        "live": json.loads(road["train"].told.splitlines()[-1]),
        "before": metrics("dialogues", str(held), "--bundle", str(base), *TOKEN_GATE),
        "after": metrics("dialogues", str(held), "--bundle", str(bundle), *TOKEN_GATE),
        "reference": {} if not given.eval_clips else metrics(
            "reference", "--bundle", str(bundle), "--against", str(base),
            "--clips", str(given.eval_clips), "--processes", str(given.processes)),
    }  # fmt: skip
    sys.exit(not told(given, road, score, found))


def ran(*arguments: str, may_miss: bool = False) -> Ran:
    """A command of edgestream, ended.

    Args:
        arguments: behind `edgestream`.
        may_miss: exit code 6, a bound that is not kept, is no failure.
    """
    begun, before = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN)
    made = subprocess.run([sys.executable, "-m", "edgestream.edge.cli", *arguments],
                          stdout=subprocess.PIPE, text=True, check=False)  # fmt: skip
    if made.returncode not in ((0, 6) if may_miss else (0,)):
        sys.exit(f"edgestream {' '.join(arguments)} left with {made.returncode}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Ran(made.stdout, time.monotonic() - begun, cpu_s)


def metrics(*arguments: str) -> dict[str, Any]:
    """Name → what `edgestream eval` told of it."""
    line = json.loads(ran("eval", *arguments, "--json", may_miss=True).told.splitlines()[-1])
    return {one["name"]: one for one in line["metrics"]}


def watched(bundle: Path, held: list[Dialogue], sentence: str) -> tuple[TriggerScore, Ran]:
    """How well `edgestream run` told the new event, and what running took."""
    event, wall_s, cpu_s = TriggerScore(), 0.0, 0.0
    for dialogue in held:
        run = ran("run", str(dialogue.video), "--bundle", str(bundle), "--gate", "token",
                  "--set", "context.kind=continuous", "--jsonl", "-")  # fmt: skip
        records = [json.loads(line) for line in run.told.splitlines()]
        said = [float(one["time_s"]) for one in records
                if one["type"] == "final" and sentence in one["text"]]  # fmt: skip
        true = [turn.time_s for turn in dialogue.turns if sentence in turn.text]
        event += score_triggers(said, true, TOLERANCE_S)
        wall_s, cpu_s = wall_s + run.wall_s, cpu_s + run.cpu_s
    return event, Ran("", wall_s, cpu_s)


def told(
    given: argparse.Namespace, road: Mapping[str, Ran], event: TriggerScore, found: dict[str, Any]
) -> bool:
    """Everything as a table and a line; True where every figure is what it must be."""
    wall_s = sum(one.wall_s for one in road.values())
    cpu_s = sum(one.cpu_s for one in road.values())
    less = {name.removesuffix(AGAINST): one for name, one in found["reference"].items()
            if name.endswith(AGAINST)}  # fmt: skip
    missed = [name for name, one in less.items() if one.get("passed") is False]
    rows = [*live_rows(found), *[{
        "figure": name, "before": found["reference"][name]["value"] - one["value"],
        "after": found["reference"][name]["value"], "minus": one["value"],
        "95 %": "[{:+.3f}, {:+.3f}]".format(*one["ci95"]), "n": one["n"],
    } for name, one in less.items() if one["value"] is not None]]  # fmt: skip
    figures = [
        Figure("adaptation_s", wall_s, "s", 1, at_most=MOST_S),
        Figure("adaptation_cpu_s", cpu_s, "s", 1),
        Figure("event_f1", event.f1, "1", event.n_true + event.n_spoken, at_least=LEAST_F1),
        Figure("event_precision", event.precision, "1", event.n_spoken),
        Figure("event_recall", event.recall, "1", event.n_true),
    ]
    if less:
        figures.append(Figure("lines_down", len(missed), "1", len(less), at_most=0))
    passed: bool = report(
        "benchmarks/adapt_reference.py", rows, figures, bundle_sha256=None, threads=given.threads,
        cpu_share=cpu_s / (wall_s * given.threads), clips=given.clips, held_out=given.held_out,
        llm=given.llm, new_event=given.event, options=given.options, lines_down=missed,
        road=seconds_of(road),
        live={name: found["live"][name] for name in ("steps", "before", "after")},
        triggers={name: values_of(found[name]) for name in ("before", "after")},
        lines={name: {"value": one["value"], "ci95": one["ci95"]} for name, one in less.items()},
    )  # fmt: skip
    return passed


def seconds_of(road: Mapping[str, Ran]) -> dict[str, dict[str, float]]:
    """Wall and CPU seconds of each step."""
    return {name: {"wall_s": round(one.wall_s, 1), "cpu_s": round(one.cpu_s, 1)}
            for name, one in road.items()}  # fmt: skip


def live_rows(found: dict[str, Any]) -> list[dict[str, Any]]:
    """LIVE's figures in PyTorch, and those of the bundles, before and after."""
    live, before, after = found["live"], found["before"], found["after"]
    rows = [{"figure": name, "before": live["before"].get(name), "after": live["after"].get(name)}
            for name in LIVE]  # fmt: skip
    return [*rows, *[{"figure": name, "before": before[name]["value"], "after": one["value"]}
                     for name, one in after.items()]]  # fmt: skip


def values_of(told: Mapping[str, Any]) -> dict[str, float | None]:
    """Name → value."""
    return {name: one["value"] for name, one in told.items()}


if __name__ == "__main__":
    main()
