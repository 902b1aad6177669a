"""What routers find, and what memory still holds, of evidence whose place is known.

    python benchmarks/planted_evidence.py            an hour, seeds 0 to 9, noise as fixed and twice
    python benchmarks/planted_evidence.py --quick    20 minutes, seeds 0 and 1

recall@8: a question comes, a router scores what memory holds then, and one of the 8 best key frames
is evidence: its topic showed at its time, and still shows in it. `in memory` is what any router
could reach. "old" are questions whose topic was last seen more than 5 minutes before. Beside our
routers stand those of the origin: `max-mean` (best cosine of each word, mean over words) and
`softmax within a frame` (the same number for every frame, so what is left is rounding).

Kept after it all: of the topics that the stream showed, how many a store still holds at its end.
The stores get the same bytes (`keyframes` for its recent frames too), counted the same way:
`keyframes`; a FIFO of every frame; a FIFO of one frame a second; and, the hardest peer, a FIFO of
the very key frames that `keyframes` makes when it has room for all, which shows what merging is
worth over letting the oldest go.
"""

from __future__ import annotations

import argparse
import sys
from collections import defaultdict, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

import numpy as np
from figures import BusyTime, Figure, report

from edgestream.evaluation.planted_evidence import (
    FPS,
    PlantedQuestion,
    PlantedStream,
    features_from_embeds,
)
from edgestream.runtime.memory.key_frame import KeyFrame, MemoryView
from edgestream.runtime.memory.keyframes import KeyFrameMemory, KeyFrameRules
from edgestream.runtime.router import QUIET
from edgestream.runtime.routers import QuestionRows, scores, stacked_embeds, unit_rows
from edgestream.runtime.selection import selected
from edgestream.runtime.values import Features, Float32

TOPK, OLD_S, QUESTIONS = 8, 300.0, 60
OURS = ("recency", "cos_sim_coarse", "cos_sim_fine", "cross-attn")
ROOM_FOR_ALL_BYTES = 1 << 30


@dataclass(slots=True)
class Tally:
    """Counts over streams: hits of each router, questions; by age. What each store holds."""

    hits: dict[tuple[str, str], int] = field(default_factory=lambda: defaultdict(int))
    asked: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    kept: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    frames: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list))

    def recall(self, router: str, age: str) -> float:
        """Share of questions that found their evidence."""
        return self.hits[router, age] / max(1, self.asked[age])


class Fifo:
    """The newest frames that fit, one in so many; counted as key frames are."""

    def __init__(self, budget_bytes: int, every: int) -> None:
        self._budget_bytes, self._every = budget_bytes, every
        self._frames: deque[KeyFrame] = deque()
        self._n_bytes = self._seen = 0

    def step(self, features: Features) -> None:
        """Take one frame in; the oldest go."""
        self._seen += 1
        if (self._seen - 1) % self._every:
            return
        frame = KeyFrame(
            f"f{self._seen}",
            features.time_s,
            features.tokens.astype(np.float16),
            features.summary,
        )
        self._frames.append(frame)
        self._n_bytes += frame.n_bytes
        while self._n_bytes > self._budget_bytes:
            self._n_bytes -= self._frames.popleft().n_bytes

    def key_frames(self) -> tuple[KeyFrame, ...]:
        """In order of time."""
        return tuple(self._frames)


def max_mean(question: QuestionRows, view: MemoryView) -> Float32:
    """The origin's `cos_sim_fine`."""
    keys, rows = unit_rows(stacked_embeds(question, view)), unit_rows(question.rows)
    best: Float32 = np.einsum("sd,npd->snp", rows, keys).max(axis=2).mean(axis=0)
    return best


def softmax_within(question: QuestionRows, view: MemoryView) -> Float32:
    """The origin's `cross-attn`."""
    keys, rows = unit_rows(stacked_embeds(question, view)), unit_rows(question.rows)
    weights = np.exp(np.einsum("sd,npd->snp", rows, keys) / np.sqrt(np.float32(rows.shape[1])))
    mass: Float32 = (weights / weights.sum(axis=2, keepdims=True)).mean(axis=0).sum(axis=1)
    return mass


ORIGIN: Mapping[str, Callable[[QuestionRows, MemoryView], Float32]] = {
    "origin: max-mean": max_mean,
    "origin: softmax within a frame": softmax_within,
}


def ask(stream: PlantedStream, question: PlantedQuestion, view: MemoryView, tally: Tally) -> None:
    """Put one question to every router."""
    rows = QuestionRows(question.rows)
    found = {router: scores(router, rows, view) for router in OURS}
    found |= {name: router(rows, view) for name, router in ORIGIN.items()}
    seen = {name: selected(view, score, TOPK) for name, score in found.items()}
    shown = {name: [frame for frame, _ in frames] for name, frames in seen.items()}
    shown["in memory"] = list(view.key_frames)
    for age in ("all", "old") if question.age_s > OLD_S else ("all",):
        tally.asked[age] += 1
        for name, frames in shown.items():
            tally.hits[name, age] += any(
                stream.shows(frame.time_s, frame.embeds, question.topic) for frame in frames
            )


def kept(stream: PlantedStream, frames: Sequence[KeyFrame]) -> float:
    """Share of the topics that a store still holds."""
    times = ((frame, stream.topic_at(frame.time_s)) for frame in frames)
    shown = {topic for frame, topic in times if stream.shows(frame.time_s, frame.embeds, topic)}
    return len(shown) / len(stream.topics)


def newest_that_fit(frames: Sequence[KeyFrame], budget_bytes: int) -> list[KeyFrame]:
    """Of frames in order of time, the newest so many bytes."""
    sizes = np.cumsum([frame.n_bytes for frame in reversed(frames)])
    return list(frames[len(frames) - int((sizes <= budget_bytes).sum()) :])


class Stores:
    """What gets the same bytes, side by side."""

    def __init__(self, rules: KeyFrameRules, budget_bytes: int) -> None:
        self.budget_bytes = budget_bytes
        self.memory = KeyFrameMemory(rules, budget_bytes)
        self._fifos = {
            "fifo, every frame": Fifo(budget_bytes, 1),
            "fifo, 1 a second": Fifo(budget_bytes, FPS),
        }

    def step(self, features: Features) -> None:
        """Take one frame in."""
        self.memory.step(features, features.tokens, QUIET)
        for fifo in self._fifos.values():
            fifo.step(features)

    def held(self, every_key_frame: Sequence[KeyFrame]) -> dict[str, Sequence[KeyFrame]]:
        """What each holds now."""
        fifos = {name: fifo.key_frames() for name, fifo in self._fifos.items()}
        newest = newest_that_fit(every_key_frame, self.budget_bytes)
        return {"keyframes": self.memory.view().key_frames, **fifos, "fifo, key frames": newest}


def measure(stream: PlantedStream, rules: KeyFrameRules, tallies: Mapping[int, Tally]) -> None:
    """One stream through the stores of every budget, its questions put to all routers.

    Args:
        tallies: budget in bytes → what is counted.
    """
    stores = [Stores(rules, budget_bytes) for budget_bytes in tallies]
    all_kept = KeyFrameMemory(rules, ROOM_FOR_ALL_BYTES)
    waiting = deque(stream.questions(QUESTIONS))
    end: list[tuple[float, Features | None]] = [(float("inf"), None)]
    frames = ((time_s, features_from_embeds(time_s, embeds)) for time_s, embeds in stream.frames())
    for time_s, features in chain(frames, end):
        while waiting and waiting[0].time_s < time_s:
            question = waiting.popleft()
            for store in stores:
                ask(stream, question, store.memory.view(), tallies[store.budget_bytes])
        if features is not None:
            all_kept.step(features, features.tokens, QUIET)
            for store in stores:
                store.step(features)
    for store in stores:
        tally = tallies[store.budget_bytes]
        for name, held in store.held(all_kept.view().key_frames).items():
            tally.kept[name].append(kept(stream, held))
            tally.frames[name].append(len(held))


def rows_of(tally: Tally, noise: float, budget_bytes: int) -> list[dict[str, Any]]:
    """The table: one line for each router, then one for each store."""
    which = {"noise": noise, "MB": budget_bytes / 1e6}
    rows: list[dict[str, Any]] = [
        {**which, "router or store": name, "recall@8, old": tally.recall(name, "old"),
         "recall@8, all": tally.recall(name, "all")}
        for name in ("in memory", *OURS, *ORIGIN)
    ]  # fmt: skip
    rows += [
        {**which, "router or store": name, "kept after it all": float(np.mean(shares)),
         "least": min(shares), "frames": float(np.mean(tally.frames[name]))}
        for name, shares in tally.kept.items()
    ]  # fmt: skip
    return rows


def figures_of(tallies: Mapping[int, Tally]) -> list[Figure]:
    """What must be reached, with the noise as it is fixed.

    Recall where memory has the most room (with less, what is not in memory cannot be found); what
    is kept with every budget.
    """
    tally = tallies[max(tallies)]
    n, streams = tally.asked["old"], len(tally.kept["keyframes"])
    fine, recency = tally.recall("cos_sim_fine", "old"), tally.recall("recency", "old")
    figures = [
        Figure("recall8_old_cos_sim_fine", fine, "1", n, at_least=0.8),
        # Where recency finds nothing at all, it is taken to have found one.
        Figure("recall8_old_fine_per_recency", fine / max(recency, 1 / n), "1", n, at_least=3.0),
        *(Figure(f"recall8_old_{name.replace('-', '_')}", tally.recall(name, "old"), "1", n)
          for name in OURS if name != "cos_sim_fine"),
    ]  # fmt: skip
    for budget_bytes, tally in tallies.items():
        share = {name: float(np.mean(shares)) for name, shares in tally.kept.items()}
        of, ours = f"{budget_bytes / 1e6:g}_mb", share["keyframes"]
        figures += [
            Figure(f"kept_{of}", ours, "1", streams),
            Figure(f"kept_per_fifo_{of}", ours / share["fifo, every frame"], "1", streams,
                   at_least=2.0),
            Figure(f"kept_per_fifo_1_a_second_{of}", ours / share["fifo, 1 a second"], "1",
                   streams),
        ]  # fmt: skip
    return figures


def main(argv: Sequence[str] | None = None) -> int:
    """0 where everything is as it must be."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="20 minutes, seeds 0 and 1")
    parser.add_argument(
        "--budgets-mb", type=float, nargs="+", default=[0.25, 0.5, 1.0], help="10^6 bytes each"
    )
    options = parser.parse_args(argv)
    seeds, length_s = (range(2), 1200.0) if options.quick else (range(10), 3600.0)
    budgets, busy = [round(budget * 1e6) for budget in options.budgets_mb], BusyTime()
    tallies = {noise: {budget: Tally() for budget in budgets} for noise in (1.0, 2.0)}
    for noise, of_noise in tallies.items():
        for seed in seeds:
            stream = PlantedStream(seed, length_s=length_s, noise=noise)
            measure(stream, KeyFrameRules(), of_noise)
            print(f"noise {noise:g}, seed {seed}: {busy.wall_s():.0f} s", file=sys.stderr)
    rows = [
        row
        for noise, of_noise in tallies.items()
        for budget, tally in of_noise.items()
        for row in rows_of(tally, noise, budget)
    ]
    asked = next(iter(tallies[1.0].values())).asked
    print(f"{asked['all']} questions, {asked['old']} of them old, at each noise", file=sys.stderr)
    passed = report(
        "planted_evidence", rows, figures_of(tallies[1.0]), bundle_sha256=None, threads=1,
        cpu_share=busy.cpu_share(), stream_s=length_s, table=rows,
    )  # fmt: skip
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
