"""What eviction costs: how far keys drift as they are turned, and what answers are lost.

    python benchmarks/eviction_cost.py            16 streams to 10 evictions, 4 to 1,000: 5 minutes
    python benchmarks/eviction_cost.py --quick    4 and 1, to 100 evictions

Drift: a full cache loses its first slot again and again, so that every slot comes to the front one
step at a time, which is as often as a key can be turned; against one turn in float64.

Answers: the small checkpoint that the tests train (it watches painted shapes, says what changed and
answers questions; nearly always rightly) reads streams without end in 192 slots. After so many
evictions its answers are compared with those after a fresh prefill of the very tokens that are
kept. They cannot agree wholly: kept values were computed while evicted tokens were still visible
(this is so for every method that evicts from a cache), and the fresh prefill has never seen those.
How often each is right is told as well, and how often with this episode alone before it: the model
was trained on streams of one episode, and what is left of earlier ones misleads it, in a cache that
evicts and in a fresh one. "not turned" leaves keys at their old angles when they move: what the
table would look like if eviction were wrong.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from bounded_context import BoundedContext, Engines, language_model, opened_engines
from figures import BusyTime, Figure, report, table
from key_drift import drift_rows
from measured_models import CACHE, exported
from painted_recording import PaintedStream, Stretch, painted_stream

from edgestream.runtime.bundle import Bundle, open_bundle
from edgestream.runtime.eviction import EvictionPolicy
from edgestream.runtime.language_model import LanguageModel
from edgestream.runtime.values import Float32

CAPACITY, SAID_AT_MOST = 192, 32
POLICY = EvictionPolicy(recent_slots=64, block_slots=32)
DRIFT_MUST = {"float32": 1e-4}
"""Largest error of a key, of the largest number in it."""


MEASURES = ("argmax", "cosine", "same answer", "right", "right, fresh prefill",
            "right, episode alone")  # fmt: skip


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is compared.

    Attributes:
        streams: to each number of evictions, how many streams, and how many answers in each.
    """

    streams: dict[int, tuple[int, int]]


FULL = Plan({0: (48, 1), 10: (16, 4), 1000: (4, 16)})
QUICK = Plan({0: (4, 1), 10: (4, 2), 100: (1, 6)})


@dataclass(frozen=True, slots=True)
class Answered:
    """What a decoder does with a question.

    Attributes:
        logits: (tokens, vocabulary) before each token of the true answer.
        said: what it says of itself, greedily, until its stop token.
    """

    logits: Float32
    said: tuple[int, ...]


def answered(model: LanguageModel, first: Float32, truth: Sequence[int]) -> Answered:
    """Both, on a branch: the cache is afterwards as it was.

    Args:
        model: has read the question.
        first: logits behind it.
        truth: the true answer, its stop token last.
    """
    first, mark = np.array(first), model.arena.mark()
    logits = [first, *(np.array(model.step(token)) for token in truth[:-1])]
    model.arena.rewind(mark)
    said = [int(first.argmax())]
    while said[-1] != truth[-1] and len(said) < SAID_AT_MOST:
        said.append(int(model.step(said[-1]).argmax()))
    model.arena.rewind(mark)
    return Answered(np.stack(logits), tuple(said))


def compared(
    kept: Answered, fresh: Answered, alone: Answered, truth: Sequence[int]
) -> dict[str, float]:
    """One probe: how alike the first two are, and whether each is right."""
    pairs = zip(kept.logits.astype(float), fresh.logits.astype(float), strict=True)
    cosines = [one @ other / np.linalg.norm(one) / np.linalg.norm(other) for one, other in pairs]
    return {
        "argmax": float(np.mean(kept.logits.argmax(-1) == fresh.logits.argmax(-1))),
        "cosine": float(np.mean(cosines)),
        "same answer": float(kept.said == fresh.said),
        "right": float(kept.said == tuple(truth)),
        "right, fresh prefill": float(fresh.said == tuple(truth)),
        "right, episode alone": float(alone.said == tuple(truth)),
    }


class Examined:
    """A stream in a cache that evicts, and a second cache for prefills of what it keeps.

    Args:
        bundle, engines: whose decoder reads.
        stream: what it reads.
        is_turned: keys are turned when they move.
    """

    def __init__(
        self, bundle: Bundle, engines: Engines, stream: PaintedStream, *, is_turned: bool = True
    ) -> None:
        self._context = BoundedContext(
            language_model(bundle, CAPACITY, engines=engines),
            POLICY,
            keeps_embeds=True,
            is_turned=is_turned,
        )
        self._fresh = language_model(bundle, CAPACITY, engines=engines)
        self._stream = stream
        self._episode: list[Float32] = []

    def probes(self, evictions: int, count: int) -> Iterator[dict[str, float]]:
        """Answers after at least so many evictions; 0 means before the first."""
        for episode in self._stream.episodes():
            *before, question, answer = episode
            for stretch in before:
                self._read(stretch)
            self._context.make_room(len(question.ids) + SAID_AT_MOST)
            first = self._read(question)
            if self._context.evictions >= evictions:
                yield self._probe(first, answer)
                count -= 1
                if not count:
                    return
            self._read(answer)
            self._episode = self._episode[:1]  # the prefix

    def _read(self, stretch: Stretch) -> Float32:
        embeds = self._stream.embeds(stretch)
        self._episode.append(embeds)
        return self._context.append(stretch.kind, embeds)

    def _probe(self, first: Float32, answer: Stretch) -> dict[str, float]:
        kept = answered(self._context.model, first, answer.ids)
        fresh, alone = (
            self._prefilled(embeds, answer) for embeds in (self._context.embeds, self._episode)
        )
        return compared(kept, fresh, alone, answer.ids)

    def _prefilled(self, embeds: Sequence[Float32], answer: Stretch) -> Answered:
        self._fresh.arena.reset()
        return answered(self._fresh, self._fresh.append(np.concatenate(embeds)), answer.ids)


def agreement_row(
    bundle: Bundle, evictions: int, streams: int, answers: int, *, is_turned: bool = True
) -> dict[str, Any]:
    """Means over all probes of all streams."""
    engines, found = opened_engines(bundle), []
    for seed in range(streams):
        examined = Examined(bundle, engines, painted_stream(bundle, seed), is_turned=is_turned)
        found += list(examined.probes(evictions, answers))
    means = {name: float(np.mean([one[name] for one in found])) for name in found[0]}
    return {
        "decoder": bundle.folder.name + ("" if is_turned else ", not turned"),
        "evictions": evictions,
        "answers": len(found),
        **{name: round(mean, 4) for name, mean in means.items()},
    }


def measured(bundles: dict[str, Bundle], plan: Plan) -> tuple[list[dict[str, Any]], list[Figure]]:
    """The rows of the table about answers, and the figures."""
    rows = [
        agreement_row(bundle, evictions, *size)
        for bundle in bundles.values()
        for evictions, size in plan.streams.items()
    ]
    rows.append(agreement_row(bundles["fp32"], 10, *plan.streams[10], is_turned=False))
    figures = [
        Figure(f"{name}, {row['decoder']}, {row['evictions']} evictions", row[name], "1",
               row["answers"], at_least=1.0 if name == "argmax" and not row["evictions"]
               and row["decoder"] == "fp32" else None)
        for row in rows
        for name in MEASURES
    ]  # fmt: skip
    return rows, figures


def trained_bundle(llm: str) -> Path:
    """The bundle of the trained checkpoint; four minutes to train it the first time."""
    from edgestream.tests.trained_checkpoint import trained_live_checkpoint

    checkpoint = trained_live_checkpoint().folder
    return exported(checkpoint, CACHE / checkpoint.parent.name / llm, llm)


def main() -> None:
    """Run, print; leave with 1 where a figure is not as it must be."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="few streams, to 100 evictions")
    chosen = parser.parse_args()
    bundles = {llm: open_bundle(trained_bundle(llm), check="manifest") for llm in ("fp32", "int4")}
    busy = BusyTime()
    drift = drift_rows(bundles["fp32"], painted_stream(bundles["fp32"], 0))
    rows, figures = measured(bundles, QUICK if chosen.quick else FULL)
    figures += [
        Figure(f"key drift, {row['cache']}, {row['slots a turn']} at a time", row["key error"],
               "1", row["turns of a key"], at_most=DRIFT_MUST.get(row["cache"].split(",")[0]))
        for row in drift
        if "key error" in row
    ]  # fmt: skip
    print(table(drift))
    passed = report("benchmarks/eviction_cost.py", rows, figures, drift=drift, threads=1,
                    bundle_sha256=bundles["fp32"].sha256, cpu_share=busy.cpu_share())  # fmt: skip
    sys.exit(not passed)


if __name__ == "__main__":
    main()
