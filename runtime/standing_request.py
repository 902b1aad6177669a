"""One standing request: what is wanted, how it is asked, and the record of its firing."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, TypeAlias

from .errors import StandingInvalid
from .records import Record

LONGEST_TEXT = 500
"""Characters of a request or a question; a cache holds little more."""
SHORTEST_CHECK_S, LONGEST_S = 0.25, 604800.0
"""Bounds of times: a frame at the usual rate, and a week."""
MOST_NAMES = 64


@dataclass(frozen=True, slots=True)
class StandingRequest:
    """What the user wants to be told of whenever it comes true.

    Attributes:
        request_id: unique in its stream.
        text: the request in the user's words.
        question: what is asked of the language model, to be answered by yes or no; None: nothing is
            asked, and it fires when an event of its types opens.
        events: with a question, the event types at which it is asked as well as every `check_s`;
            None: every type. Without one, the types that it waits for.
        check_s: between two checks, stream seconds.
        refractory_s: it does not fire again within this time, stream seconds.
        sinks: names of the outward sinks that are told; none: all.
        cameras: names of the cameras it is for; None: every one.

    Raises:
        StandingInvalid: it asks for nothing, or one of the values is out of its range.
    """

    request_id: str
    text: str
    question: str | None = None
    events: tuple[str, ...] | None = None
    check_s: float = 10.0
    refractory_s: float = 60.0
    sinks: tuple[str, ...] = ()
    cameras: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        _check_text("text", self.text)
        if self.question is not None:
            _check_text("question", self.question)
        elif not self.events:
            raise _invalid("neither a question nor event types, expected one of them")
        for name in ("events", "sinks", "cameras"):
            _check_names(name, getattr(self, name))
        _check_time("check_s", self.check_s, SHORTEST_CHECK_S)
        _check_time("refractory_s", self.refractory_s, 0.0)
        if not (isinstance(self.request_id, str) and self.request_id.strip()):
            raise _invalid(f"the name {self.request_id!r}, expected a text")

    def wants(self, event: str) -> bool:
        """Whether an event of this type is a reason to ask, or to fire."""
        return self.events is None or event in self.events

    def fired(self, turn_id: str | None, text: str, about_s: tuple[float, float]) -> Record:
        """The `standing` record.

        Args:
            turn_id: of the check that was answered by yes; None where an event fired it.
            text: that answer, or the event's type.
            about_s: from and to, seconds.
        """
        return Record(
            "standing",
            {
                "request_id": self.request_id,
                "request": self.text,
                "turn_id": turn_id,
                "text": text,
                "about_s": [round(time_s, 4) for time_s in about_s],
                "is_met": True,
                "sinks": list(self.sinks),
            },
        )

    def as_json(self) -> dict[str, Any]:
        """All of it as JSON values."""
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in asdict(self).items()
        }


@dataclass(frozen=True, slots=True)
class Stand:
    """The order to watch for a request from now on."""

    request: StandingRequest


@dataclass(frozen=True, slots=True)
class Unstand:
    """The order to watch for a request no longer."""

    request_id: str


StandingOrder: TypeAlias = "Stand | Unstand"


def request_from_json(values: Mapping[str, Any]) -> StandingRequest:
    """What `as_json` gave; keys that are unknown here are left out.

    Raises:
        StandingInvalid: it is no request.
    """
    known = {field.name for field in fields(StandingRequest)}
    given = {name: value for name, value in values.items() if name in known}
    for name in ("events", "sinks", "cameras"):
        if isinstance(given.get(name), list):
            given[name] = tuple(given[name])
    try:
        return StandingRequest(**given)
    except TypeError as error:
        raise _invalid(f"no request: {error}") from error


def _invalid(got: str) -> StandingInvalid:
    return StandingInvalid(
        f"a standing request got {got}", hint="for example 'Tell me when it gets dark'"
    )


def _check_text(name: str, text: object) -> None:
    if not (isinstance(text, str) and text.strip() and len(text) <= LONGEST_TEXT):
        shown = repr(text) if len(repr(text)) <= 60 else f"{repr(text)[:60]}…"
        raise _invalid(f"the {name} {shown}, expected 1 to {LONGEST_TEXT} characters")


def _check_names(name: str, names: object) -> None:
    is_right = isinstance(names, tuple) and all(isinstance(one, str) and one for one in names)
    if names is not None and not (is_right and len(names) <= MOST_NAMES):  # type: ignore[arg-type]
        raise _invalid(f"{name} {names!r}, expected up to {MOST_NAMES} names")


def _check_time(name: str, value: object, least: float) -> None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not (is_number and math.isfinite(value) and least <= value <= LONGEST_S):  # type: ignore[operator,arg-type]
        raise _invalid(f"{name} {value!r}, expected {least:g} to {LONGEST_S:g} seconds")
