"""What `input` of a manifest says of frames: JSON into `FrameInput`."""

from __future__ import annotations

from .json_fields import Fields
from .manifest_values import FrameInput, MotionInput

RESIZES = ("letterbox", "squash", "crop")
FILTERS = ("area", "bilinear", "bicubic", "lanczos")
COLOURS = 3


def frame_input_from_json(fields: Fields) -> FrameInput:
    """What `input` of a manifest says of frames; of a checkpoint too."""
    return FrameInput(
        size_px=pair(fields, "size_px", "[height, width] in px"),
        fps=fields.number("fps", above=0),
        resize=fields.text("resize", one_of=RESIZES),
        channels=fields.whole("channels") if "channels" in fields else None,
        max_gap_s=fields.number("max_gap_s", above=0) if "max_gap_s" in fields else None,
        mean=_per_channel(fields, "mean"),
        std=_per_channel(fields, "std"),
        motion=fields.maybe("motion", _motion),
        filter=fields.text("filter", one_of=FILTERS) if "filter" in fields else None,
        extra=fields.rest(),
    )


def _motion(fields: Fields) -> MotionInput:
    return MotionInput(
        kind=fields.text("kind"),
        cells=fields.whole("cells"),
        reach_px=fields.whole("reach_px", at_least=0),
        maps=fields.texts("maps"),
        extra=fields.rest(),
    )


def pair(fields: Fields, key: str, expected: str) -> tuple[int, int]:
    """Two whole numbers; `expected` says which, where they are not."""
    numbers = fields.wholes(key)
    if len(numbers) != 2:
        raise fields.refused(key, numbers, expected)
    return numbers[0], numbers[1]


def _per_channel(fields: Fields, key: str) -> tuple[float, ...] | None:
    if key not in fields:
        return None
    numbers = fields.numbers(key)
    channels = fields.whole("channels") if "channels" in fields else max(COLOURS, len(numbers))
    if len(numbers) not in (0, channels):
        raise fields.refused(key, numbers, f"{channels} numbers, one per channel, or none")
    return numbers
