"""What of EdgeStream ran where, and what never ran on a GPU: `doctor` and docs/tested.md quote it.

`python -m edgestream.edge.tested > docs/tested.md` writes the page anew.
"""

from __future__ import annotations

from dataclasses import dataclass

NEVER = "never"


@dataclass(frozen=True, slots=True)
class Tested:
    """One thing and where it ran.

    Attributes:
        what: the thing.
        how: what was run of it, and on what.
        gpu: the GPU that it ran on, with its figures' place; NEVER where it ran on none.
        short: name of it in a list; empty where it needs no GPU.
    """

    what: str
    how: str
    gpu: str = NEVER
    short: str = ""


ROWS = (
    Tested(
        "The CPU variants of a bundle",
        "everything, on x86-64 with two cores; every test, the device suite under Python 3.10 to "
        "3.13",
        "needs none",
    ),
    Tested(
        "The ladder: what is refused, what falls to the next rung",
        "all of it, with a scripted TensorRT above the CPU: wrong numbers, a device that is lost "
        "in the middle of frames, words and evictions, a module or a driver that is not there",
        short="the ladder with real GPU rungs",
    ),
    Tested(
        "Compiling for TensorRT-RTX (SM 8.6, 8.9, 12.0)",
        "with tensorrt-rtx 1.7.1 on a machine without a GPU: the engines of the reference bundle "
        "and of SmolVLM2-256M's shape come out, byte-equal on a second build, and its own words "
        "for what it cannot compile",
        "needs none to compile",
    ),
    Tested(
        "Compiling with TensorRT on the device",
        "through a scripted module that has the same API and runs ONNX on the CPU; the library "
        "itself could not be had",
        short="compiling with TensorRT",
    ),
    Tested(
        "Engines of TensorRT and TensorRT-RTX: loading and running them",
        "through the same scripted module: the tests of every engine, phases, buffers, aliased "
        "outputs, a cache that lives on the device, evictions, faults. tensorrt-rtx 1.7.1 itself "
        "is refused where there is no driver, with our error",
        short="running engines of TensorRT and TensorRT-RTX",
    ),
    Tested(
        "CUDA graphs of TensorRT's decode and gate",
        "recorded and launched by a scripted device",
        short="CUDA graphs",
    ),
    Tested(
        "The NVIDIA driver (`libcuda.so.1`): memory, streams, graphs",
        "through a scripted driver that checks types and order of what it is asked",
        short="memory and streams of the NVIDIA driver",
    ),
    Tested(
        "The cache of compiled engines",
        "all of it, with threads and damaged files",
        "needs none",
    ),
    Tested(
        "The graphs of `export --target cuda`",
        "typed float32 they pass the proof on the CPU, and as float16 they run there too and stay "
        "within 2 % of that",
        short="the graphs for CUDA",
    ),
    Tested(
        "ONNX Runtime with CUDA: arrays, a cache and evictions on the device, CUDA graphs",
        "opened strictly and refused where there is no GPU; everything else with the provider cpu "
        "in its place",
        short="ONNX Runtime with CUDA",
    ),
    Tested(
        "The graphs of `export --target tensorrt` and `tensorrt-rtx`",
        "in ONNX Runtime on the CPU, and the reference bundle whole, frames, words and evictions, "
        "through the scripted module; vision in static int8 within the gates of the CPU's int8; "
        "tensorrt-rtx compiles each of them",
        short="the graphs for TensorRT",
    ),
    Tested(
        "`make bench-gpu`",
        "all of it with tiny shapes on a CPU; SmolVLM2-500M in real size through its PyTorch peers "
        "there",
        short="the benchmark of GPUs",
    ),
    Tested(
        "`train` with `--device cuda`",
        "the same code on a CPU, every recipe",
        short="training",
    ),
    Tested(
        "deploy/Dockerfile.cuda and Dockerfile.jetpack, hardware decoders of video",
        "checked by tests/edge/test_deploy.py, not built; the decoders that FFmpeg brings are "
        "opened and named by `doctor`",
        short="the images for CUDA and JetPack",
    ),
)


def never_on_a_gpu() -> tuple[str, ...]:
    """What has never run on a GPU, each in a few words."""
    return tuple(row.short for row in ROWS if row.gpu == NEVER)


def sentence() -> str:
    """What the README says of it."""
    return f"Never yet on a GPU: {', '.join(never_on_a_gpu())}."


def page() -> str:
    """docs/tested.md."""
    table = [f"| {row.what} | {row.how} | {row.gpu} |" for row in ROWS]
    return "\n".join(
        [
            "# What was tested where",
            "",
            "Everything here was built on machines without a GPU. What says *never* has not run on "
            "one: expect faults there, and tell us. A variant for a GPU is used only after it gave "
            "the bundle's golden numbers on the very device (`edgestream doctor BUNDLE` shows it); "
            "where it does not, the next rung runs. `edgestream doctor` quotes this page; it is "
            "written by `python -m edgestream.edge.tested > docs/tested.md`.",
            "",
            "| What | What was run of it | On a GPU |",
            "|---|---|---|",
            *table,
            "",
        ]
    )


if __name__ == "__main__":
    print(page(), end="")
