"""The source of a camera: opened from its address, live, and with a way to pause it."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import Protocol

from ...runtime.source_paced import PacedSource
from ...runtime.sources import KINDS, Source, SourceSettings, open_source
from ..settings_tables import Settings


class Pausing(Protocol):
    """What stops a source for a while; safe for any thread."""

    def pause(self) -> None:
        """Give no frames from now on."""
        ...

    def resume(self) -> None:
        """Give frames again."""
        ...


class PausableClock:
    """A clock that can stand still: a file played by it stands still too. Safe for any thread.

    State: when it was stopped, and how long it stood altogether.
    """

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._stopped_s: float | None = None
        self._stood_s = 0.0

    def __call__(self) -> float:
        """Seconds, without those for which it stood still."""
        stopped_s = self._stopped_s
        return (self._monotonic() if stopped_s is None else stopped_s) - self._stood_s

    def pause(self) -> None:
        """Stand still."""
        if self._stopped_s is None:
            self._stopped_s = self._monotonic()

    def resume(self) -> None:
        """Go on from where it stood."""
        if self._stopped_s is not None:
            self._stood_s += self._monotonic() - self._stopped_s
            self._stopped_s = None


def opened_source(address: str, settings: Settings) -> tuple[Source, Pausing]:
    """The live source at an address, and what pauses it. A file is played at its own speed.

    Raises:
        SourceError: nothing can be read there.
    """
    chosen = settings.source
    source = open_source(address, SourceSettings(fps=chosen.fps, max_side_px=chosen.max_side_px))
    if source.is_live:
        return source, source  # type: ignore[return-value]  # live ones pause by themselves
    clock = PausableClock()
    return PacedSource(source, sleep=time.sleep, monotonic=clock), clock


def kind_of(address: str) -> str:
    """Which kind of source takes an address, as `KINDS` calls it; `unknown` where none does."""
    return next((name for name, kind in KINDS.items() if kind.claims(address)), "unknown")


def shown_address(address: str) -> str:
    """The address without user name and password, as people and programs may see it."""
    return re.sub(r"(?<=://)[^/?#\s]*@", "", address)
