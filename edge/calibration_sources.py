"""The sources of a calibration set: which they are, how long each is watched, when one is dead."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..runtime.errors import SettingsInvalid, SourceLost
from ..runtime.records import Record
from ..runtime.sources import Source
from ..runtime.values import Frame

if TYPE_CHECKING:
    from .settings_tables import Settings

LIVE_SECONDS = 300.0
"""Of a camera that nobody said more of: long enough that people come and go."""
VIDEO_SUFFIXES = frozenset({".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpg", ".ts", ".webm"})

OnNote = Callable[[str], None]
"""Told what the user should know, a sentence each."""


@dataclass(frozen=True, slots=True)
class Watched:
    """One source as it is watched.

    Attributes:
        source: its zones hidden, sampled as asked.
        limit_s: stream time at which watching ends; infinity for a whole file.
        patience_s: how long a camera may take to its first picture.
    """

    source: Source
    limit_s: float
    patience_s: float

    def length_s(self) -> float:
        """How much there is to watch, seconds; infinity where nobody knows."""
        return min(self.source.duration_s or math.inf, self.limit_s)

    def frames(
        self, on_note: OnNote, monotonic: Callable[[], float] = time.monotonic
    ) -> Iterator[Frame]:
        """The frames until the limit; what the source says of itself goes to `on_note`.

        Raises:
            SourceError: a file holds nothing; a camera gives nothing within its patience.
        """
        told = _Told(on_note)
        inner = self.source.frames(told)
        begun_s, has_begun = monotonic(), False
        try:
            for frame in inner:
                if frame is not None and frame.time_s <= self.limit_s:
                    has_begun = True
                    yield frame
                elif frame is not None or (has_begun and self.source.now_s() > self.limit_s):
                    return
                elif not has_begun and monotonic() - begun_s > self.patience_s:
                    raise SourceLost(
                        f"{self.source.name} gave no picture within {self.patience_s:g} s"
                        + (f": {told.reason}" if told.reason else ""),
                        hint="try the address with `edgestream run`; it says how the camera is",
                    )
        finally:
            if isinstance(inner, Generator):
                inner.close()


class _Told:
    """Takes the records of a source; keeps the last reason why a camera is not open."""

    def __init__(self, on_note: OnNote) -> None:
        self._on_note, self.reason = on_note, ""

    def __call__(self, record: Record) -> None:
        if record.type == "camera":
            is_lost = record.body["state"] == "lost"
            self.reason = str(record.body["reason"]) if is_lost else ""
        elif record.type == "warning":
            self._on_note(str(record.body["message"]))


def watched(
    addresses: Sequence[str], settings: Settings, every_s: float, seconds: float | None
) -> list[Watched]:
    """The sources of these addresses, opened as far as that can be done before they are read.

    Args:
        addresses: what `open_source` takes, or folders that hold videos: all of them, by name.
        settings: of sources, cameras and privacy.
        every_s: between two frames, stream seconds.
        seconds: of each; None for all of a file, and LIVE_SECONDS of a camera.

    Raises:
        SourceError: nothing is there, or it cannot be read.
        SettingsInvalid: pictures may not be kept.
    """
    from .assistant import source_from_settings

    if not settings.privacy.keep_pictures:
        raise SettingsInvalid(
            "privacy.keep_pictures is false, and a calibration set is made of pictures",
            hint="leave it out for this command: --set privacy.keep_pictures=true",
        )
    sampled = settings.source.model_copy(update={"fps": 1.0 / every_s, "realtime": False})
    settings = settings.model_copy(update={"source": sampled})
    patience_s = settings.live.open_timeout_s + settings.live.stall_s
    found = []
    for address in (one for given in addresses for one in _addresses(given)):
        source = source_from_settings(address, settings)
        limit_s = seconds or (LIVE_SECONDS if source.is_live else math.inf)
        found.append(Watched(source, limit_s, patience_s))
    return found


def _addresses(given: str) -> list[str]:
    """The videos of a folder that holds some; else the address itself."""
    if not os.path.isdir(given):
        return [given]
    videos = sorted(path for path in Path(given).iterdir() if path.suffix.lower() in VIDEO_SUFFIXES)
    return [str(path) for path in videos if not path.name.startswith(".")] or [given]


def words_of(sources: Sequence[Watched]) -> str:
    """What the set is made of, for people: kinds and names, no folders and no passwords."""
    kinds = {True: "camera", False: "file"}
    return ", ".join(f"{kinds[one.source.is_live]} {one.source.name}" for one in sources)
