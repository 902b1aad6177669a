"""A Record: one thing a person or a program may see, as it goes to every sink.

One schema for the console, JSON lines and everything a service sends (docs/FORMATS.md, section 4).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal, get_args

SCHEMA = "edgestream.record/1"

RecordType = Literal[
    "opened", "closed", "partial", "final", "standing", "drop", "camera", "warning", "stats"
]
RECORD_TYPES: tuple[RecordType, ...] = get_args(RecordType)


@dataclass(frozen=True, slots=True)
class Record:
    """One line for the sinks; the outlet adds camera and times.

    Attributes:
        type: one of RECORD_TYPES.
        body: the fields of that type; JSON values only.
    """

    type: RecordType
    body: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.type not in RECORD_TYPES:
            raise ValueError(f"record type {self.type!r} is none of {', '.join(RECORD_TYPES)}")
        object.__setattr__(self, "body", MappingProxyType(dict(self.body)))


@dataclass(frozen=True, slots=True)
class StampedRecord:
    """A Record as it was emitted.

    Attributes:
        record: what is said.
        camera: the name of the source.
        time_s: stream time of emission, seconds; never less than the record before it.
        wall: the same moment, RFC 3339 in UTC.
    """

    record: Record
    camera: str
    time_s: float
    wall: str

    def as_json(self) -> dict[str, Any]:
        """One JSON object of `edgestream.record/1`."""
        return {
            "schema": SCHEMA,
            "type": self.record.type,
            "camera": self.camera,
            "time_s": round(self.time_s, 4),
            "wall": self.wall,
            **self.record.body,
        }


def warning(code: str, message: str) -> Record:
    """A `warning` record: something was used all the same, and the user should know how far.

    Args:
        code: stable, kebab case.
        message: one sentence.
    """
    return Record("warning", {"code": code, "message": message})


def camera_state(state: str, reason: str) -> Record:
    """A `camera` record: the state of the source changed.

    Args:
        state: connecting, open, lost, paused, rebased, ended.
        reason: one sentence.
    """
    return Record("camera", {"state": state, "reason": reason})
