"""What lies on each cell, against plain loops over its points."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgestream.evaluation.world.event_types import COLOURS, OTHER_COLOUR
from edgestream.evaluation.world.labels import patches
from edgestream.evaluation.world.simulate import Item
from edgestream.evaluation.world.stage import Thing

SIDE = st.floats(4, 80)
AT = st.floats(-40, 110)


@st.composite
def items(draw: st.DrawFn) -> Item:
    left, top, width, height = draw(AT), draw(AT), draw(SIDE), draw(SIDE)
    colour = draw(st.sampled_from([None, *COLOURS]))
    thing = Thing(0, colour, draw(st.booleans()), 1.0, 1.0, False, None)
    return Item(thing, left, top, left + width, top + height, 0, draw(st.booleans()), 1.0)


def on_top(items: list[Item], x: float, y: float) -> Item | None:
    found = None
    for item in items:
        u = abs((x - item.left) / ((item.right - item.left) / 2) - 1)
        v = abs((y - item.top) / ((item.bottom - item.top) / 2) - 1)
        is_box = item.thing.is_box and item.thing.colour
        if (max(u, v) <= 1) if is_box else (u * u + v * v <= 1):
            found = item
    return found


@pytest.mark.medium
@given(st.lists(items(), max_size=4), st.sampled_from([0, 9, 14]))
def test_cells_are_what_most_of_their_points_are(things: list[Item], bar_px: int) -> None:
    colour, moving = patches(things, bar_px)
    for row in range(7):
        for column in range(7):
            counts, moves = [0] * (OTHER_COLOUR + 1), 0
            for k in range(16):
                x, y = column * 16 + 4 * (k % 4) + 2, row * 16 + 4 * (k // 4) + 2
                item = on_top(things, x, y)
                if item and bar_px <= y <= 112 - bar_px:
                    name = item.thing.colour
                    counts[COLOURS.index(name) + 1 if name else OTHER_COLOUR] += 1
                    moves += item.is_moving
            if sum(counts) >= 4:
                assert counts[colour[row, column]] == max(counts) > 0
            else:
                assert colour[row, column] == 0
            assert moving[row, column] == (moves >= 4)
