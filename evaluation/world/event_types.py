"""What can happen in the rendered world, and what can be said of it besides."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

EVENT_TYPES = (
    "cut",
    "fade_out",
    "fade_in",
    "dark",
    "bright",
    "pan",
    "zoom",
    "shake",
    "blur",
    "enter",
    "leave",
    "start",
    "stop",
    "meet",
)
"""In this order everywhere; of several at one frame the earlier one is told first."""

ATTRIBUTES: Mapping[str, tuple[str, ...]] = {
    "colour": ("red", "orange", "yellow", "green", "blue", "purple", "white", "black"),
    "side": ("left", "right", "top", "bottom"),
    "direction": ("left", "right", "up", "down", "in", "out"),
    "size": ("small", "large"),
}
"""Values by name. `side` is where something enters or leaves. `direction` is the way the camera
turns or zooms, or the way a thing moves."""

COLOURS = ATTRIBUTES["colour"]
OTHER_COLOUR = len(COLOURS) + 1
"""`patch_colour` of what has no single colour; 0 is the background, 1 the first colour."""
WAY_TO_SIDE = {"left": "left", "right": "right", "up": "top", "down": "bottom"}
WAY_FROM_SIDE = {"left": "right", "right": "left", "top": "down", "bottom": "up"}


@dataclass(frozen=True, slots=True)
class WorldEvent:
    """Something that happens, at the first frame at which it can be decided from the pixels.

    Attributes:
        frame: index in the clip.
        kind: one of EVENT_TYPES.
        colour, side, direction, size: of ATTRIBUTES; None where there is none to tell.
        sentence: that tells it.
    """

    frame: int
    kind: str
    colour: str | None = None
    side: str | None = None
    direction: str | None = None
    size: str | None = None
    sentence: str = ""
