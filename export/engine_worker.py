"""One engine compiled in a process of its own: the same graph gives the same bytes there.

TensorRT-RTX lists tensors in the order of their addresses, so what it writes depends on what the
process did before, on the length of the graph's path, and on where the system put its memory;
measured on engines with several outputs. A fresh process that stands in the graph's folder, with a
small environment and at the same addresses (same_addresses.py), always does the same. It also gives
all memory back, and takes a builder that crashes down alone.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..runtime.engines.trt_build import built_engine
from ..runtime.engines.trt_module import imported
from ..runtime.engines.trt_phases import Phase
from ..runtime.errors import DeviceMemoryExhausted, EdgeStreamError, EngineUnusable
from .same_addresses import small_environment, start_at_same_addresses

# -P: a file in the bundle's folder is no module of ours.
_COMMAND = (sys.executable, "-P", "-m", "edgestream.export.engine_worker")


def compiled_apart(provider: str, phase: Phase, target: str | None) -> bytes:
    """The engine of a graph; see `built_engine`.

    Args:
        provider: tensorrt or tensorrt-rtx.
        phase: the graph, and the sizes that it shall run with.
        target: architecture such as `sm86`; None: the GPU of this machine.

    Raises:
        EngineUnusable, DeviceMemoryExhausted, BackendMissing: as `built_engine` and `imported`.
    """
    sizes = {name: list(size) for name, size in phase.sizes.items()}
    asked = json.dumps({"provider": provider, "graph": phase.graph.name, "target": target,
                        "name": phase.name, "sizes": sizes})  # fmt: skip
    with tempfile.TemporaryFile() as answer:
        number = answer.fileno()
        done = subprocess.run(
            [*_COMMAND, f"{number:06}"],
            input=asked.encode(),
            cwd=phase.graph.parent,
            env=small_environment(os.environ),
            pass_fds=(number,),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            check=False,
        )
        answer.seek(0)
        told = answer.readline()
        if not told:
            words = done.stderr.decode(errors="replace").strip().splitlines()[-1:]
            raise EngineUnusable(
                f"{phase.graph.name} cannot be compiled: the compiler ended with code "
                f"{done.returncode}: {''.join(words) or 'it does not say why'}",
                hint="`edgestream doctor` says whether there is memory enough",
            )
        fault = json.loads(told)
        if fault:
            raise _error(fault)
        return answer.read()


def _error(fault: Mapping[str, str]) -> EdgeStreamError:
    kinds = {kind.code: kind for kind in (DeviceMemoryExhausted, EngineUnusable)}
    return kinds.get(fault["code"], EngineUnusable)(fault["message"], hint=fault["hint"])


def main() -> None:
    """In the process of its own: what to do comes over stdin, the engine goes into a file."""
    start_at_same_addresses([*_COMMAND, sys.argv[1]])
    asked: dict[str, Any] = json.loads(sys.stdin.buffer.read())
    fault: Mapping[str, str | None] = {}
    blob = b""
    try:
        sizes = {name: tuple(size) for name, size in asked["sizes"].items()}
        phase = Phase(asked["name"], Path(asked["graph"]), (), sizes)
        blob = built_engine(imported(asked["provider"]), phase, asked["target"])
    except EdgeStreamError as error:
        fault = error.as_json()["error"]
    with os.fdopen(int(sys.argv[1]), "wb") as answer:
        answer.write(f"{json.dumps(fault)}\n".encode())
        answer.write(blob)


if __name__ == "__main__":
    main()
