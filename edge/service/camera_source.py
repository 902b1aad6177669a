"""The source of a camera: opened from its address, live, and with a way to pause it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

from ...runtime.live_source import LiveSource
from ...runtime.source_paced import PacedSource
from ...runtime.source_pushed import PushedSource
from ...runtime.sources import KINDS, Source, open_source, tells_its_state
from ...runtime.zones import MaskedSource
from ..assistant import source_settings
from ..privacy_rules import zones_of
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


@dataclass(frozen=True, slots=True)
class OpenedSource:
    """A live source and how to pause it.

    Attributes:
        source: its frames are masked where its camera has zones.
        pausing: pauses it.
        pushed: takes the pictures of a page; None of a source that finds its own.
    """

    source: Source
    pausing: Pausing
    pushed: PushedSource | None = None


def opened_source(name: str, address: str, settings: Settings) -> OpenedSource:
    """The live source at an address. A file is played at its own speed.

    Raises:
        SourceError, SettingsInvalid: nothing can be read there.
        ZoneInvalid: the zones of the camera are none.
    """
    opened = _opened(address, settings)
    zones = zones_of(name, settings.privacy)
    return replace(opened, source=MaskedSource(opened.source, zones)) if zones else opened


def _opened(address: str, settings: Settings) -> OpenedSource:
    source = open_source(address, source_settings(settings))
    if tells_its_state(source):
        assert isinstance(source, LiveSource), "what tells its state is a LiveSource"
        return OpenedSource(source, source, source if isinstance(source, PushedSource) else None)
    clock = PausableClock()
    return OpenedSource(PacedSource(source, sleep=time.sleep, monotonic=clock), clock)


def kind_of(address: str) -> str:
    """Which kind of source takes an address, as `KINDS` calls it; `unknown` where none does."""
    return next((name for name, kind in KINDS.items() if kind.claims(address)), "unknown")
