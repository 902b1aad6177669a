"""Fresh processes: the same addresses in each, and so the same engine; or none where forbidden."""

from __future__ import annotations

import ctypes
import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import onnx
import pytest

import edgestream
from edgestream.export.engine_worker import compiled_apart
from edgestream.export.same_addresses import small_environment, start_at_same_addresses
from edgestream.export.trt_parts import trt_evict_graph
from edgestream.runtime.engines.trt_phases import Phase

ROOT = Path(edgestream.__path__[0]).parent
HAS_RTX = importlib.util.find_spec("tensorrt_rtx") is not None
SAYS_WHERE = """
import sys
from edgestream.export.same_addresses import start_at_same_addresses
start_at_same_addresses([sys.executable, *sys.orig_argv[1:]])
print(id(object()), len(sys.argv))
"""


def told(program: Path) -> str:
    """What one fresh process says of where its memory lies."""
    found = subprocess.run(
        [sys.executable, str(program)],
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONHASHSEED": "0"},
        capture_output=True,
        text=True,
        check=True,
    )
    return found.stdout


def may_be_fixed() -> bool:
    """Whether this system lets a process choose; the question leaves it as it is."""
    libc = ctypes.CDLL(None)
    now = libc.personality(ctypes.c_ulong(0xFFFFFFFF))
    allowed = now >= 0 and libc.personality(ctypes.c_ulong(now | 0x0040000)) >= 0
    libc.personality(ctypes.c_ulong(now))
    return allowed


@pytest.mark.medium
@pytest.mark.skipif(not may_be_fixed(), reason="this system forbids fixed addresses")
def test_an_object_lies_at_the_same_address_in_every_process(tmp_path):
    program = tmp_path / "program.py"
    program.write_text(SAYS_WHERE)
    assert len({told(program) for _ in range(4)}) == 1
    assert told(program).split()[1] == "2"  # one word more than it was started with: once anew


def test_where_the_system_forbids_it_the_process_goes_on(monkeypatch):
    asked = []

    class Forbidding:
        def __init__(self, name):
            def personality(word):
                asked.append(word)
                return 0 if word == 0xFFFFFFFF else -1

            self.personality = personality

    monkeypatch.setattr(ctypes, "CDLL", Forbidding)
    start_at_same_addresses(["/nowhere/to/be/found"])
    assert asked == [0xFFFFFFFF, 0x0040000]


def test_what_finds_libraries_is_kept_and_nothing_else():
    given = {"SSH_TTY": "x", "LD_LIBRARY_PATH": "/cuda", "CUDA_VISIBLE_DEVICES": "1", "HOME": "/h",
             "PYTHONPATH": "p", "PYTHONHASHSEED": "7", "PYTEST_CURRENT_TEST": "t"}  # fmt: skip
    assert list(small_environment(given).items()) == [
        ("CUDA_VISIBLE_DEVICES", "1"), ("HOME", "/h"), ("LD_LIBRARY_PATH", "/cuda"),
        ("PYTHONHASHSEED", "0"), ("PYTHONPATH", "p"),
    ]  # fmt: skip


@pytest.mark.slow
@pytest.mark.skipif(not HAS_RTX, reason="needs tensorrt-rtx: pip install .[rtx]")
@pytest.mark.skipif(not may_be_fixed(), reason="this system forbids fixed addresses")
def test_an_engine_of_two_outputs_is_the_same_in_any_environment(tmp_path, monkeypatch):
    """SmolVLM2-256M's: with addresses left to the system, one build in eight differed."""
    graph, size = tmp_path / "evict.onnx", (1, 1024, 2048)
    onnx.save(trt_evict_graph(3, 64, 2048), str(graph))
    phase, made = Phase("any", graph, (), {"kept": size, "positions": size}), set()
    for length in (1, 500, 30_000, 100_000) * 4:
        monkeypatch.setenv("EDGESTREAM_TEST_PADDING", "x" * length)
        made.add(compiled_apart("tensorrt-rtx", phase, "sm86"))
    assert len(made) == 1
