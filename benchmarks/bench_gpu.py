"""How fast a GPU watches and speaks: four models in real size, against PyTorch in the same run.

    make bench-gpu                                   a slice of ten minutes; again to go on
    python benchmarks/bench_gpu.py                   everything, however long it takes
    python benchmarks/bench_gpu.py smolvlm2_500m --rungs torch,torch_bounded
    python benchmarks/bench_gpu.py --tiny            the same code on any processor, in a minute

Weights are random and made on the device; nothing is downloaded. Every figure is kept in --work as
soon as it is measured, so that a run that was cut off goes on where it was (exit code 75: there is
more to measure). Peers take turns in rounds; values are medians. Where there is no GPU, the shapes
are tiny ones on the CPU, which say nothing of a GPU. What the columns mean is in docs/bench-gpu.md.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import gpu_report
import torch
from figures import BusyTime, report
from gpu_measure import TINY_PLAN, Plan
from gpu_meter import Meter, smi_name
from gpu_run import RUNGS, DeviceLost, Run
from gpu_shapes import SHAPES, TINY, Shape
from gpu_state import Slice, State, StateOfOtherRun, sha256_of
from gpu_torch import dtype_name

from edgestream import __version__
from edgestream.edge.machine import this_machine

WORK = Path("build/bench-gpu")
EXIT_USAGE, EXIT_UNFINISHED = 2, 75
PACKAGES = ("torch", "transformers", "onnxruntime", "onnxruntime-gpu", "onnxruntime-genai",
            "tensorrt", "tensorrt-rtx")  # fmt: skip


def main(words: Sequence[str] | None = None) -> int:
    """Measure what is not measured yet, print everything; the exit code."""
    chosen = _parser().parse_args(words)
    device = torch.device(chosen.device or ("cuda" if torch.cuda.is_available() else "cpu"))
    is_tiny = chosen.tiny or (device.type == "cpu" and not chosen.real)
    if is_tiny:
        print("tiny shapes: these figures say nothing of real models", file=sys.stderr)
    dtype = getattr(torch, chosen.dtype or ("float16" if device.type == "cuda" else "float32"))
    shapes = [(TINY if is_tiny else SHAPES)[name] for name in chosen.shapes or SHAPES]
    plan = _plan(chosen, is_tiny)
    work = chosen.work / f"{'tiny-' if is_tiny else ''}{device.type}-{dtype_name(dtype)}"
    if chosen.fresh:
        shutil.rmtree(work, ignore_errors=True)
    try:
        state = State(work / "state.json", _fingerprint(plan, dtype, device))
    except StateOfOtherRun as error:
        print(f"{error}\ntry: --fresh throws them away, --work keeps both", file=sys.stderr)
        return EXIT_USAGE
    busy = BusyTime()
    with torch.inference_mode(), Meter(smi_name(device)) as meter:
        run = Run(state, plan, Slice(chosen.slice_s), meter, device, dtype, work)
        is_done = _measure(run, shapes, chosen.rungs)
    passed = _report(shapes, state, plan, busy, is_bound=not is_tiny, is_done=is_done)
    if not is_done:
        print("not everything is measured yet: run the same command again", file=sys.stderr)
        return EXIT_UNFINISHED
    return 0 if passed else 1


def _measure(run: Run, shapes: Sequence[Shape], rungs: Sequence[str]) -> bool:
    """Whether nothing is left to measure."""
    try:
        return all([run.shape(shape, rungs) for shape in shapes])
    except DeviceLost as error:
        print(f"the device is lost to this process: {error}", file=sys.stderr)
        return False


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("shapes", nargs="*", choices=[[], *SHAPES], metavar="SHAPE",
                        help=f"of {', '.join(SHAPES)}; all without one")  # fmt: skip
    parser.add_argument("--rungs", type=lambda text: tuple(text.split(",")), default=tuple(RUNGS),
                        help=f"of {', '.join(RUNGS)}; those that run here")  # fmt: skip
    parser.add_argument("--tiny", action="store_true", help="shrunk shapes, also on a GPU")
    parser.add_argument("--real", action="store_true", help="real sizes, also on a CPU: hours")
    parser.add_argument("--device", help="cuda, cuda:1 or cpu; a GPU where there is one")
    parser.add_argument("--dtype", choices=("float16", "bfloat16", "float32"),
                        help="of PyTorch's weights; float16 on a GPU")  # fmt: skip
    parser.add_argument("--minutes", type=int, nargs=2, metavar=("FIRST", "LAST"),
                        help="of the stream, whose speeds are compared; 1 10")  # fmt: skip
    parser.add_argument("--rounds", type=int, help="of the short measurements")
    parser.add_argument("--slice-s", type=float, default=0.0,
                        help="stop in time to end within so many seconds; 0: no limit")  # fmt: skip
    parser.add_argument("--work", type=Path, default=WORK, help="figures so far, and graphs")
    parser.add_argument("--fresh", action="store_true", help="forget figures and graphs so far")
    return parser


def _plan(chosen: argparse.Namespace, is_tiny: bool) -> Plan:
    plan = TINY_PLAN if is_tiny else Plan()
    more: dict[str, Any] = {}
    if chosen.minutes:
        more["minutes"] = tuple(chosen.minutes)
    if chosen.rounds:
        more["rounds"] = chosen.rounds
    fields = {name: getattr(plan, name) for name in Plan.__dataclass_fields__}
    return Plan(**{**fields, **more})


def _fingerprint(plan: Plan, dtype: torch.dtype, device: torch.device) -> dict[str, Any]:
    """What two runs must have in common for their figures to stand in one table."""
    machine = this_machine()
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else machine.cpu
    here = Path(__file__).parent
    return {
        "device": name,
        "packages": {one: _version(one) for one in PACKAGES},
        "edgestream": __version__,
        "code": sha256_of([here / "bench_gpu.py", *sorted(here.glob("gpu_*.py"))]),
        "dtype": dtype_name(dtype),
        "threads": torch.get_num_threads(),
        "plan": [*map(str, (getattr(plan, one) for one in Plan.__dataclass_fields__))],
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _report(
    shapes: list[Shape], state: State, plan: Plan, busy: BusyTime, *, is_bound: bool, is_done: bool
) -> bool:
    """Print table and result line; whether every goal is reached."""
    held = {shape.name: state.shapes.get(shape.name, {}) for shape in shapes}
    labels = {rung: one.label for rungs in held.values() for rung, one in rungs.items()
              if one.label}  # fmt: skip
    # Why a peer did not run, or ended: once, with the shapes where that is so.
    refused: dict[tuple[str, str], list[str]] = {}
    for name, rungs in held.items():
        for rung, one in rungs.items():
            if one.refused:
                refused.setdefault((rung, one.refused), []).append(name)
    for rung, label in labels.items():
        print(f"{rung}: {label}")
    for (rung, why), names in refused.items():
        print(f"{rung} was refused on {', '.join(names)}: {why}")
    machine = this_machine()
    providers = {rung: f"refused: {why}" for rung, why in refused}
    providers |= dict.fromkeys(labels, "proven")
    passed: bool = report(
        "bench", gpu_report.rows(shapes, held, plan),
        gpu_report.figures(shapes, held, plan, is_bound=is_bound and is_done),
        bundle_sha256=None, threads=torch.get_num_threads(),
        cpu_share=busy.cpu_share() / torch.get_num_threads(), edgestream=__version__,
        machine={"cpu": machine.cpu, "cores": machine.cores, "ram_bytes": machine.ram_bytes,
                 "gpu": machine.gpu, "providers": providers},
        weights="random", rungs=labels, is_done=is_done,
        refused=[{"rung": rung, "why": why, "shapes": names}
                 for (rung, why), names in refused.items()],
    )  # fmt: skip
    return passed


if __name__ == "__main__":
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    sys.exit(main())
