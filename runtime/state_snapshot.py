"""One snapshot of a run: its values, and the folder of plain files that holds them.

Nothing in it is pickled, and no byte of it can change unseen: `snapshot.json` holds the hash of
each file, `snapshot.json.sha256` its own (docs/FORMATS.md, section 7).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from .array_file import Saved, read_arrays, write_arrays
from .bundle import sha256_of_file
from .errors import EdgeStreamError, FormatTooNew, StateInvalid, StateMismatch
from .json_fields import Fields, plain

FORMAT = 1
SNAPSHOT_FILE, HASH_FILE = "snapshot.json", "snapshot.json.sha256"
MEMORY_FILE, GATE_FILE = "memory.npz", "gate.npz"
VALUES = "values"
"""The member of a file of arrays that holds all that is no array, as the bytes of a JSON text."""
ANOTHER = "name another folder with --state"

_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True, eq=False)
class SavedPart:
    """What one part of a run puts into a snapshot.

    Attributes:
        values: JSON values.
        arrays: by name; numbers only. None is called VALUES.
    """

    values: Mapping[str, Any]
    arrays: Mapping[str, Saved]


@dataclass(frozen=True, slots=True, eq=False)
class State:
    """One snapshot.

    Attributes:
        bundle_sha256: of the bundle whose embeds these are; None without one.
        settings: of memory, under which it was taken.
        clock_s: stream time up to which everything is in it, seconds.
        counters: counter → value since the first run, so that names stay unique.
        memory, gate: what they carry from frame to frame.
    """

    bundle_sha256: str | None
    settings: Mapping[str, Any]
    clock_s: float
    counters: Mapping[str, int]
    memory: SavedPart
    gate: SavedPart


def write_snapshot(place: Path, state: State) -> None:
    """Write the files of a snapshot into an empty folder.

    Raises:
        OSError: they cannot be written.
        ValueError: a value is no JSON value, or an array holds Python objects.
    """
    files = {}
    for name, part in ((MEMORY_FILE, state.memory), (GATE_FILE, state.gate)):
        if VALUES in part.arrays:
            raise ValueError(f"an array of {name} is called {VALUES!r}")
        text = json.dumps(plain(part.values), allow_nan=False).encode()
        write_arrays(place / name, {VALUES: np.frombuffer(text, np.uint8), **part.arrays})
        files[name] = {
            "sha256": sha256_of_file(place / name),
            "bytes": (place / name).stat().st_size,
        }
    snapshot = {
        "format": FORMAT,
        "bundle_sha256": state.bundle_sha256,
        "memory": plain(state.settings),
        "clock_s": state.clock_s,
        "counters": dict(state.counters),
        "files": files,
    }
    text = json.dumps(snapshot, indent=1, allow_nan=False).encode()
    (place / SNAPSHOT_FILE).write_bytes(text)
    (place / HASH_FILE).write_bytes(_hash_line(text))


def _hash_line(text: bytes) -> bytes:
    """A line that `sha256sum --check` reads."""
    return f"{sha256(text).hexdigest()}  {SNAPSHOT_FILE}\n".encode()


def read_snapshot(place: Path, bundle_sha256: str | None) -> State:
    """The snapshot in a folder.

    Raises:
        StateInvalid: a file is missing, damaged or no such file.
        StateMismatch: it is not of this bundle.
        FormatTooNew: it is of a newer format.
    """

    def damaged(message: str) -> EdgeStreamError:
        return StateInvalid(
            f"the state {place.parent.name}/{place.name} cannot be used: {message}",
            hint=f"remove {place} to go without it, or {ANOTHER}",
        )

    try:
        text = (place / SNAPSHOT_FILE).read_bytes()
        fields = Fields(json.loads(text), SNAPSHOT_FILE, damaged)
        found = fields.whole("format")
        if found > FORMAT:
            raise FormatTooNew(
                f"the state {place.parent.name}/{place.name} has format {found}, "
                f"expected at most {FORMAT}",
                hint=f"install a newer edgestream, or {ANOTHER}",
            )
        if (place / HASH_FILE).read_bytes() != _hash_line(text):
            raise damaged(f"{SNAPSHOT_FILE} is not the file of which {HASH_FILE} holds the hash")
        _check_bundle(place, fields, bundle_sha256)
        return State(
            bundle_sha256,
            fields.mapping("memory"),
            float(fields.number("clock_s", at_least=0)),
            {name: int(count) for name, count in fields.mapping("counters", _is_count).items()},
            *(_read_part(place / name, fields, damaged) for name in (MEMORY_FILE, GATE_FILE)),
        )
    except OSError as error:
        name = Path(error.filename or place).name
        raise damaged(f"{name}: {(error.strerror or str(error)).lower()}") from error
    except (ValueError, RecursionError) as error:
        raise damaged(f"{SNAPSHOT_FILE} is no JSON: {error}") from error


def _check_bundle(place: Path, fields: Fields, bundle_sha256: str | None) -> None:
    found = None
    if "bundle_sha256" in fields:
        found = fields.matching("bundle_sha256", _SHA256, "64 hexadecimal digits")
    if found != bundle_sha256:
        raise StateMismatch(
            f"the state {place.parent.name}/{place.name} is of the bundle {_short(found)}, "
            f"expected {_short(bundle_sha256)}",
            hint=f"name its own bundle with --bundle, or {ANOTHER}",
        )


def _short(digest: str | None) -> str:
    return "none" if digest is None else f"{digest[:12]}…"


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _read_part(file: Path, fields: Fields, damaged: Callable[[str], EdgeStreamError]) -> SavedPart:
    digests = dict(fields.named("files"))
    if file.name not in digests:
        raise damaged(f"{SNAPSHOT_FILE} names no {file.name}")
    if sha256_of_file(file) != digests[file.name].text("sha256"):
        raise damaged(f"{file.name} is not the file that was written")
    try:
        arrays = read_arrays(file)
        values = json.loads(arrays.pop(VALUES).tobytes())
    except (ValueError, KeyError, RecursionError) as error:
        raise damaged(f"{file.name} is no file of saved arrays: {error}") from error
    if not isinstance(values, dict):
        raise damaged(f"{file.name}: {VALUES} is no JSON object")
    return SavedPart(values, arrays)
