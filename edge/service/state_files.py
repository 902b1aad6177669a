"""Files of the service's state: written whole or not at all, for their owner alone; removed."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from ...runtime.errors import OutputUnwritable


def make_folder(place: Path) -> None:
    """Make a folder that its owner alone may look into, unless it is there.

    Raises:
        OutputUnwritable: it cannot be made.
    """
    try:
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise OutputUnwritable(
            f"the state folder {place} cannot be made: {error.strerror}",
            hint="name another one with --state",
        ) from error


def write_private(path: Path, text: str) -> None:
    """Write a small file, readable by the owner alone from its first byte on.

    Raises:
        OutputUnwritable: it cannot be written; what was there before still is.
    """
    beside = path.with_name(f".{path.name}.new")
    try:
        beside.unlink(missing_ok=True)
        file = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(file, "w", encoding="utf-8") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(beside, path)
    except OSError as error:
        raise OutputUnwritable(
            f"{path} cannot be written: {error.strerror}",
            hint="free some space, or name another folder with --state",
        ) from error


def wipe_folder(place: Path) -> None:
    """Remove the folder of one camera with all that it saved.

    Raises:
        OutputUnwritable: it cannot be removed.
    """
    try:
        if place.exists():
            shutil.rmtree(place)
    except OSError as error:
        raise OutputUnwritable(
            f"what was saved in {place} cannot be removed: {error.strerror}",
            hint="remove it by hand",
        ) from error
