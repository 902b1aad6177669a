"""Prove one ONNX Runtime provider by an addition, in a process of its own.

`get_available_providers()` tells what a wheel was built with, not what works here: a provider
whose libraries are missing steps aside for the CPU without an error. So each one runs a model, and
the session is asked who ran it. The process of its own keeps a crash, a hang and ONNX Runtime's log
away from the command that asked.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from typing import Any

# c = a + b on float32[2], opset 13, IR 8. Made with onnx 1.23.2: helper.make_model of
# helper.make_graph([helper.make_node("Add", ["a", "b"], ["c"])], "add", …), SerializeToString().
ADDITION = (
    b'\x08\x08:H\n\x0e\n\x01a\n\x01b\x12\x01c"\x03Add\x12\x03addZ\x0f\n\x01a\x12\n\n\x08\x08\x01'
    b"\x12\x04\n\x02\x08\x02Z\x0f\n\x01b\x12\n\n\x08\x08\x01\x12\x04\n\x02\x08\x02b\x0f\n\x01c\x12"
    b"\n\n\x08\x08\x01\x12\x04\n\x02\x08\x02B\x04\n\x00\x10\r"
)
PROVEN = "proven"
SUFFIX = "ExecutionProvider"
# A web service that some wheels list; nothing on this device.
NOT_A_DEVICE = frozenset({"AzureExecutionProvider"})
# TensorRT needs some seconds for its first engine; a process that takes longer than this hangs.
TIMEOUT_S = 60.0
_REASON_CHARACTERS = 200


@dataclass(frozen=True, slots=True)
class EngineReport:
    """What ONNX Runtime does on this device.

    Attributes:
        version: of the library that is imported; None where the import fails.
        refusal: why the import fails; None where it works.
        providers: name in lower case (`cpu`, `cuda`) → `proven` or `refused: …`.
    """

    version: str | None
    refusal: str | None
    providers: dict[str, str]


def engine_report() -> EngineReport:
    """Import ONNX Runtime and prove each provider that it lists, each in a process of its own.

    Cost: one process of about 0.2 s for the list and one for each provider.
    """
    listed, noise = answer_of_process()
    if listed is None:
        return EngineReport(None, reason_in(noise), {})
    providers: dict[str, str] = {}
    for name in listed["providers"]:
        if name not in NOT_A_DEVICE:
            answer, noise = answer_of_process(name)
            providers[name.removesuffix(SUFFIX).lower()] = _verdict(name, answer, noise)
    return EngineReport(listed["version"], None, providers)


def reason_in(noise: str) -> str:
    """The line of a log or traceback that says why, without colours, times and folders."""
    lines = [re.sub(r"\033\[[\d;]*m", "", line).strip() for line in noise.splitlines()]
    lines = [line for line in lines if line]
    said = [line for line in lines if "[E:" in line] or lines[-1:] or ["it ended without a word"]
    # ONNX Runtime puts its time, source line and status before the words.
    text = re.sub(r"^.*\[E:.*?\] ", "", said[0])
    text = re.sub(r"^.*\[ONNXRuntimeError\] : \d+ : \w+ : ", "", text)
    return without_folders(text)[:_REASON_CHARACTERS]


def without_folders(text: str) -> str:
    """The text with each path cut to its last part: folders may carry a user's name."""
    return re.sub(r"(?:[A-Za-z]:)?(?:[/\\][^\s/\\:'\"]+)+[/\\]", "", text)


def answer_of_process(*arguments: str, module: str = __name__) -> tuple[dict[str, Any] | None, str]:
    """The JSON value on the last line of a module's output; None with the reason where it broke.

    Args:
        arguments: of the process.
        module: that it runs.
    """
    command = [sys.executable, "-m", module, *arguments]
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return None, f"no answer within {TIMEOUT_S:.0f} s"
    if done.returncode < 0:
        return None, f"the process was ended by signal {-done.returncode}"
    if done.returncode > 0:
        return None, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])  # above it may stand noise
    return answer, done.stderr


def _verdict(name: str, answer: dict[str, Any] | None, noise: str) -> str:
    if answer is None:
        return f"refused: {reason_in(noise)}"
    if answer["ran_on"] != name:
        why = reason_in(noise) if noise.strip() else f"it stepped aside for {answer['ran_on']}"
        return f"refused: {why}"
    if answer["sum"] != [4.0, 6.0]:
        return f"refused: 1 + 3 and 2 + 4 gave {answer['sum']}"
    return PROVEN


def _list_providers() -> dict[str, Any]:
    import onnxruntime  # type: ignore[import-untyped]

    return {
        "version": onnxruntime.__version__,
        "providers": onnxruntime.get_available_providers(),
    }


def _add_on(provider: str) -> dict[str, Any]:
    import numpy as np
    import onnxruntime

    if provider == f"CUDA{SUFFIX}" and hasattr(onnxruntime, "preload_dlls"):
        onnxruntime.preload_dlls()  # finds the CUDA libraries that came as wheels
    session = onnxruntime.InferenceSession(ADDITION, providers=[provider])
    a, b = np.array([1, 2], np.float32), np.array([3, 4], np.float32)
    (total,) = session.run(["c"], {"a": a, "b": b})
    return {"ran_on": session.get_providers()[0], "sum": total.tolist()}


if __name__ == "__main__":
    print(json.dumps(_add_on(sys.argv[1]) if sys.argv[1:] else _list_providers()), flush=True)
    os._exit(0)  # some providers crash while they unload; the answer is out
