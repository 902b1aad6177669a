"""Sinks: where records go. One protocol, one dictionary of the kinds there are."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

from .line_file import LineFile, never, open_for_lines
from .records import StampedRecord


class Sink(Protocol):
    """Something that takes every record, in order, from one thread at a time."""

    def send(self, record: StampedRecord) -> None:
        """Pass one record on.

        Raises:
            OutputError: that is not possible; the run ends.
            BrokenPipeError: the reader has gone; the run goes on for the other sinks.
        """
        ...

    def close(self) -> None:
        """Let go of what the sink holds; calling it twice is harmless."""
        ...


class TextStream(Protocol):
    """Something that takes text: stdout, a file, a LineFile."""

    def write(self, text: str, /) -> object: ...

    def flush(self) -> object: ...


# What a person reads when an event opens and closes. Events of a model that are not listed here
# are shown by their name.
WORDS: dict[str, tuple[str | None, str | None]] = {
    "cut": ("the scene changes", None),
    "dark": ("it gets dark", None),
    "bright": ("it gets bright", None),
    "motion": ("something starts to move", "it has stopped"),
    "pan": ("the camera turns {direction}", "the camera is steady again"),
    "fade_out": ("it fades to black", None),
    "fade_in": ("a picture appears", None),
    "zoom": ("the camera zooms {direction}", None),
    "shake": ("the camera shakes", None),
    "blur": ("it gets blurry", None),
    "enter": ("something enters", None),
    "leave": ("something leaves", None),
    "start": ("something starts to move", None),
    "stop": ("something stops", None),
    "meet": ("two things meet", None),
    "every": ("time to look", None),
    "speak": (None, None),  # the model speaks of its own accord: its words are the news
}
DIRECTED = ("direction",)
"""Attributes that words may name; they are left out where the gate is not sure of them."""
# What a person calls that which was dropped, where it is not the name that the counters have.
DROPPED = {"event turns": "descriptions", "observed frames": "frames for the model"}
# Texts of people and models stand below and beside the column of times.
BESIDE = " " * 12
# Events whose descriptions may still come; in a live run one waits and one is spoken.
EVENTS_KEPT = 16


def clock_text(time_s: float) -> str:
    """Stream time as a person reads it: `1:02:03.25`, `2:03.25`."""
    hundredths = round(time_s * 100)
    seconds, minutes, hours = hundredths % 6000 / 100, hundredths // 6000 % 60, hundredths // 360000
    return f"{hours}:{minutes:02d}:{seconds:05.2f}" if hours else f"{minutes}:{seconds:05.2f}"


def event_text(body: dict[str, Any], is_opening: bool) -> str | None:
    """The sentence for an `opened` or `closed` record; None where it is not worth a line."""
    event = body["event"]
    opening, closing = WORDS.get(event, (f"{event} begins", f"{event} ends"))
    if is_opening:
        return opening and _with_attributes(opening, body["attributes"])
    if "speak" in body["scores"]:
        return None  # a learned gate scores beginnings: where its score falls, nothing has ended
    from_s, to_s = body["about_s"]
    # An end is told a hold after it came, so it says itself when that was.
    return closing and f"{closing} at {clock_text(to_s)} (after {to_s - from_s:.1f} s)"


def _with_attributes(words: str, attributes: Mapping[str, str]) -> str:
    """The words with the attributes that they name in their places, and the others behind them."""
    left = dict(attributes)
    for name in DIRECTED:
        words = words.replace(f" {{{name}}}", f" {left.pop(name)}" if name in left else "")
    return f"{words} ({', '.join(left.values())})" if left else words


def said_text(body: dict[str, Any]) -> str | None:
    """What a `final` record says, as a person reads it; None where nothing is worth a line."""
    text = printable(body["text"]).strip()
    mark = "(cut)" if body["is_cut"] else "(limit)" if body["ended_by"] == "limit" else ""
    if not text:
        return None if body["question"] is None else mark or "(no answer)"
    return f"{text}… {mark}" if mark else text


def counted(count: int, words: str) -> str:
    """`3 frames`, `1 frame`.

    Args:
        count: how many.
        words: what, for many; the first of them ends in s.
    """
    first, *rest = words.split(" ")
    return " ".join([str(count), first.removesuffix("s") if count == 1 else first, *rest])


def dropped_text(count: int, what: str) -> str:
    """How many of what was dropped, as a person calls it.

    Args:
        count: how many.
        what: as in a `drop` record.
    """
    return counted(count, DROPPED.get(what, what))


def printable(text: str) -> str:
    """The text without what would move a terminal's cursor; a line's end is kept."""
    return "".join(char if char.isprintable() or char == "\n" else " " for char in text)


def _beside(lead: str, text: str) -> str:
    """Lines of text beside a lead that takes the room of a time, each below the one before."""
    first, *rest = text.split("\n")
    return "".join(f"{line}\n" for line in [lead + first, *(f"{BESIDE}  {line}" for line in rest)])


class ConsoleSink:
    """Lines for a person: when, and what happened. Partial texts and counters are left out.

    An answer comes whole: a line that grows would run through what a person types meanwhile, and
    through the events that do not wait for it.

    State: the time of the event whose opening was the last line, and the words of the last events
    by their time, for descriptions that come after other lines; whether a camera has told its
    state before.
    """

    def __init__(self, stream: TextStream) -> None:
        self._stream = stream
        self._above_s: float | None = None
        self._opened: dict[float, str] = {}
        self._is_told = False

    def send(self, record: StampedRecord) -> None:
        body = dict(record.record.body)
        is_final = record.record.type == "final"
        lines = self._said(body) if is_final else self._told(record, body)
        if lines is not None:
            self._stream.write(lines)
            self._stream.flush()
            is_opening = record.record.type == "opened"
            self._above_s = body["about_s"][0] if is_opening else None
            if is_opening:
                self._keep(body["about_s"][0], event_text(body, is_opening=True) or "")

    def _keep(self, time_s: float, words: str) -> None:
        before = self._opened.pop(time_s, None)
        self._opened[time_s] = words if before is None else f"{before}, {words}"
        if len(self._opened) > EVENTS_KEPT:
            del self._opened[next(iter(self._opened))]

    def _said(self, body: dict[str, Any]) -> str | None:
        """An answer below its question, a description below its event or beside its words."""
        text, about_s = said_text(body), body["about_s"][1]
        if text is None:
            return None
        at = f"{clock_text(about_s):>10}  "
        if body["question"] is not None:
            return _beside(at, printable(body["question"])) + _beside(f"{BESIDE}→ ", text)
        words = self._opened.pop(about_s, None)
        if self._above_s == about_s:
            return _beside(f"{BESIDE}→ ", text)
        return _beside(f"{at}{words} → " if words else f"{at}→ ", text)

    def _told(self, stamped: StampedRecord, body: dict[str, Any]) -> str | None:
        if stamped.record.type == "standing":
            at = f"{clock_text(body['about_s'][1]):>10}  "
            return _beside(at, f"{printable(body['request'])} → {printable(body['text']).strip()}")
        text = self._text(stamped.record.type, body)
        return text and f"{clock_text(stamped.time_s):>10}  {text}\n"

    def _text(self, kind: str, body: dict[str, Any]) -> str | None:
        if kind in ("opened", "closed"):
            return event_text(body, kind == "opened")
        if kind == "warning":
            return f"warning: {body['message']}"
        if kind == "drop":
            dropped = dropped_text(body["count"], body["what"])
            return f"dropped {dropped} since {body['since_s']:.1f} s"
        if kind == "camera":
            return self._camera_text(body)
        return None

    def _camera_text(self, body: dict[str, Any]) -> str | None:
        """What happened to the camera; that a file was opened and has ended is not worth a line."""
        is_plain = body["state"] == "ended" or (body["state"] == "open" and not self._is_told)
        self._is_told = True
        return None if is_plain else f"camera: {body['reason']}"

    def close(self) -> None:
        """The stream belongs to the caller and stays open."""


class JsonLinesSink:
    """One JSON object a line, whole or not at all.

    An existing file is appended to, never overwritten; a half line that a crash left is closed
    first, so that every line after it can be read.

    Args:
        target: a path, or a stream of text that belongs to the caller.
        has_left: whether the run is being left; a full pipe is then given up.

    Raises:
        OutputUnwritable: the file cannot be opened, or holds something else than JSON lines.
    """

    def __init__(self, target: Path | TextStream, has_left: Callable[[], bool] = never) -> None:
        self._own: LineFile | None = None
        if isinstance(target, Path):
            self._own = target = open_for_lines(target, has_left)
        self._stream: TextStream = target

    def send(self, record: StampedRecord) -> None:
        line = json.dumps(record.as_json(), ensure_ascii=False, allow_nan=False)
        self._stream.write(f"{line}\n")
        self._stream.flush()

    def close(self) -> None:
        if self._own is not None:
            self._own.close()


SINKS: dict[str, Callable[[Any], Sink]] = {"console": ConsoleSink, "jsonl": JsonLinesSink}
