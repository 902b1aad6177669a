"""Tells a full disk as such, whatever a tool made of it."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..runtime.errors import OutputError, OutputFull

# Less than this left means that a tool's own complaint is about the disk: ONNX's shape inference
# writes a cut file without a word and then calls it corrupt. No graph of a model is this small.
NEARLY_FULL_BYTES = 256 << 10


@contextmanager
def full_disk_told(folder: Path) -> Iterator[None]:
    """Raise OutputFull instead of what a tool raises when the disk under `folder` is full.

    Args:
        folder: exists; what is being written lies in it.
    """
    try:
        yield
    except OutputError:
        raise
    except Exception as error:
        if _says_full(error) or shutil.disk_usage(folder).free < NEARLY_FULL_BYTES:
            raise OutputFull(
                f"the disk is full: the bundle could not be written under {folder}",
                hint="make room for about twice the bundle, or write it elsewhere",
            ) from error
        raise


def _says_full(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            return True
        error = error.__cause__ or error.__context__
    return False
