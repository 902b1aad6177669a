"""How fast the reference assistant watches and speaks: its bundle against its own checkpoint.

    python benchmarks/reference_speed.py             fifteen rounds, one thread each
    python benchmarks/reference_speed.py --quick     three rounds

The peer is eager PyTorch in float32 with `transformers`' own cache. Both watch the same clip of the
rendered world, every frame of it encoded, and both count stage 0 (scaling and motion, the same
numpy code) into a frame; then they speak 64 tokens one at a time behind 250. Each is a process of
its own and they take turns, so that a busy moment of the machine hits both.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from figures import Figure, report
from workers import Worker

from edgestream.runtime.bundle import open_bundle

HERE = Path(__file__).parent
ASSETS = HERE.parent / "assets"
WATCH_RATIO_MUST, DECODE_RATIO_MUST = 1.5, 3.0
LEAST_COSINE = 0.99
"""Of the gate's scores on the last frames: both watch with the same model."""


def main() -> None:
    """Compare, print, and leave with 1 where a figure is not as it must be."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--bundle", type=Path, default=ASSETS / "reference")
    parser.add_argument("--checkpoint", type=Path, default=ASSETS / "reference-checkpoint")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--quick", action="store_true", help="three rounds")
    chosen = parser.parse_args()
    rounds = 3 if chosen.quick else chosen.rounds
    bundle = open_bundle(chosen.bundle)
    taken = measured(chosen.bundle, chosen.checkpoint, len(bundle.embeddings()), rounds)
    rows = [
        {"peer": name, "watch ms a frame": round(median(taken, name, "watch"), 3),
         "decode ms a token": round(median(taken, name, "decode"), 3),
         "CPU share": round(statistics.median(one["cpu_share"] for one in taken[name]["watch"]), 2)}
        for name in taken
    ]  # fmt: skip
    passed = report("benchmarks/reference_speed.py", rows, figures_of(taken, rounds),
                    bundle_sha256=bundle.sha256, threads=1,
                    cpu_share=rows[0]["CPU share"], rounds=rounds)  # fmt: skip
    sys.exit(not passed)


Taken = dict[str, dict[str, list[dict[str, Any]]]]
"""Peer → what it did → its answers, one a round."""


def measured(bundle: Path, checkpoint: Path, vocabulary: int, rounds: int) -> Taken:
    """Both peers in turn; a first round, to warm up, is not among them."""
    script = str(HERE / "reference_workers.py")
    folders = {"edgestream": bundle, "torch": checkpoint}
    taken: Taken = {name: {"watch": [], "decode": []} for name in folders}
    with ExitStack() as stack:
        workers = {
            name: stack.enter_context(
                Worker([sys.executable, script, name, str(folder), str(vocabulary)])
            )
            for name, folder in folders.items()
        }
        for number in range(rounds + 1):
            for name, worker in workers.items():
                for do in ("watch", "decode"):
                    answer = worker.ask(do)
                    if number:
                        taken[name][do].append(answer)
    return taken


def figures_of(taken: Taken, rounds: int) -> list[Figure]:
    """Ratios within each round, their medians; and that both say the same."""
    found = []
    for do, must in (("watch", WATCH_RATIO_MUST), ("decode", DECODE_RATIO_MUST)):
        pairs = zip(taken["torch"][do], taken["edgestream"][do], strict=True)
        ratio = statistics.median(theirs["ms"] / ours["ms"] for theirs, ours in pairs)
        found.append(Figure(f"{do} against torch fp32", ratio, "1", rounds, at_least=must))
        found += [Figure(f"{do} of {name}", median(taken, name, do), "ms", rounds)
                  for name in taken]  # fmt: skip
    one, two = (np.array(taken[name]["watch"][-1]["scores"]) for name in taken)
    cosine = float(one @ two / (np.linalg.norm(one) * np.linalg.norm(two)))
    return [*found, Figure("cosine of the gate's scores", cosine, "1", one.size,
                           at_least=LEAST_COSINE)]  # fmt: skip


def median(taken: Taken, name: str, do: str) -> float:
    """Milliseconds, over the rounds."""
    return statistics.median(one["ms"] for one in taken[name][do])


if __name__ == "__main__":
    main()
