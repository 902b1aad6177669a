"""Prove TensorRT and TensorRT-RTX by an addition, each in a process of its own.

As with ONNX Runtime's providers: that a module can be imported is no evidence. It compiles a graph,
loads the engine and runs it on the GPU; a crash in its libraries ends that process alone.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ..runtime.engines.trt_module import MODULES
from ..runtime.errors import EngineError
from .provider_probe import ADDITION, PROVEN, answer_of_process, reason_in


def tensorrt_report() -> dict[str, str]:
    """Provider → `proven` or `refused: …`, for each module that is installed.

    Cost: one process of about a second for each.
    """
    return {name: _verdict(name) for name, module in MODULES.items() if find_spec(module)}


def _verdict(provider: str) -> str:
    answer, noise = answer_of_process(provider, module=__name__)
    if answer is None:
        return f"refused: {reason_in(noise)}"
    if answer["refusal"] is not None:
        return f"refused: {reason_in(answer['refusal'])}"
    if answer["sum"] != [4.0, 6.0]:
        return f"refused: 1 + 3 and 2 + 4 gave {answer['sum']}"
    return PROVEN


def added(provider: str) -> dict[str, Any]:
    """The sum that an engine of a provider gives, or why it gives none."""
    import numpy as np

    from ..runtime.engines.trt import TrtBackend
    from ..runtime.manifest import TensorSpec, Variant

    one, two = (TensorSpec(name, "float32", (2,)) for name in "ab")
    total = TensorSpec("c", "float32", (2,))
    form = ("addition", provider, "addition.onnx", "pending-device", "float32")
    variant = Variant(*form, inputs=(one, two), outputs=(total,))
    with tempfile.TemporaryDirectory() as folder:
        graph = Path(folder, "addition.onnx")
        graph.write_bytes(ADDITION)
        try:
            with TrtBackend(provider, Path(folder, "engines")).open(graph, variant) as engine:
                pair = {"a": np.array([1, 2], np.float32), "b": np.array([3, 4], np.float32)}
                return {"sum": engine.run(pair)["c"].tolist(), "refusal": None}
        except EngineError as fault:
            return {"sum": None, "refusal": fault.message}


if __name__ == "__main__":
    print(json.dumps(added(sys.argv[1])), flush=True)
    os._exit(0)  # some libraries crash while they unload; the answer is out
