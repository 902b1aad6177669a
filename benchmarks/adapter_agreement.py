"""Adapters that were trained here, on quantized bases: what they say against PyTorch, and the cost.

    python benchmarks/adapter_agreement.py --work DIR       everything that is not there yet
    python benchmarks/adapter_agreement.py --work DIR --large    and float32 activations at 135M

Three adapters of the reference checkpoint are trained by `train lora --decoder-only` on the same
rendered clips: `camera` and `things` say different things of them, `qlora` says what `camera` does
but was trained over an NF4 base. Then, on clips that none of them saw:

QLoRA: the base in the bundle's NF4 graph is the base of the training, bit for bit; the adapter on
NF4, int4 and float32 graphs against the very model that was trained, teacher-forced and greedy; and
`edgestream eval dialogues` of each.

Two on one int4 base, swapped for each prompt: 64 greedy tokens against PyTorch over what is left of
the weights with the adapter unmerged, with int8 activations (`int4`) and with float32 ones
(`int4-a32`); the time of a swap, and tokens a second, in turn. One thread.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from adapter_clips import written
from adapter_readers import (
    EngineReader,
    Reader,
    Row,
    TorchReader,
    agreement,
    base_differences,
    dequantized,
    held_out_rows,
    trained_model,
)
from adapter_speed import adapted_rows, large_rows
from figures import BusyTime, Figure, report, table

HERE = Path(__file__).parent
BASE = HERE.parent / "assets" / "reference-checkpoint"
TOKENS, MOST_PROMPTS, SWAP_MUST_MS = 64, 16, 5.0
PAIR = ("camera", "things")
# Adapter → the dialogues that it learns, and more of `train lora`.
ADAPTERS: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "camera": ("camera", ()),
    "things": ("things", ()),
    "qlora": ("camera", ("--qlora",)),
}
# Bundle → its --llm and adapters. QLoRA keeps the head as it was.
BUNDLES: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "nf4": ("nf4,head=fp32", ("qlora",)),
    "fp32": ("fp32", ("qlora",)),
    "int4": ("int4", ("camera", "things", "qlora")),
    "int4-a32": ("int4-a32", ("camera", "things", "qlora")),
    "plain": ("int4", ()),
}


def main() -> None:
    """Make what is missing, measure, print, and leave with 1 where a bound is not kept."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--work", type=Path, required=True, help="clips, adapters and bundles")
    parser.add_argument("--clips", type=int, default=60)
    parser.add_argument("--held-out", type=int, default=20)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--large", action="store_true", help="tokens a second of a larger decoder")
    chosen = parser.parse_args()
    files = written(chosen.work / "clips", chosen.clips, chosen.held_out)
    made(chosen.work, files, chosen.epochs)
    import torch

    torch.set_num_threads(1)
    from edgestream.models.families import load_checkpoint

    checkpoint, busy = load_checkpoint(BASE), BusyTime()
    rows: list[dict[str, Any]] = []
    with ExitStack() as stack:
        readers = {name: EngineReader.opened(stack, chosen.work / name)
                   for name in BUNDLES if name != "plain"}  # fmt: skip
        held = {name: held_out_rows(checkpoint, pair[1], chosen.work / "cache")
                for name, pair in files.items()}  # fmt: skip
        figures = qlora(checkpoint, chosen.work, readers, held["camera"], rows)
        figures += two_on_one(checkpoint, chosen.work, readers, held, rows)
        figures += stored_once(chosen.work)
        bases = {name: readers[name] for name in ("int4", "int4-a32")}
        rows += adapted_rows(bases, PAIR, chosen.rounds)
        sha256, share = readers["int4-a32"].bundle.sha256, busy.cpu_share()
    rows += evaluated(chosen.work, files["camera"][1])
    rows += large_rows(chosen.work, chosen.rounds) if chosen.large else []
    for kind in dict.fromkeys(row["what"] for row in rows):
        print_rows([row for row in rows if row["what"] == kind])
    passed = report("benchmarks/adapter_agreement.py", [], figures, bundle_sha256=sha256,
                    threads=1, cpu_share=share, tables=rows, weights="trained")  # fmt: skip
    raise SystemExit(not passed)


def made(work: Path, files: Mapping[str, tuple[Path, Path]], epochs: int) -> None:
    """Train and export what is not there, each command as a user gives it."""
    for name, (says, more) in ADAPTERS.items():
        out, (learned, held) = work / f"adapter-{name}", files[says]
        if not (out / "adapter_config.json").exists():
            told = command("train", "lora", learned, "--base", BASE, "--evaluate-on", held,
                           "--decoder-only", *more, "--epochs", epochs, "--cache", work / "cache",
                           "--out", out, "--json")  # fmt: skip
            (work / f"adapter-{name}.json").write_text(told)
    for name, (llm, adapters) in BUNDLES.items():
        if not (work / name / "manifest.json").exists():
            kept = [word for one in adapters
                    for word in ("--adapters", f"{one}={work / f'adapter-{one}'}")]  # fmt: skip
            command("export", BASE, "--out", work / name, "--llm", llm, *kept)


def command(*words: Any) -> str:
    """The last line of what `edgestream` says to these words."""
    call = [sys.executable, "-m", "edgestream.edge.cli", *map(str, words)]
    done = subprocess.run(call, check=True, stdout=subprocess.PIPE, text=True)
    return (done.stdout.splitlines() or [""])[-1]


def qlora(
    checkpoint: Any, work: Path, readers: Mapping[str, EngineReader], held: Sequence[Row],
    rows: list[dict[str, Any]],
) -> list[Figure]:  # fmt: skip
    """The adapter that was trained over NF4, on each base, against the model that was trained."""
    from edgestream.training.lora_model import LoraShape

    told = json.loads((work / "adapter-qlora" / "edgestream_adapter.json").read_text())
    shape = told["trained"]["recipe"]["shape"]
    shape = LoraShape(**{**shape, "targets": tuple(shape["targets"])})
    assert shape.is_nf4 and shape.is_decoder_only
    trained = trained_model(checkpoint, work / "adapter-qlora", shape)
    differing, count = base_differences(trained, checkpoint, readers["nf4"].bundle)
    reference = TorchReader(trained.decoder)
    expected = [reference.logits(row) for row in held]
    said = [reference.greedy(prompt, TOKENS) for prompt in prompts(held)]
    found = {}
    for name, reader in readers.items():
        reader.use("qlora")
        found[name] = agreement(expected, [reader.logits(row) for row in held])
        row = {"what": "qlora against its training", "base": name, **found[name],
               **greedy_row(reader, held, said)}  # fmt: skip
        rows.append(row)
    return [
        Figure("NF4 weights that differ from the training's", differing, "1", count, at_most=0),
        Figure("same token, qlora on NF4", found["nf4"]["same token"], "1",
               int(found["nf4"]["positions"]), at_least=0.999),
    ]  # fmt: skip


def two_on_one(
    checkpoint: Any, work: Path, readers: Mapping[str, EngineReader],
    held: Mapping[str, Sequence[Row]], rows: list[dict[str, Any]],
) -> list[Figure]:  # fmt: skip
    """Each adapter of the pair on one base, swapped before each prompt, against PyTorch."""
    from edgestream.export.prove_adapters import added
    from edgestream.models.lora_matrices import lora_matrices

    figures = []
    for base in ("int4", "int4-a32"):
        reader, left = readers[base], dequantized(checkpoint, readers[base].bundle)
        said: dict[str, list[Any]] = {}
        for name in PAIR:
            with added(left, lora_matrices(checkpoint, work / f"adapter-{name}")):
                torch_reader = TorchReader(left)
                expected = [torch_reader.logits(row) for row in held[name]]
                said[name] = [torch_reader.greedy(one, TOKENS) for one in prompts(held[name])]
            reader.use(name)
            near = agreement(expected, [reader.logits(row) for row in held[name]])
            rows.append({"what": "two adapters on one base", "base": base, "adapter": name, **near})
        row, figure = swapped(reader, base, held, said)
        rows.append(row)
        figures += figure
    return figures


def swapped(
    reader: EngineReader, base: str, held: Mapping[str, Sequence[Row]],
    said: Mapping[str, Sequence[Any]],
) -> tuple[dict[str, Any], list[Figure]]:  # fmt: skip
    """The prompts of the pair in turn, the adapter swapped before each."""
    each = [[(name, *two) for two in zip(prompts(held[name]), said[name], strict=True)]
            for name in PAIR]  # fmt: skip
    turns = [one for pair in zip(*each, strict=False) for one in pair]
    swaps: list[float] = []
    same: list[int] = []
    for name, prompt, (ids, _) in turns:
        begun = time.perf_counter()
        reader.use(name)
        swaps.append(1e3 * (time.perf_counter() - begun))
        same.append(first_difference(ids, reader.greedy(prompt, TOKENS)[0]))
    count, took = TOKENS * len(turns), statistics.median(swaps)
    row = {"what": "swapped for each prompt", "base": base, "prompts": len(turns), "tokens": count,
           "wholly equal": sum(one == TOKENS for one in same),
           "before a difference": sum(same) / count,
           "swap ms": took, "worst swap ms": max(swaps)}  # fmt: skip
    must = 1.0 if base == "int4-a32" else None
    name = f"greedy tokens equal to PyTorch's, {base}"
    return row, [Figure(name, sum(same) / count, "1", count, at_least=must),
                 Figure(f"swap, {base}", took, "ms", len(swaps), at_most=SWAP_MUST_MS)]  # fmt: skip


def prompts(held: Sequence[Row]) -> list[np.ndarray]:
    """What is read before answers of some rows: MOST_PROMPTS of them, evenly."""
    every = [row.embeds[: at + 1] for row in held for at in row.prompts]
    return every[:: max(1, len(every) // MOST_PROMPTS)][:MOST_PROMPTS]


def first_difference(expected: Sequence[int], found: Sequence[int]) -> int:
    """How many tokens are equal before the first that is not."""
    pairs = enumerate(zip(expected, found, strict=True))
    return next((at for at, (one, other) in pairs if one != other), len(expected))


def greedy_row(reader: Reader, held: Sequence[Row], said: Sequence[Any]) -> dict[str, Any]:
    """How much of what was said greedily another reader says by itself."""
    same = [first_difference(ids, reader.greedy(prompt, TOKENS)[0])
            for prompt, (ids, _) in zip(prompts(held), said, strict=True)]  # fmt: skip
    return {"prompts": len(same), "wholly equal": sum(one == TOKENS for one in same),
            "before a difference": sum(same) / (TOKENS * len(same))}  # fmt: skip


def stored_once(work: Path) -> list[Figure]:
    """Bytes of the decoder's weights beside adapters against those of the bundle without any."""
    sizes = {name: sum(file.stat().st_size for file in (work / name).glob("decoder*.data"))
             for name in ("int4", "int4-a32", "plain")}  # fmt: skip
    return [Figure(f"bytes of weights as without adapters, {name}", sizes[name] / sizes["plain"],
                   "1", 1, at_least=1.0, at_most=1.0) for name in ("int4", "int4-a32")]  # fmt: skip


def evaluated(work: Path, held: Path) -> list[dict[str, Any]]:
    """`edgestream eval dialogues` of the adapter trained over NF4, on each base."""
    found = []
    for name in BUNDLES:
        if name == "plain":
            continue
        told = json.loads(command(
            "eval", "dialogues", held, "--bundle", work / name, "--json",
            "--set", "session.adapter=qlora", "--set", "gate.kind=token",
            "--set", "context.kind=continuous", "--set", "engine.threads=1",
        ))  # fmt: skip
        lines = {one["name"]: one for one in told["metrics"]}
        shown = {key: _with_ends(lines[key]) for key in lines if "_1000ms" in key
                 or key in ("sentence_exact", "false_speech_per_minute")}  # fmt: skip
        found.append({"what": "eval dialogues, adapter qlora", "base": name, **shown})
    return found


def _with_ends(line: Mapping[str, Any]) -> str:
    if line["value"] is None:
        return "-"
    low, high = line.get("ci95") or (None, None)
    ends = "" if low is None else f" [{low:.2f}, {high:.2f}]"
    return f"{line['value']:.3f}{ends}"


def print_rows(rows: Sequence[Mapping[str, Any]]) -> None:
    """A table with its name above."""
    print(f"\n{rows[0]['what']}")
    print(table([{k: f"{v:.6g}" if isinstance(v, float) else v for k, v in row.items()
                  if k != "what"} for row in rows]))  # fmt: skip


if __name__ == "__main__":
    main()
