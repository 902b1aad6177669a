"""A process whose memory lies at the same addresses each time it is started.

Linux puts heap, stack and libraries of each process somewhere else. A program that walks through a
table keyed by address then meets its entries in another order, about one time in ten for the tables
of TensorRT-RTX. The system leaves that to whoever asks for it (`setarch -R` does the same).
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Mapping, Sequence

# <linux/personality.h>
_ASK, _NOT_RANDOM = 0xFFFFFFFF, 0x0040000
_HERE = "--same-addresses"
# What finds Python, its modules, libraries and the GPU. Everything else is left out: the
# environment of a process lies in its heap, and moves what comes behind.
_KEPT_NAMES = frozenset({"HOME", "TMPDIR"})
_KEPT_BEGINNINGS = ("CUDA", "LD_", "NV", "PYTHON", "TENSORRT", "TRT")


def small_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """Those of the variables that a compiler of engines may need, in the order of their names."""
    return {
        name: environment[name]
        for name in sorted(environment)
        if name in _KEPT_NAMES or name.startswith(_KEPT_BEGINNINGS)
    } | {"PYTHONHASHSEED": "0"}


def start_at_same_addresses(command: Sequence[str]) -> None:
    """Start this process once more, as this command; come back where that has been done.

    Also comes back, and nothing is changed, where the system does not allow it: containers often
    forbid the call.

    Args:
        command: the program and its words; one more comes behind them.
    """
    if sys.argv[-1] == _HERE:
        return
    libc = ctypes.CDLL(None)
    if not hasattr(libc, "personality"):  # not Linux
        return
    libc.personality.argtypes = [ctypes.c_ulong]
    now = libc.personality(_ASK)
    if now >= 0 and libc.personality(now | _NOT_RANDOM) >= 0:
        os.execv(command[0], [*command, _HERE])
