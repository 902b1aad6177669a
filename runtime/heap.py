"""How many heaps the C library may have: fewer keep a process with many threads small."""

from __future__ import annotations

import ctypes
from contextlib import suppress

M_ARENA_MAX = -8
"""Of glibc's malloc.h."""


def bound_heaps(most: int) -> bool:
    """Let threads share so many heaps; whether the C library could be told.

    glibc gives threads heaps of their own, up to eight a core, and memory that is freed in one
    serves no other: a service with 40 threads grows for hours without a leak. Call it before
    threads are started. Other C libraries have no such heaps, and are left as they are.

    Args:
        most: heaps; with 1 threads wait for each other.
    """
    with suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt.argtypes, mallopt.restype = (ctypes.c_int, ctypes.c_int), ctypes.c_int
        return bool(mallopt(M_ARENA_MAX, most))
    return False
