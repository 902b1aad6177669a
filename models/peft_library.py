"""PEFT and bitsandbytes, imported so that nothing is fetched and nothing is said."""

from __future__ import annotations

import importlib
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


def peft_library() -> Any:
    """The library PEFT.

    Raises:
        ImportError: it is not installed.
    """
    bitsandbytes_library()  # PEFT imports it as well, and not as quietly
    return importlib.import_module("peft")


def bitsandbytes_library() -> Any:
    """The library bitsandbytes; None where it is not installed or does not load."""
    with _without_kernels():
        try:
            return importlib.import_module("bitsandbytes")
        except ImportError:
            return None


@contextmanager
def _without_kernels() -> Iterator[None]:
    """On some processors bitsandbytes asks the package `kernels`, where it is installed, for
    compiled code of the Hub when it is imported, whether offline or not; then it logs that there
    is none.
    """
    log = logging.getLogger("bitsandbytes")
    level, had, before = log.level, "kernels" in sys.modules, sys.modules.get("kernels")
    log.setLevel(logging.CRITICAL)
    sys.modules["kernels"] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        log.setLevel(level)
        if had:
            sys.modules["kernels"] = before  # type: ignore[assignment]
        else:
            del sys.modules["kernels"]
