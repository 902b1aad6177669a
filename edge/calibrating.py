"""`calibrate`: sources are watched, and pictures that differ become a calibration set."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..calibration.dataset import SET_FILE, CalibrationSet, make_calibration_set
from ..calibration.frame_checks import (
    FEWEST_FRAMES,
    picture_correlation,
    refuse_constant,
    refuse_noise,
)
from ..calibration.prompts import QUESTIONS
from ..calibration.selection import Diversity, Reservoir, diversity, farthest_first
from ..runtime.errors import CalibrationTooSmall, SettingsInvalid
from ..runtime.values import Frame, UInt8
from ..runtime.whole_folder import check_place
from .calibration_looks import Fit, Look, fit_of, look_for
from .calibration_sources import OnNote, Watched, watched, words_of

if TYPE_CHECKING:
    from .settings_tables import Settings

POOL = 4
"""Pictures that are kept while it watches, for each one that is wanted."""
MOST_BYTES = 4 << 30
"""Of all pictures that are kept while it watches; those of the set are copied once more."""
LARGEST_PX = 512
"""Longer side where no bundle says what is read: the largest input of the models that are known."""
_LONGER = "watch longer (--seconds), look more often (--every) or name more sources"

OnFrame = Callable[[str, float, float, int, int], None]
"""Told (source, its time, its length or infinity, looked at so far, kept for now)."""


@dataclass(frozen=True, slots=True)
class CalibrationChoice:
    """What the user asked for.

    Attributes:
        count: pictures of the set, at most.
        every_s: between two that are looked at, stream seconds.
        seconds: of each source; None for all of a file and five minutes of a camera.
        size_px: longer side; None for the input of the bundle, or LARGEST_PX.
        near: least distance of two pictures; None for that of the look.
        bundle: whose vision compares the pictures; None for their light, colour and edges.
        prompts: texts; None for the default ones.
        prompts_from: name of the file they come from; None for the default ones.
        licences: of the pictures.
        force: replace an older set.
    """

    count: int = 64
    every_s: float = 0.5
    seconds: float | None = None
    size_px: int | None = None
    near: float | None = None
    bundle: Path | None = None
    prompts: tuple[str, ...] = ()
    prompts_from: str | None = None
    licences: tuple[str, ...] = ("unknown",)
    force: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Candidate:
    """A picture that may come into the set.

    Attributes:
        pixels: (height, width, 3) uint8 RGB at the size of the set.
        time_s: of its source.
        source: number of its source.
        correlation: of neighbouring pixels as the source gave them.
    """

    pixels: UInt8
    time_s: float
    source: int
    correlation: float


@dataclass(frozen=True, slots=True, eq=False)
class Calibrated:
    """What was made.

    Attributes:
        made: the set as it was written.
        sources: name and pictures in the set, in order.
        looked_at: pictures in all.
        spread: how far the chosen ones lie apart.
    """

    made: CalibrationSet
    sources: tuple[tuple[str, int], ...]
    looked_at: int
    spread: Diversity


def calibrate(
    addresses: Sequence[str],
    out: Path,
    choice: CalibrationChoice,
    settings: Settings,
    *,
    on_frame: OnFrame = lambda *told: None,
    on_note: OnNote = lambda note: None,
    monotonic: Callable[[], float] = time.monotonic,
) -> Calibrated:
    """Watch the sources one after the other and write a small set of different pictures.

    Args:
        addresses: what `open_source` takes, or folders of video files.
        out: folder of the set; its parent must exist.
        settings: `source`, `live`, `privacy` and `engine` are read.
        on_frame: told of each picture that was looked at.
        on_note: told what the user should know, a sentence each.
        monotonic: seconds; how long a camera may give nothing.

    Raises:
        OutputError: the set cannot be written there; found before anything is watched.
        SourceError: nothing can be read, or a camera gives nothing.
        CalibrationTooSmall, CalibrationConstant, CalibrationNoise: the pictures are of no use.
        SettingsInvalid: so many pictures of this size need more memory than MOST_BYTES.
        BundleError, EngineError: the bundle cannot be used.

    Cost: memory of POOL pictures for each that is wanted, MOST_BYTES at most; 3 ms a picture looked
    at on one core, with a bundle its vision too. The same files give the same bytes.
    """
    check_place(out, replaces=SET_FILE if choice.force else None)
    sources = watched(addresses, settings, choice.every_s, choice.seconds)
    with look_for(choice.bundle, settings) as look:
        near = look.near if choice.near is None else choice.near
        watching = _Watching(look, choice, Reservoir(POOL * choice.count, near), on_frame, on_note)
        for number, one in enumerate(sources):
            watching.watch(number, one, monotonic)
    pool = watching.pool
    _check(pool)
    found = farthest_first(pool.embeddings, choice.count)
    chosen = np.sort(found.order)  # as they came: by source, then by time
    kept = pool.items
    items = [kept[index] for index in chosen]
    spread = diversity(pool.embeddings[chosen])
    counts = tuple(
        (one.source.name, sum(item.source == number for item in items))
        for number, one in enumerate(sources)
    )
    made = make_calibration_set(
        out,
        np.stack([item.pixels for item in items]),
        [item.time_s for item in items],
        choice.prompts or QUESTIONS,
        source=words_of(sources),
        licences=choice.licences,
        settings=_facts(choice, look, pool, spread, counts),
        force=choice.force,
    )
    return Calibrated(made, counts, pool.offered, spread)


@dataclass(slots=True)
class _Watching:
    """The watching of all sources. State: the pool, and how pictures get their size."""

    look: Look
    choice: CalibrationChoice
    pool: Reservoir[Candidate]
    on_frame: OnFrame
    on_note: OnNote
    fit: Fit | None = None

    def watch(self, number: int, one: Watched, monotonic: Callable[[], float]) -> None:
        """One source to its end."""
        self.look.reset()
        for frame in one.frames(self.on_note, monotonic):
            self.pool.offer(self.look(frame), lambda: self._candidate(number, frame))  # noqa: B023
            self.on_frame(
                one.source.name,
                frame.time_s,
                one.length_s(),
                self.pool.offered,
                len(self.pool),
            )

    def _candidate(self, number: int, frame: Frame) -> Candidate:
        pixels = frame.pixels
        if self.fit is None:
            most_px = self.choice.size_px
            self.fit = fit_of(pixels, self.look.frame_input, most_px, LARGEST_PX)
            check_room(self.choice.count, self.fit(pixels).shape[:2])
        return Candidate(self.fit(pixels), frame.time_s, number, picture_correlation(pixels))


def check_room(count: int, size_px: tuple[int, ...]) -> None:
    """Refuse a set whose pictures would fill the memory.

    Args:
        count: pictures that are wanted.
        size_px: height and width of each.

    Raises:
        SettingsInvalid: says how many of this size, and how large so many, there may be.
    """
    height, width = size_px
    each = 3 * height * width
    got = POOL * count * each
    if got <= MOST_BYTES:
        return
    longer = int(max(size_px) * math.sqrt(MOST_BYTES / got))
    fewer = MOST_BYTES // (POOL * each)
    raise SettingsInvalid(
        f"got {count} pictures of {width} x {height} px, for which {got / 1e9:.1f} GB are kept "
        f"while watching, expected at most {MOST_BYTES / 1e9:.1f} GB",
        hint=f"--size {longer}" + (f", or --count {fewer}" if fewer >= FEWEST_FRAMES else ""),
    )


def _check(pool: Reservoir[Candidate]) -> None:
    """Whether a set can be made of what was seen.

    Raises:
        CalibrationNoise, CalibrationConstant, CalibrationTooSmall: it cannot.
    """
    items = pool.items
    if pool.offered < FEWEST_FRAMES:
        raise CalibrationTooSmall(
            f"got {pool.offered} frames, expected at least {FEWEST_FRAMES}", hint=_LONGER
        )
    refuse_noise(float(np.mean([item.correlation for item in items])))
    if len(items) < FEWEST_FRAMES:
        refuse_constant(np.stack([item.pixels for item in items]))
        raise CalibrationTooSmall(
            f"got {len(items)} different frames among {pool.offered} (nearer than {pool.radius:g} "
            f"is the same), expected at least {FEWEST_FRAMES}",
            hint=_LONGER,
        )


def _facts(
    choice: CalibrationChoice,
    look: Look,
    pool: Reservoir[Candidate],
    spread: Diversity,
    counts: Sequence[tuple[str, int]],
) -> dict[str, Any]:
    """What the set was made with; holds no date, so that the same files give the same bytes."""
    return {
        "every_s": choice.every_s,
        "seconds": choice.seconds,
        "compared_by": look.name,
        "near": round(look.near if choice.near is None else choice.near, 6),
        "looked_at": pool.offered,
        "sources": [{"name": name, "frames": count} for name, count in counts],
        "distance": {"mean": round(spread.mean, 4), "least": round(spread.least, 4)},
        "prompts_from": choice.prompts_from,
    }
