"""How fast a decoder of 135M parameters reads and speaks: EdgeStream, PyTorch and llama.cpp.

    python benchmarks/decode_peers.py                              five rounds
    python benchmarks/decode_peers.py --llama-python llama-env/bin/python
    python benchmarks/decode_peers.py --quick                      one round

Each peer is a process of its own with one thread; in each round all work in turn while the others
sleep, so that a busy moment of the machine hits all. A pass: a prompt of 256 tokens into an empty
cache, 64 tokens (about a frame's) behind it, then 64 tokens one at a time. Random weights: their
words mean nothing; the cosine to PyTorch's float32 logits behind 40 tokens shows that all read the
same model (int4 of random weights is far off by itself; int8 and Q8_0 must not be).
`llama_gguf.py` says how llama.cpp's environment is made.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from figures import Figure, report
from measured_models import CACHE, random_bundle, random_checkpoint
from workers import Worker, some_ids

from edgestream.runtime.bundle import open_bundle

HERE = Path(__file__).parent
OURS, CHUNKED, TORCH, EXACT = (
    "edgestream int4",
    "edgestream int4, chunk 256",
    "torch bf16",
    "torch fp32",
)
KINDS = ("prefill", "append", "decode")
DECODE_RATIO_MUST = 4.0
PARITY_TOKENS = 40
SAME_MODEL_COSINE = 0.99
"""What 8 bits a weight must keep, random weights or not; a wrong conversion is far below it."""


def commands(bundle: Path, checkpoint: Path, llama_python: str | None) -> dict[str, list[str]]:
    """Name of each peer → what starts it."""
    ours = [sys.executable, str(HERE / "decode_workers.py")]
    found = {
        OURS: [*ours, "edgestream", str(bundle), "16"],
        CHUNKED: [*ours, "edgestream", str(bundle), "256"],
        TORCH: [*ours, "torch", str(checkpoint), "bfloat16"],
        EXACT: [*ours, "torch", str(checkpoint), "float32"],
    }
    if llama_python is not None:
        folder = CACHE / "random-135m" / "gguf"
        subprocess.run(
            [llama_python, str(HERE / "llama_gguf.py"), str(checkpoint), str(folder)],
            check=True,
            capture_output=True,
        )
        for form in ("Q4_0", "Q8_0"):
            command = [llama_python, str(HERE / "llama_worker.py"), str(folder / f"{form}.gguf")]
            found[f"llama.cpp {form}"] = command
    return found


def cosines(workers: Mapping[str, Worker]) -> dict[str, float]:
    """Cosine of each peer's logits to PyTorch's in float32, behind the same tokens."""
    ids, found = some_ids(PARITY_TOKENS, seed=1), {}
    with tempfile.TemporaryDirectory() as folder:
        for number, (name, worker) in enumerate(workers.items()):
            file = f"{folder}/{number}.npy"
            worker.ask("logits", ids=ids, file=file)
            found[name] = np.load(file).astype(np.float64)
    exact = found[EXACT] / np.linalg.norm(found[EXACT])
    return {name: float(one @ exact / np.linalg.norm(one)) for name, one in found.items()}


def measured(workers: Mapping[str, Worker], rounds: int) -> dict[str, list[dict[str, float]]]:
    """The passes of each peer; a first one, to warm up, is not among them."""
    for worker in workers.values():
        worker.ask("pass")
    passes: dict[str, list[dict[str, float]]] = {name: [] for name in workers}
    for _ in range(rounds):
        for name, worker in workers.items():
            passes[name].append(worker.ask("pass"))
    return passes


def median(passes: list[dict[str, float]], kind: str) -> float:
    """Over the rounds."""
    return statistics.median(one[kind] for one in passes)


def paired_ratio(passes: Mapping[str, list[dict[str, float]]], peer: str, kind: str) -> float:
    """How many times as fast as a peer we are: the median of the ratios within each round."""
    pairs = zip(passes[OURS], passes[peer], strict=True)
    return statistics.median(ours[kind] / theirs[kind] for ours, theirs in pairs)


def compared(chosen: argparse.Namespace) -> tuple[list[dict[str, Any]], list[Figure], float]:
    """Rows of the table, figures, CPU share."""
    bundle, checkpoint = chosen.bundle or random_bundle(), chosen.checkpoint or random_checkpoint()
    with ExitStack() as stack:
        workers = {
            name: stack.enter_context(Worker(command))
            for name, command in commands(bundle, checkpoint, chosen.llama_python).items()
        }
        cosine = cosines(workers)
        passes = measured(workers, chosen.rounds)
        memory = {name: worker.ask("memory")["rss_bytes"] for name, worker in workers.items()}
    rows = [
        {
            "peer": name,
            **{f"{kind} tok/s": round(median(taken, kind), 1) for kind in KINDS},
            "our decode is": f"{paired_ratio(passes, name, 'decode'):.2f}x",
            "RSS MB": round(memory[name] / 1e6),
            "CPU share": round(median(taken, "cpu_share"), 2),
            "cosine to fp32": round(cosine[name], 4),
        }
        for name, taken in passes.items()
    ]
    figures = [_ratio(passes, TORCH, "decode", DECODE_RATIO_MUST)]
    figures += [_ratio(passes, TORCH, kind) for kind in ("prefill", "append")]
    for name in (name for name in passes if name.startswith("llama.cpp")):
        figures += [_ratio(passes, name, kind) for kind in KINDS]
        figures.append(Figure(f"cosine of {name}", cosine[name], "1", PARITY_TOKENS,
                              SAME_MODEL_COSINE if name.endswith("Q8_0") else None))  # fmt: skip
    for name, taken in passes.items():
        figures += [
            Figure(f"{kind} of {name}", median(taken, kind), "tokens/s", len(taken))
            for kind in KINDS
        ]
    return rows, figures, median(passes[OURS], "cpu_share")


def _ratio(
    passes: Mapping[str, list[dict[str, float]]], peer: str, kind: str, must: float | None = None
) -> Figure:
    value, rounds = paired_ratio(passes, peer, kind), len(passes[peer])
    return Figure(f"{kind} against {peer}", value, "1", rounds, at_least=must)


def main() -> None:
    """Compare, print, and leave with 1 where a figure is not as it must be."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--bundle", type=Path, help="int4 bundle; a random one otherwise")
    parser.add_argument("--checkpoint", type=Path, help="that the bundle was made of")
    parser.add_argument("--llama-python", help="interpreter of llama.cpp's own environment")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="one round")
    chosen = parser.parse_args()
    chosen.rounds = 1 if chosen.quick else chosen.rounds
    rows, figures, cpu_share = compared(chosen)
    sha256 = open_bundle(chosen.bundle or random_bundle(), check="manifest").sha256
    passed = report("benchmarks/decode_peers.py", rows, figures, bundle_sha256=sha256, threads=1,
                    cpu_share=cpu_share, rounds=chosen.rounds)  # fmt: skip
    sys.exit(not passed)


if __name__ == "__main__":
    main()
