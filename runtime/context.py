"""The seam between a session and what its model has before it: the context."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from .values import Float32, Load, Observed, Response, Turn


@dataclass(frozen=True, slots=True, eq=False)
class Prompted:
    """A Turn's prompt, read by the model.

    Attributes:
        logits: (vocabulary,) float32 after its last position.
        about_s: (from, to), the stretch of stream time that the model has before it, seconds.
        context: what it was shown: recent, recall or continuous.
        used: (key frame id, score) of what memory chose, best first.
    """

    logits: Float32
    about_s: tuple[float, float]
    context: str
    used: tuple[tuple[str, float], ...] = ()


class Context(Protocol):
    """What the model has before it. Every call either is done as a whole or changes nothing.

    Attributes:
        name: recent or continuous.
    """

    name: str

    def observe(self, observed: Observed) -> Float32 | None:
        """Take a frame in; logits after it, or None where it is not read now.

        Raises:
            ContextTooSmall: the cache has no room for a frame.
            EngineError: the decoder failed.
        """
        ...

    def prompt(self, turn: Turn, cancelled: Callable[[], bool]) -> Prompted | None:
        """Write the prompt of a Turn, up to where the answer begins; None where it was cancelled.

        Raises:
            PromptTooLong, ContextTooSmall: it does not fit.
            EngineError: the decoder failed.
        """
        ...

    def answered(self, last: int) -> None:
        """The answer is over.

        Args:
            last: its last token, a stop token or not, which is not in the cache yet.
        """
        ...

    def undo(self) -> None:
        """Nothing was said, or an engine broke off: be as before the prompt, or empty."""
        ...

    def remember(self, final: Response) -> None:
        """A question was answered: the next prompt may show it."""
        ...

    def carry(self, load: Load) -> None:
        """Show so much of a frame's tokens, and of memory, from the next prompt on."""
        ...

    def reset(self) -> None:
        """Start again with an empty cache."""
        ...


def stretch_read(times_s: Sequence[float], asked_s: float) -> tuple[float, float]:
    """(from, to), the stretch of stream time that an answer is about, seconds.

    Args:
        times_s: of the frames that the model has before it.
        asked_s: what the Turn is about. Where no frame is as old as that, it is about the frames.
    """
    if not times_s:
        return (asked_s, asked_s)
    first_s, last_s = min(times_s), max(times_s)
    return (first_s, last_s if asked_s < first_s else max(last_s, asked_s))
