"""The folder of a queue: who holds it, and the place up to which everything is done."""

from __future__ import annotations

import json
import os
import re
import secrets
from dataclasses import dataclass
from pathlib import Path

from ....runtime.errors import OutputUnwritable

PLACE_FILE = "place.json"
NAME_FILE = "client.txt"
FORMAT = 1
ANOTHER = "remove it, or name another folder for the state"


@dataclass(frozen=True, slots=True)
class Place:
    """Everything before it is done.

    Attributes:
        segment: number of the oldest segment that may have something to send.
        lines: how many of its lines are done.
    """

    segment: int = 0
    lines: int = 0


def read_place(folder: Path) -> Place:
    """The place that was saved last; the very first where none can be read, so nothing is lost.

    Raises:
        OSError: the file is there and cannot be read.
        OutputUnwritable: the folder is of a newer format.
    """
    try:
        fields = json.loads((folder / PLACE_FILE).read_bytes())
        number, place = fields["format"], Place(int(fields["segment"]), int(fields["lines"]))
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return Place()
    if number != FORMAT:
        raise OutputUnwritable(
            f"the queue {folder} is of format {number}, expected {FORMAT}", hint=ANOTHER
        )
    return place


def write_place(folder: Path, place: Place) -> None:
    """Save a place: afterwards the file holds the old one or the new one, whatever happens.

    Raises:
        OSError: it cannot be written.

    Cost: two flushes of the disk.
    """
    text = json.dumps({"format": FORMAT, "segment": place.segment, "lines": place.lines})
    beside = folder / f".{PLACE_FILE}"
    file = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        os.write(file, text.encode())
        os.fsync(file)
    finally:
        os.close(file)
    os.replace(beside, folder / PLACE_FILE)


def locked_folder(folder: Path) -> int:
    """The folder, made where it is not there, held until the descriptor is closed.

    Raises:
        OutputUnwritable: it cannot be used, or another process holds it.
    """
    import fcntl  # POSIX alone; imported here so that this file can be read elsewhere

    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        held = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise OutputUnwritable(
            f"the queue {folder} cannot be used: {(error.strerror or str(error)).lower()}",
            hint=ANOTHER,
        ) from error
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(held)
        raise OutputUnwritable(
            f"the queue {folder} is in use by another process, expected one a folder", hint=ANOTHER
        ) from error
    return held


def client_name(folder: Path) -> str:
    """Who the service is to a broker: the same after a restart, and nobody else's.

    Two clients of one name would throw each other out for ever.

    Raises:
        OutputUnwritable: it cannot be read or written.
    """
    file = folder / NAME_FILE
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if file.exists() and re.fullmatch(r"edgestream-[0-9a-f]{12}", file.read_text("ascii")):
            return file.read_text("ascii")
        name = f"edgestream-{secrets.token_hex(6)}"
        file.write_text(name, "ascii")
    except (OSError, ValueError) as error:
        raise OutputUnwritable(f"{file} cannot be used: {error}", hint=ANOTHER) from error
    return name
