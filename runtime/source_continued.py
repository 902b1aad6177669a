"""A source whose stream time goes on where an earlier run of the same stream ended."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from dataclasses import replace
from typing import Any

from .records import Record, camera_state
from .sources import Source
from .values import Frame


class ContinuedSource:
    """The frames of a source, each later by one and the same time. See `Source` for the protocol.

    The time in which nobody watched is not counted: stream time is what was watched.

    Args:
        source: its frames are timed from 0.
        from_s: stream time of its beginning, seconds.
        reason: what the `camera` record says about it.
    """

    def __init__(self, source: Source, from_s: float, reason: str) -> None:
        self.name, self.is_live = source.name, source.is_live
        self.duration_s = source.duration_s
        self._source, self._from_s, self._reason = source, from_s, reason

    def __getattr__(self, name: str) -> Any:
        """What else the inner source has: a live one can be paused, and says how it is."""
        return getattr(self.__dict__["_source"], name)

    def now_s(self) -> float:
        """Stream time now, seconds."""
        return self._from_s + self._source.now_s()

    def frames(self, tell: Callable[[Record], None]) -> Iterator[Frame | None]:
        """The frames of the inner source; first a `camera` record says when it goes on."""
        tell(camera_state("rebased", self._reason))
        inner = self._source.frames(tell)
        try:
            for frame in inner:
                yield frame and replace(frame, time_s=self._from_s + frame.time_s)
        finally:
            if isinstance(inner, Generator):
                inner.close()
