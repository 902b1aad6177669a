"""Sessions of ONNX Runtime: opened strictly, their faults mapped, their graphs recorded.

How a provider is held to its word: nothing may fall back to the CPU, and the session is asked who
runs it. A wheel lists providers whose libraries are missing, and steps aside without a word.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from ..errors import BackendMissing, DeviceMemoryExhausted, EngineError, EngineUnusable

# Provider in a manifest → ONNX Runtime's name for it, and for the memory that it works in.
PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
DEVICES = {"cpu": "cpu", "cuda": "cuda"}
OPTIONS: Mapping[str, Mapping[str, str]] = MappingProxyType(
    {
        "cpu": MappingProxyType({}),
        # Memory as it is asked for, not doubled: a cache and weights have constant sizes.
        "cuda": MappingProxyType({"arena_extend_strategy": "kSameAsRequested"}),
    }
)
INSTALL_HINT = (
    "pip install 'edgestream[cpu]', or 'edgestream[cuda]' on a machine with an NVIDIA GPU"
)
DOCTOR_HINT = "`edgestream doctor` says why a provider does not run"
GRAPH_ID = "gpu_graph_id"
NOT_RECORDED = "-1"
"""Value of GRAPH_ID: this run is neither recorded nor replayed."""
FATAL = 4
"""Log severity. Whatever goes wrong is raised; the same words on stderr would be noise."""
_NO_MEMORY = (
    "bad_alloc",
    "failed to allocate memory",
    "out of memory",
    "cudaerrormemoryallocation",
)
_FALLS_BACK, _NOT_RECORDABLE = "assigned to the default cpu ep", "cuda graph"


@dataclass(frozen=True, slots=True, eq=False)
class Opened:
    """A session that runs where it was asked to.

    Attributes:
        session: of ONNX Runtime.
        device: its name for the memory that it works in.
        records: runs can be recorded as CUDA graphs.
        why_not: the reason where they cannot; empty where nobody asked.
    """

    session: Any
    device: str
    records: bool = False
    why_not: str = ""


def open_session(graph: Path, provider: str, options: Any) -> Opened:
    """A session for a graph.

    Args:
        graph: its file; external data lies beside it.
        provider: a key of PROVIDERS.
        options: a SessionOptions of its own.

    Raises:
        EngineUnusable: the graph is none, or the provider does not run all of it here.
        DeviceMemoryExhausted: it does not fit.
    """
    ort = onnxruntime()
    # A provider that fails to load writes through the default logger, not the session's.
    ort.set_default_logger_severity(FATAL)
    wanted, told = PROVIDERS[provider], dict(OPTIONS[provider])
    records, why_not = provider == "cuda", ""
    if provider != "cpu":
        _preload(ort)
        options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    while True:
        given = {**told, "enable_cuda_graph": "1"} if records else told
        try:
            session = ort.InferenceSession(
                str(graph), options, providers=[(wanted, given)], enable_fallback=0
            )
            break
        except faults() as error:
            if records and _NOT_RECORDABLE in str(error).lower():
                records, why_not = False, mapped(error, graph.name, EngineUnusable).message
                continue
            raise _refusal(error, graph, provider) from error
    session.disable_fallback()
    runs_on = session.get_providers()[0]
    if runs_on != wanted:  # a provider whose libraries are missing steps aside without a word
        raise EngineUnusable(f"{graph.name}: got {runs_on}, expected {wanted}", hint=DOCTOR_HINT)
    return Opened(session, DEVICES[provider], records, why_not)


def run_options(graph_id: str) -> Any:
    """Options of a run: under which id it is recorded and replayed."""
    options = onnxruntime().RunOptions()
    options.add_run_config_entry(GRAPH_ID, graph_id)
    return options


def onnxruntime() -> Any:
    """The library.

    Raises:
        BackendMissing: it is not installed.
    """
    try:
        import onnxruntime  # type: ignore[import-untyped]
    except ImportError as error:
        raise BackendMissing(
            f"ONNX Runtime cannot be imported: {error}", hint=INSTALL_HINT
        ) from error
    return onnxruntime


def faults() -> tuple[type[Exception], ...]:
    """Every kind of exception that ONNX Runtime raises; it gives them no common parent."""
    from onnxruntime.capi import onnxruntime_pybind11_state as state  # type: ignore[import-untyped]

    own = [kind for kind in vars(state).values() if isinstance(kind, type)]
    own = [kind for kind in own if issubclass(kind, Exception)]
    return (*own, RuntimeError, ValueError, MemoryError)


def mapped(error: Exception, what: str, kind: type[EngineError]) -> EngineError:
    """Our error for one of ONNX Runtime's, in its words without their preamble and folders."""
    words = " ".join(str(error).split()).rsplit("[ONNXRuntimeError] : ", 1)[-1]
    if isinstance(error, MemoryError) or any(sign in words.lower() for sign in _NO_MEMORY):
        return DeviceMemoryExhausted(
            f"{what}: the device has no memory left", hint="close other programs, or use less cache"
        )
    return kind(f"{what}: {words or type(error).__name__}")


def _preload(ort: Any) -> None:
    """Load the CUDA libraries that came as wheels; what it prints is no result of ours."""
    if hasattr(ort, "preload_dlls"):
        with contextlib.redirect_stdout(io.StringIO()):
            ort.preload_dlls()


def _refusal(error: Exception, graph: Path, provider: str) -> EngineError:
    if provider != "cpu" and _FALLS_BACK in str(error).lower():
        return EngineUnusable(
            f"{graph.name}: {provider} does not run all of it here: its libraries or a device are "
            "missing, or one of the graph's operators has no kernel",
            hint=DOCTOR_HINT,
        )
    return mapped(error, f"{graph.name} cannot be opened", EngineUnusable)
