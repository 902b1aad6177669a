"""The frozen evaluation set: a specification with a hash, never tuned to, and its clips.

Seeds below 2**30 are for training, from there to 2**31 for choosing thresholds; those of this set
lie above, and so do its backgrounds and things, which no training clip shows.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from ...runtime.errors import QualityError
from .clip import Clip, render_clip
from .rules import WorldRules

SPEC_FILE = Path(__file__).with_name("frozen_set.json")
SPEC_SHA256 = "ab973eea3391f921e0d632307c5729c4fafe9b711b2c229a25fad46233632cbf"
FORMAT = 1


@dataclass(frozen=True, slots=True)
class FrozenSet:
    """What the set is made of.

    Attributes:
        first_seed: of its first clip; the others follow by one.
        clips: how many.
        frames: of each clip.
        rules: of the world.
        truth_sha256: of all that is told, asked and answered: `truth_digest`.
    """

    first_seed: int
    clips: int
    frames: int
    rules: WorldRules
    truth_sha256: str


def frozen_set() -> FrozenSet:
    """The specification.

    Raises:
        QualityError: the file is not the one that was frozen.
    """
    text = SPEC_FILE.read_bytes()
    found = hashlib.sha256(text).hexdigest()
    if found != SPEC_SHA256:
        raise QualityError(
            f"got {SPEC_FILE.name} with sha256 {found[:12]}…, expected {SPEC_SHA256[:12]}…: it was "
            "changed after it was frozen",
            hint="restore the file of this release; figures on another set cannot be compared",
        )
    spec: dict[str, Any] = json.loads(text)
    return FrozenSet(
        first_seed=spec["first_seed"],
        clips=spec["clips"],
        frames=spec["frames"],
        rules=rules_from_json(spec["rules"]),
        truth_sha256=spec["truth_sha256"],
    )


def rules_from_json(values: dict[str, Any]) -> WorldRules:
    """Rules with every field given; lists become tuples."""
    names = {field.name for field in fields(WorldRules)}
    if set(values) != names:
        raise ValueError(f"got rules {sorted(values)}, expected exactly {sorted(names)}")
    plain: dict[str, Any] = {k: tuple(v) if type(v) is list else v for k, v in values.items()}
    return WorldRules(**plain)


def frozen_clips(
    count: int | None = None, *, first: int = 0, pixels: bool = True
) -> Iterator[tuple[str, Clip]]:
    """(name, clip) of the set, in order.

    Args:
        count: how many; None for all that follow.
        first: number of the first one wanted, 0 or more.
        pixels: False for the truth alone.

    Raises:
        QualityError: the specification is not the one that was frozen.

    Cost: about a minute for all with pixels, 3 s without.
    """
    spec = frozen_set()
    end = spec.clips if count is None else min(spec.clips, first + count)
    for number in range(first, end):
        clip = render_clip(spec.first_seed + number, spec.frames, spec.rules, pixels=pixels)
        yield f"world-{number:04d}", clip


def truth_digest(clips: Iterator[Clip]) -> str:
    """sha256 of events, narration and questions: it changes when the simulation does."""
    digest = hashlib.sha256()
    for clip in clips:
        digest.update(repr((clip.events, clip.narration, clip.questions)).encode())
    return digest.hexdigest()
