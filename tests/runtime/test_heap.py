"""Heaps of the C library: a process of its own, since the bound lasts until it ends."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

PROGRAM = """
import sys, threading
from edgestream.runtime.heap import bound_heaps
if sys.argv[1] != "0":
    assert bound_heaps(int(sys.argv[1]))
together = threading.Barrier(13)
def work():
    kept = [bytes(1000) for _ in range(100)]
    together.wait()
threads = [threading.Thread(target=work) for _ in range(12)]
for thread in threads:
    thread.start()
together.wait()
heaps = sum("rw-p" in line and line.split()[0].split("-")[0].endswith("000000")
            for line in open("/proc/self/maps"))
print(heaps)
"""


def heaps(most):
    """Heaps beside the first: glibc puts each at a multiple of 64 MB."""
    command = [sys.executable, "-c", PROGRAM, str(most)]
    return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc has such heaps")
def test_threads_share_the_heaps_that_there_may_be():
    assert heaps(2) < heaps(0)
