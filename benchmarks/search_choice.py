"""Whether `export --search` takes the plan that is fastest in a table measured apart from it.

    python benchmarks/search_choice.py             fp32, int8 and int4 in all their blocks
    python benchmarks/search_choice.py --among fp32,int8,int4

First the search. Then every plan is exported by itself, and those that pass are run as `edgestream
run` runs them, engines and language model, in rounds in which they take turns. The search times
graphs before they are in a bundle; here whole bundles are opened, their engines proven
by their golden calls, and the cache is half full. Both reckon by one formula.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import numpy as np
from figures import BusyTime, Figure, report
from numpy.typing import NDArray

from edgestream.edge.bench_figures import Samples
from edgestream.edge.bench_parts import Counts, Parts, prefill_tokens
from edgestream.edge.bench_scene import Scene
from edgestream.export.build import ExportChoice, export_bundle
from edgestream.export.graphs import Schemes
from edgestream.export.plan_choice import LEAST_NOISE, PROMPT_POSITIONS, Workload
from edgestream.export.search import SearchChoice, search_bundle, words_among
from edgestream.export.searched import SEARCH_FILE
from edgestream.runtime.assembly import attached
from edgestream.runtime.bundle import Bundle, open_bundle
from edgestream.runtime.engine_pool import EngineRules, engine_pool
from edgestream.runtime.errors import ParityFailed, SchemeUnknown
from edgestream.runtime.manifest_values import TensorSpec
from edgestream.runtime.speaking import SpeakingRules

CHECKPOINT = Path(__file__).parents[1] / "assets" / "reference-checkpoint"
BUDGET_S, COUNTS = 0.3, Counts(cheap=24, engine=24, answer=6)
"""Of one figure in one round, seconds and samples at most."""
AMONG = "fp32,int8,int8-64,int8-128,int4-32,int4,int4-128"


@dataclass(slots=True)
class Plan:
    """One plan as it was exported by itself. State: its times so far, a round each."""

    vision: str
    llm: str
    bundle: Bundle | None
    why_not: str = ""
    frame_ms: list[float] = field(default_factory=list)
    prompt_ms: list[float] = field(default_factory=list)
    token_ms: list[float] = field(default_factory=list)

    def busy_ms(self, workload: Workload) -> list[float]:
        """By the formula of the search, a round each."""
        rounds = zip(self.frame_ms, self.prompt_ms, self.token_ms, strict=True)
        return [workload.busy_ms(*one) for one in rounds]

    def measure(self, threads: int) -> None:
        """One round: the bundle is opened, looks, reads and speaks, and is closed."""
        assert self.bundle is not None and self.bundle.manifest.cache is not None
        # As the search has it: CPU time where one thread runs, which others do not take away.
        clock = time.thread_time if threads == 1 else time.perf_counter
        samples = Samples(budget_s=BUDGET_S, monotonic=clock)
        engines = EngineRules(threads=threads, heartbeat_s=0.0)
        speaking = SpeakingRules(recent_every_s=0.0, allow_random_weights=True)
        with engine_pool(self.bundle, engines) as pool:
            for role in ("vision", "connector"):
                engine = pool.lease(role).engine
                inputs = {spec.name: array_of(spec) for spec in engine.inputs}
                look = partial(samples.ms, partial(engine.run, inputs))
                samples.measure(f"{role}_ms", look, times=COUNTS.engine)
        with attached(self.bundle, engines, speaking) as model:
            tokens = self.bundle.manifest.tokens_per_frame
            Parts(model, Scene(), samples, tokens, COUNTS).measure_cache()
        ms = {name: samples.latency(name).value
              for name in ("vision_ms", "connector_ms", "prefill_ms", "decode_ms")}  # fmt: skip
        self.frame_ms.append(ms["vision_ms"] + ms["connector_ms"])
        prefill = prefill_tokens(self.bundle.manifest.cache.capacity)
        self.prompt_ms.append(ms["prefill_ms"] * PROMPT_POSITIONS / prefill)
        self.token_ms.append(ms["decode_ms"])


def array_of(spec: TensorSpec) -> NDArray[Any]:
    """Small random numbers for an input of fixed shape."""
    shape = tuple(size for size in spec.shape if isinstance(size, int))
    return np.random.default_rng(0).standard_normal(shape).astype(spec.dtype)


def exported(checkpoint: Path, work: Path, vision: str, llm: str, threads: int) -> Plan:
    """The plan by itself, or why it is none; one that lies there from before is taken."""
    folder = work / f"{vision}-{llm}"
    if folder.exists():
        return Plan(vision, llm, open_bundle(folder))
    choice = ExportChoice(Schemes.named(vision, llm), folder.name, threads=threads)
    try:
        export_bundle(checkpoint, folder, choice, lambda *told: None)
    except (ParityFailed, SchemeUnknown) as fault:
        return Plan(vision, llm, None, fault.message)
    return Plan(vision, llm, open_bundle(folder))


def searched_in(
    folder: Path, checkpoint: Path, among: str, rounds: int, threads: int
) -> dict[str, Any]:
    """search.json of a bundle that a search made, now or before."""
    if not folder.exists():
        choice = ExportChoice(Schemes.named("fp32", "fp32"), folder.name, threads=threads)
        words = words_among(among.split(","))
        search = SearchChoice(rounds=rounds, vision=words["vision"], llm=words["llm"])
        search_bundle(checkpoint, folder, choice, search, lambda *told: None)
    told: dict[str, Any] = json.loads((folder / SEARCH_FILE).read_text())
    return {**told, "bundle_sha256": open_bundle(folder).sha256}


def main() -> None:
    """Search, measure apart, compare; leaves with 1 where the search took a slower plan."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--checkpoint", type=Path, default=CHECKPOINT)
    parser.add_argument("--among", default=AMONG)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--work", type=Path, help="folder where bundles stay, and are used again")
    chosen = parser.parse_args()
    busy = BusyTime()
    with tempfile.TemporaryDirectory() as place:
        work = chosen.work or Path(place)
        found = searched_in(
            work / "found", chosen.checkpoint, chosen.among, chosen.rounds, chosen.threads
        )
        pairs = [(one["vision"], one["llm"]) for one in found["candidates"]]
        plans = [exported(chosen.checkpoint, work, *pair, chosen.threads) for pair in pairs]
        for _ in range(chosen.rounds):
            for plan in plans:
                if plan.bundle is not None:
                    plan.measure(chosen.threads)
    sys.exit(not told_of(plans, found, chosen.threads, busy))


def told_of(plans: list[Plan], found: dict[str, Any], threads: int, busy: BusyTime) -> bool:
    """Both tables and the verdict."""
    workload = Workload(**found["workload"])
    passed = {(plan.vision, plan.llm): plan for plan in plans if plan.bundle is not None}
    fastest = min(passed.values(), key=lambda plan: median(plan.busy_ms(workload)))
    taken = passed[found["vision"], found["llm"]]
    times = zip(taken.busy_ms(workload), fastest.busy_ms(workload), strict=True)
    ratios = [one / other for one, other in times]
    low, _, high = quantiles(ratios, n=4, method="inclusive")
    proven = {(one["vision"], one["llm"]) for one in found["candidates"] if one["passed"]}
    figures = [
        Figure("time of the chosen plan by that of the fastest", median(ratios), "1", len(ratios),
               at_most=1 + max(LEAST_NOISE, (high - low) / 2)),
        Figure("plans that pass in one of both alone", len(proven ^ set(passed)), "1", len(plans),
               at_most=0),
    ]  # fmt: skip
    print(f"searched: {found['because']}")
    print(f"apart: --vision {fastest.vision} --llm {fastest.llm} is the fastest of those that pass")
    return report(
        "benchmarks/search_choice.py", table_rows(plans, found, workload), figures,
        bundle_sha256=found["bundle_sha256"], threads=threads, cpu_share=busy.cpu_share(),
        search_cpu_share=found["cpu_share"],
    )  # fmt: skip


def table_rows(
    plans: list[Plan], found: dict[str, Any], workload: Workload
) -> list[dict[str, Any]]:
    """Both tables side by side, the fastest first by what was measured apart."""
    rows = []
    for plan, one in zip(plans, found["candidates"], strict=True):
        told: dict[str, Any] = {"vision": plan.vision, "llm": plan.llm}
        if plan.bundle is None:
            rows.append((float("inf"), {**told, "note": plan.why_not}))
            continue
        is_chosen = (plan.vision, plan.llm) == (found["vision"], found["llm"])
        ms = median(plan.busy_ms(workload))
        rows.append((ms, {
            **told, "apart ms/s": ms, "ms/frame": median(plan.frame_ms),
            "tok/s": 1e3 / median(plan.token_ms), "prompt ms": median(plan.prompt_ms),
            "search ms/s": one.get("busy_ms"), "ms/frame ": one.get("frame_ms"),
            "tok/s ": one.get("tokens_per_s"), "prompt ms ": one.get("prompt_ms"),
            "MB": one.get("bytes", 0) / 1e6, "note": "chosen" if is_chosen else "",
        }))  # fmt: skip
    return [row for _, row in sorted(rows, key=lambda one: one[0])]


if __name__ == "__main__":
    main()
