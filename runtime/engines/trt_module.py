"""The two Python modules of TensorRT, which share one API, and what they write into their log."""

from __future__ import annotations

import importlib
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ..errors import BackendMissing, DeviceMemoryExhausted, EngineError, EngineUnusable

MODULES = {"tensorrt": "tensorrt", "tensorrt-rtx": "tensorrt_rtx"}
"""Provider → the module that runs it."""
_HINTS = {
    "tensorrt": "pip install 'edgestream[tensorrt]'; a Jetson has it from JetPack",
    "tensorrt-rtx": "pip install 'edgestream[rtx]'",
}
_FLOATS = {"FLOAT": "float32", "HALF": "float16", "BF16": "bfloat16"}
DTYPES = {
    name: _FLOATS.get(name, name.lower())
    for name in (*_FLOATS, "INT8", "INT32", "INT64", "BOOL", "UINT8")
}
"""TensorRT's names of element types → those of a manifest."""
_LINES, _CHARACTERS = 20, 300
_NO_MEMORY = ("out of memory", "outofmemory", "insufficient memory", "cudaerrormemoryallocation")
_LOGS: dict[str, Any] = {}


def imported(provider: str) -> Any:
    """The module of a provider.

    Raises:
        BackendMissing: it is not installed, or cannot be imported.
    """
    try:
        return importlib.import_module(MODULES[provider])
    except (ImportError, OSError) as error:
        # Its wheel may be a stub that raises while it is imported, or lack a library.
        raise BackendMissing(
            f"{MODULES[provider]} cannot be imported: {error}", hint=_HINTS[provider]
        ) from error


def log_of(trt: Any) -> Any:
    """The logger of a module: it keeps the last errors in `lines` and prints nothing.

    A process has one for each module: TensorRT uses the first that it is given and no other.
    """
    if trt.__name__ not in _LOGS:

        class Collected(trt.ILogger):  # type: ignore[misc]
            def __init__(self) -> None:
                super().__init__()
                self.lines: deque[str] = deque(maxlen=_LINES)

            def log(self, severity: Any, message: str) -> None:
                if severity <= trt.ILogger.ERROR:
                    self.lines.append(message)

        _LOGS[trt.__name__] = Collected()
    return _LOGS[trt.__name__]


FAULTS = (RuntimeError, TypeError, ValueError, AttributeError, MemoryError)
"""What a module raises while it opens or compiles; it lacks a name where it is too old."""


@contextmanager
def faults_told(
    trt: Any,
    what: str,
    kind: type[EngineError] = EngineUnusable,
    faults: tuple[type[Exception], ...] = FAULTS,
) -> Iterator[None]:
    """Whatever the module raises in the block is our error, in its words.

    Args:
        what: was being done: the beginning of the sentence.
        kind: of our error, where it is not for want of memory.
        faults: that are the module's; others are bugs of ours.
    """
    log = log_of(trt)
    log.lines.clear()
    try:
        yield
    except EngineError:
        raise
    except faults as error:
        raise refused(trt, what, kind, str(error)) from error


def refused(
    trt: Any, what: str, kind: type[EngineError] = EngineUnusable, else_: str = ""
) -> EngineError:
    """Our error for what the module refused, with the last line of its log, or else these words."""
    lines = [" ".join(line.split()) for line in log_of(trt).lines]
    told = (lines[-1] if lines else else_ or "it does not say why")[:_CHARACTERS]
    if any(sign in " ".join([*lines, else_]).lower() for sign in _NO_MEMORY):
        return DeviceMemoryExhausted(
            f"{what}: the device has no memory left", hint="close other programs, or use less cache"
        )
    return kind(f"{what}: {told}")
