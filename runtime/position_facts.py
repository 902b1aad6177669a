"""What a manifest says of positions: how they turn keys, and how a frame lies in them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from .json_fields import Fields


@dataclass(frozen=True, slots=True)
class Positions:
    """How positions turn keys and queries.

    Attributes:
        axes: 1, or 3 with mRoPE.
        theta: base of the rotation.
        sections: sizes of the mRoPE sections; None with one axis.
        frame_grid: (rows, columns) of one frame's tokens, which lie there as in a picture; None
            where they follow each other as those of a text do.
    """

    axes: int
    theta: float
    sections: tuple[int, ...] | None = field(default=None, metadata={"shown_as_null": True})
    frame_grid: tuple[int, int] | None = None
    extra: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))

    def grid_holds(self, tokens_per_frame: int) -> bool:
        """Whether the grid, where there is one, has a place for each token of a frame."""
        return self.frame_grid is None or (
            self.frame_grid[0] * self.frame_grid[1] == tokens_per_frame
        )


def positions_from_json(fields: Fields) -> Positions:
    """`positions` of a manifest."""
    axes = fields.whole("axes")
    if axes not in (1, 3):
        raise fields.refused("axes", axes, "1 or 3")
    has_sections = fields.anything("sections") is not None
    sections = fields.wholes("sections") if has_sections else None
    grid = fields.wholes("frame_grid") if "frame_grid" in fields else None
    if grid is not None and (len(grid) != 2 or axes == 1):
        raise fields.refused("frame_grid", grid, "[rows, columns] where there are 3 axes")
    return Positions(
        axes,
        fields.number("theta", above=0),
        sections,
        None if grid is None else (grid[0], grid[1]),
        extra=fields.rest(),
    )
