"""The text of an answer while its tokens come: it only grows, and never shows half a character."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

HALF = "\N{REPLACEMENT CHARACTER}"
"""What a decoder writes for bytes that are no character, or not a whole one yet."""
WINDOW_TOKENS = 24
"""Tokens from which the older ones are settled: decoding stays cheap however long the answer is."""
KEPT_TOKENS = 8
"""Tokens that stay open; more than the four that one character can be made of."""


class AnswerText:
    """What can be shown of an answer. State: settled text and a window of the last tokens.

    Args:
        decode: token ids → text.
        stop_ids: tokens that are no part of the text.
    """

    def __init__(self, decode: Callable[[Sequence[int]], str], stop_ids: Collection[int]) -> None:
        self._decode = decode
        self._stop_ids = frozenset(stop_ids)
        self._settled = ""
        self._window: list[int] = []
        self._shown = ""

    @property
    def text(self) -> str:
        """All that can be shown so far."""
        return self._shown

    def step(self, token_id: int) -> str | None:
        """The text so far if this token made it longer, else None.

        Cost: decoding of at most about 24 tokens.
        """
        if token_id in self._stop_ids:
            return None
        self._window.append(token_id)
        last = self._decode(self._window)
        if len(self._window) > WINDOW_TOKENS:
            last = self._settle(last)
        # What ends in half a character waits until the rest has come.
        return self._show(self._settled + last.rstrip(HALF))

    def finish(self) -> str:
        """The whole text: what all tokens together decode to, also where the last was cut."""
        self._show(self._settled + self._decode(self._window))
        return self._shown

    def _show(self, text: str) -> str | None:
        if len(text) <= len(self._shown) or not text.startswith(self._shown):
            return None
        self._shown = text
        return text

    def _settle(self, text: str) -> str:
        """Settles the older tokens of the window; the text of those that stay.

        A cut is right where the two sides read the same apart as together: it goes through no
        character. If not, the next token's is tried. Some tokenizers drop a space at the beginning;
        it is settled with the older tokens.
        """
        cut = len(self._window) - KEPT_TOKENS
        head, tail = self._decode(self._window[:cut]), self._decode(self._window[cut:])
        between = text[len(head) : len(text) - len(tail)]
        if head + between + tail != text or between.strip(" "):
            return text
        self._settled += head + between
        self._window = self._window[cut:]
        return tail
