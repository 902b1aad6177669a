"""What a standing request asks, made of its words, and the verdict in what was answered.

Both are pure rules of a few lines. A text that they do not fit is asked as it is, or gives no
verdict; nothing is guessed.
"""

from __future__ import annotations

import re
from collections.abc import Collection

_LEAD = re.compile(
    r"(?:please\s+)?(?:(?:tell|warn|alert|notify|call)\s+me|let\s+me\s+know|say)"
    r"(?:\s+(?:when|if|once|whenever|as\s+soon\s+as))?\s*",
    re.IGNORECASE,
)
_YES = r"(?:yes|yeah|yep|true)"
_NO = r"(?:no|nope|none|false)"
_BOTH = re.compile(rf"\W*(?:{_YES}\W*(?:and|or|/)\W*{_NO}|{_NO}\W*(?:and|or|/)\W*{_YES})\b")
_UNSURE = re.compile(r"\W*no\s+(?:idea|clue|way\s+to\s+\w+|information|evidence\s+either\s+way)\b")
_IS_YES, _IS_NO = re.compile(rf"\W*{_YES}\b"), re.compile(rf"\W*{_NO}\b")

COLOUR = "colour"
TAUGHT: tuple[tuple[re.Pattern[str], str], ...] = (
    (
        re.compile(
            r"(?:it|the (?:picture|room|scene)) (?:is|gets?|becomes?|turns?|goes) dark(?:er)?"
        ),
        "Is it dark?",
    ),
    (re.compile(r"the lights? (?:goes|go|is|are|turns?)(?: turned)? (?:out|off)"), "Is it dark?"),
    (
        re.compile(r"(?:something|anything) (?:moves|is moving|starts (?:to move|moving))"),
        "Is anything moving?",
    ),
    (re.compile(r"there is (?:any )?(?:motion|movement)"), "Is anything moving?"),
    (
        re.compile(
            rf"(?:there is |you see )?an? (?P<{COLOUR}>[a-z]+) (?:object|thing)"
            r"(?: (?:is (?:there|visible)|appears|comes|enters|shows up))?"
        ),
        "Is there a {colour} object?",
    ),
)
"""Conditions that the reference assistant was taught to answer about, and how it was asked.

Three of its topics can be put as yes or no about now: is it dark, does anything move, is there an
object of a colour. What else it was taught (how many, where, what happened last) is no condition.
Source: evaluation/world/phrasings.py.
"""


def verdict_of(text: str) -> bool | None:
    """Whether an answer says yes or no; None where it says neither, or both.

    Its first word decides, in any letters and after any marks: yes, yeah, yep, true; no, nope,
    none, false. "No idea" and "yes and no" decide nothing.
    """
    text = text.casefold()
    if _BOTH.match(text) or _UNSURE.match(text):
        return None
    if _IS_YES.match(text):
        return True
    return False if _IS_NO.match(text) else None


def condition_of(text: str) -> str:
    """The condition in a request: `Tell me when it gets dark.` → `it gets dark`.

    A request in other words is its own condition.
    """
    words = " ".join(text.split()).rstrip(" .!?")
    return words[lead.end() :] or words if (lead := _LEAD.match(words)) else words


def question_of(text: str) -> str:
    """The question that any model can be asked for a request in words."""
    return f"Is it true now: {condition_of(text)}? Answer yes or no."


def taught_question_of(text: str, colours: Collection[str]) -> str | None:
    """How the reference assistant was taught to be asked it; None where it was not.

    Args:
        text: the request.
        colours: those that the assistant knows.
    """
    condition = condition_of(text).casefold()
    for pattern, question in TAUGHT:
        if (found := pattern.fullmatch(condition)) is None:
            continue
        colour = found.groupdict().get(COLOUR, "")
        if not colour or colour in colours:
            return question.format(colour=colour)
    return None
