"""The address `test:NAME[?seed=N]`: a clip that is painted while it plays, with a known truth."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from .errors import SettingsInvalid
from .records import Record
from .scripted import Script, render, script_named
from .sources import SourceSettings
from .values import Frame

PREFIX = "test:"
SIZE_PX = (360, 640)  # (height, width): what a camera's second stream often has
LARGEST_SEED = 2**31 - 1


class ScriptedSource:
    """A painted clip. See `Source` for the protocol; every reading gives the same bytes.

    Control comes back with every picture: within the painting of one, some milliseconds, the first
    of a scene some hundred.

    Args:
        script: what happens.
        seed: the variant.
        settings: frames per second; a smaller `max_side_px` gives smaller pictures.
    """

    is_live = False

    def __init__(self, script: Script, seed: int, settings: SourceSettings) -> None:
        self.name = script.name
        self.duration_s: float | None = script.story(seed).length_s
        self._script = script
        self._seed = seed
        self._settings = settings
        self._now_s = 0.0

    def now_s(self) -> float:
        """Stream time of the last frame given, seconds; after the end, the length of the clip."""
        return self._now_s

    def frames(self, tell: Callable[[Record], None]) -> Iterator[Frame | None]:
        """All frames of the clip, in order; nothing is told, since nothing can go wrong."""
        self._now_s = 0.0
        shrink = min(1.0, self._settings.max_side_px / max(SIZE_PX))
        height_px, width_px = (max(1, round(side * shrink)) for side in SIZE_PX)
        pictures = render(self._script, self._settings.fps, self._seed, (height_px, width_px))
        for index, (time_s, pixels) in enumerate(pictures):
            self._now_s = time_s
            yield Frame(index, time_s, pixels)
        self._now_s = max(self._now_s, self.duration_s or 0.0)


def scripted_source(address: str, settings: SourceSettings) -> ScriptedSource:
    """The source at `test:NAME[?seed=N]`.

    Raises:
        SourceUnknown: no script goes by this name; the message lists those there are.
        SettingsInvalid: what follows the name is not `seed=` and a whole number from 0.
    """
    name, mark, query = address.removeprefix(PREFIX).partition("?")
    return ScriptedSource(script_named(name), _seed_of(address, query) if mark else 0, settings)


def _seed_of(address: str, query: str) -> int:
    key, _, number = query.partition("=")
    is_number = number.isascii() and number.isdecimal() and len(number) <= len(str(LARGEST_SEED))
    if key != "seed" or not is_number or int(number) > LARGEST_SEED:
        raise SettingsInvalid(
            f"got the source {address!r}, expected {PREFIX}NAME or {PREFIX}NAME?seed=N "
            f"with N from 0 to {LARGEST_SEED}"
        )
    return int(number)
