"""Whether `export --search` takes the plan that is fastest in a table measured apart from it.

    python benchmarks/search_choice.py             fp32, int8 and int4 in all their blocks
    python benchmarks/search_choice.py --among fp32,int8,int4

First the search. Then every plan is exported by itself, and those that pass are run as `edgestream
run` runs them, pictures and stage 0 and language model, in rounds in which they take turns. The
search times single graphs of parts; here whole bundles are opened. Both reckon by one formula.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median, quantiles
from typing import Any

from figures import BusyTime, Figure, report

from edgestream.edge.bench_figures import Samples
from edgestream.edge.bench_parts import Counts, Parts, prefill_tokens
from edgestream.edge.bench_scene import Scene
from edgestream.export.build import ExportChoice, export_bundle
from edgestream.export.graphs import Schemes
from edgestream.export.plan_choice import LEAST_NOISE, PROMPT_POSITIONS, Workload
from edgestream.export.search import SearchChoice, search_bundle, words_among
from edgestream.runtime.assembly import attached
from edgestream.runtime.bundle import Bundle, open_bundle
from edgestream.runtime.engine_pool import EngineRules
from edgestream.runtime.errors import ParityFailed, SchemeUnknown
from edgestream.runtime.speaking import SpeakingRules

CHECKPOINT = Path(__file__).parents[1] / "assets" / "reference-checkpoint"
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
        samples = Samples(budget_s=0.5)
        engines = EngineRules(threads=threads, heartbeat_s=0.0)
        speaking = SpeakingRules(recent_every_s=0.0, allow_random_weights=True)
        with attached(self.bundle, engines, speaking) as model:
            tokens = self.bundle.manifest.tokens_per_frame
            parts = Parts(model, Scene(), samples, tokens, Counts(cheap=16, engine=16, answer=4))
            parts.measure_seeing()
            parts.measure_cache()
        ms = {name: samples.latency(name).value
              for name in ("encoder_ms", "connector_ms", "prefill_ms", "decode_ms")}  # fmt: skip
        self.frame_ms.append(ms["encoder_ms"] + ms["connector_ms"])
        prefill = prefill_tokens(self.bundle.manifest.cache.capacity)
        self.prompt_ms.append(ms["prefill_ms"] * PROMPT_POSITIONS / prefill)
        self.token_ms.append(ms["decode_ms"])


def exported(checkpoint: Path, work: Path, vision: str, llm: str, threads: int) -> Plan:
    """The plan by itself, or why it is none."""
    folder = work / f"{vision}-{llm}"
    choice = ExportChoice(Schemes.named(vision, llm), folder.name, threads=threads)
    try:
        export_bundle(checkpoint, folder, choice, lambda *told: None)
    except (ParityFailed, SchemeUnknown) as fault:
        return Plan(vision, llm, None, fault.message)
    return Plan(vision, llm, open_bundle(folder))


def main() -> None:
    """Search, measure apart, compare; leaves with 1 where the search took a slower plan."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--checkpoint", type=Path, default=CHECKPOINT)
    parser.add_argument("--among", default=AMONG)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=1)
    chosen = parser.parse_args()
    busy, among = BusyTime(), words_among(chosen.among.split(","))
    with tempfile.TemporaryDirectory() as place:
        work = Path(place)
        choice = ExportChoice(Schemes.named("fp32", "fp32"), "found", threads=chosen.threads)
        search = SearchChoice(rounds=chosen.rounds, vision=among["vision"], llm=among["llm"])
        made = search_bundle(chosen.checkpoint, work / "found", choice, search, lambda *told: None)
        plans = [exported(chosen.checkpoint, work, vision, llm, chosen.threads)
                 for vision in among["vision"] for llm in among["llm"]]  # fmt: skip
        for _ in range(chosen.rounds):
            for plan in plans:
                if plan.bundle is not None:
                    plan.measure(chosen.threads)
    assert made.searched is not None
    found = made.searched.choice.chosen
    workload = made.searched.workload
    passed = [plan for plan in plans if plan.bundle is not None]
    fastest = min(passed, key=lambda plan: median(plan.busy_ms(workload)))
    taken = next(one for one in passed if (one.vision, one.llm) == (found.vision, found.llm))
    ratios = [one / other for one, other in
              zip(taken.busy_ms(workload), fastest.busy_ms(workload), strict=True)]  # fmt: skip
    low, _, high = quantiles(ratios, n=4, method="inclusive")
    noise = max(LEAST_NOISE, (high - low) / 2)
    same = {(row.vision, row.llm) for row in made.searched.rows if row.passed}
    figures = [
        Figure("time of the chosen plan by that of the fastest", median(ratios), "1", len(ratios),
               at_most=1 + noise),
        Figure("plans that pass in one of both alone",
               len(same ^ {(one.vision, one.llm) for one in passed}), "1", len(plans), at_most=0),
    ]  # fmt: skip
    print(f"searched: {made.searched.choice.because}")
    print(f"apart: --vision {fastest.vision} --llm {fastest.llm} is the fastest of those that pass")
    sys.exit(not report(
        "benchmarks/search_choice.py", table_rows(plans, made.searched, workload), figures,
        bundle_sha256=made.bundle_sha256, threads=chosen.threads, cpu_share=busy.cpu_share(),
        search=made.searched.as_json(),
    ))  # fmt: skip


def table_rows(plans: list[Plan], searched: Any, workload: Workload) -> list[dict[str, Any]]:
    """Both tables side by side, the fastest first by what was measured apart."""
    ours = {(row.vision, row.llm): row for row in searched.rows}
    rows = []
    for plan in plans:
        told: dict[str, Any] = {"vision": plan.vision, "llm": plan.llm}
        if plan.bundle is None:
            rows.append((float("inf"), {**told, "note": plan.why_not}))
            continue
        row, ms = ours[plan.vision, plan.llm], median(plan.busy_ms(workload))
        notes = ["chosen"] if row is searched.choice.chosen else []
        rows.append((ms, {
            **told, "apart ms/s": ms, "ms/frame": median(plan.frame_ms),
            "tok/s": 1e3 / median(plan.token_ms), "prompt ms": median(plan.prompt_ms),
            "search ms/s": median(row.busy_ms) if row.passed else None,
            "search ms/frame": row.frame_ms, "search tok/s": 1e3 / (row.token_ms or 1e9),
            "MB": row.n_bytes / 1e6, "note": ", ".join(notes),
        }))  # fmt: skip
    return [row for _, row in sorted(rows, key=lambda one: one[0])]


if __name__ == "__main__":
    main()
