"""Questions as they are written on a command line or a line of text: `12.5:What is it?`."""

from __future__ import annotations

import re
from dataclasses import dataclass

from ..runtime.errors import UsageError
from ..runtime.outlet import utf8_text

# A page of text; a longer question would leave a small model no room for a picture.
LONGEST_CHARACTERS = 4000
# Beyond it, seconds as a float do not tell frames apart any more; a century is 3e9 s.
LATEST_S = 1e10

SHOWN_CHARACTERS = 40

# Signs, letters and commas are let in here, so that `-3`, `5s` and `2,5` are refused as times.
_MEANT_AS_TIME = re.compile(r"[-+]?\.?[0-9]\S*")
_MEANT_AS_PART = re.compile(r"[-+]?[0-9.,]+")
_DIGITS = re.compile(r"[0-9]{1,11}")
_SECONDS = re.compile(r"[0-9]{1,11}(\.[0-9]{1,9})?")
_DIGIT = re.compile(r"[0-9]")
_FORM = "seconds (12.5), minutes:seconds (1:30) or hours:minutes:seconds (1:02:03)"
_HINT = "leave a space before a question that begins with a number: '12.5: 2:1 for whom?'"


@dataclass(frozen=True, slots=True)
class AskedQuestion:
    """What a user asks, and of which moment.

    Attributes:
        text: the question, without space around it.
        time_s: stream time at which it is asked, seconds; None where none was written.
    """

    text: str
    time_s: float | None = None


def parse_question(written: str) -> AskedQuestion:
    """The question that a text means.

    A time and a colon may stand before the question: `12.5:What is it?`, `1:30:What is it?`,
    `1:02:03:What is it?`. Without a number first, or with a colon first, there is no time; after
    a space nothing is taken for a time (`12.5: 2:1 for whom?`, `: 2:1 for whom?`). `12:30 was it?`
    is refused: its 30 may belong to the time or to the question.

    Raises:
        UsageError: it is empty or too long, begins with a number that is no time, or with one of
            which nobody knows where it ends.
    """
    first, colon, rest = written.strip().partition(":")
    if colon and not first.strip():
        return AskedQuestion(_checked(rest, written))
    if not colon or not _MEANT_AS_TIME.fullmatch(first.strip()):
        return AskedQuestion(_checked(written, written))
    parts = [first.strip()]
    while (split := rest.partition(":"))[1] and _MEANT_AS_PART.fullmatch(split[0]):
        parts.append(split[0])
        rest = split[2]
    if _SECONDS.fullmatch(rest):
        raise UsageError(
            f"{written.strip()!r} names a time and no question; expected TIME:QUESTION",
            hint="for example '12.5:What is it?'",
        )
    time_s = _seconds(parts)
    if _DIGIT.match(rest):
        raise _ambiguous(":".join(parts), rest, written.strip())
    return AskedQuestion(_checked(rest, written), time_s)


def _ambiguous(named: str, rest: str, written: str) -> UsageError:
    rest, written = _shown(rest), _shown(written)
    return UsageError(
        f"{written!r} can be read in two ways: {rest!r} at the time {named}, or all of it "
        "without a time",
        hint=f"write '{named}: {rest}' for the first, ': {written}' for the second",
    )


def _shown(text: str) -> str:
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[: SHOWN_CHARACTERS - 1]}…"


def _seconds(parts: list[str]) -> float:
    """Seconds of `[hours:][minutes:]seconds`."""
    *whole, last = parts
    named = ":".join(parts)
    if len(parts) > 3 or not (_SECONDS.fullmatch(last) and all(map(_DIGITS.fullmatch, whole))):
        raise UsageError(f"got the time {named!r} of a question, expected {_FORM}", hint=_HINT)
    for part in parts[1:]:
        if float(part) >= 60:
            raise UsageError(
                f"got the time {named!r} of a question: {part} after a colon, expected less than 60"
            )
    time_s = 0.0
    for part in parts:
        time_s = 60 * time_s + float(part)
    if time_s > LATEST_S:
        raise UsageError(f"got the time {named!r} of a question, expected {LATEST_S:g} s at most")
    return time_s


def _checked(text: str, written: str) -> str:
    text = utf8_text(text).strip()
    if not text:
        raise UsageError(
            f"got {written!r} for a question, expected some words",
            hint="for example '12.5:What is it?'",
        )
    if len(text) > LONGEST_CHARACTERS:
        raise UsageError(
            f"got a question of {len(text)} characters, expected {LONGEST_CHARACTERS} at most"
        )
    return text
