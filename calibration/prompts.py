"""Texts of a calibration set: the user's, one a line, or what any camera may be asked."""

from __future__ import annotations

from pathlib import Path

from ..runtime.errors import UsageError

# What a camera is asked where nobody gave texts.
QUESTIONS = (
    "What is happening now?",
    "What has just changed in the picture?",
    "Is anybody in the picture?",
    "Where is the largest thing that you can see?",
)
LONGEST_CHARACTERS = 4000
"""As for a question: a page of text."""


def prompts_from_file(path: Path) -> tuple[str, ...]:
    """The lines of a UTF-8 file, without space around them and without empty ones.

    Raises:
        UsageError: it cannot be read, is no text, holds no line with words, or one too long.
    """
    hint = "give a UTF-8 file with one question a line, or leave out --prompts"
    try:
        # Not splitlines(), which also cuts at signs that may stand within a sentence.
        lines = [line.strip() for line in path.read_text("utf-8-sig").split("\n")]
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}", hint=hint) from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} is no UTF-8 text: {error.reason}", hint=hint) from error
    prompts = tuple(line for line in lines if line)
    if not prompts:
        raise UsageError(f"{path} holds no line with words, expected one prompt or more", hint=hint)
    longest = max(map(len, prompts))
    if longest > LONGEST_CHARACTERS:
        raise UsageError(
            f"{path} holds a line of {longest} characters, expected {LONGEST_CHARACTERS} at most",
            hint=hint,
        )
    return prompts
