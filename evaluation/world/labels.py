"""What a model of the world can be taught, frame by frame, from what is where."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .event_types import ATTRIBUTES, COLOURS, EVENT_TYPES, OTHER_COLOUR
from .rules import SIDE_PX
from .simulate import FrameState, Item
from .stage import SHOWN_SHARE

CELLS = 7
POINTS = 4
"""Points a side in a cell at which it is asked what lies there."""
COVERED_POINTS = 4
"""Of the 16 points of a cell, so many on things make it theirs."""
_N = CELLS * POINTS
_AT = (np.arange(_N) + 0.5) * (SIDE_PX / _N)


@dataclass(frozen=True, slots=True, eq=False)
class ClipLabels:
    """Truth per frame of a clip of T frames.

    Attributes:
        speak: (T,) bool: something is told.
        events: (T, 14) bool, in the order of EVENT_TYPES.
        attributes: by name, (T,) int16: index of the value; -1 where there is none.
        patch_colour: (T, 7, 7) int8: 0 background, 1 to 8 a colour, 9 things of no single one.
        patch_moving: (T, 7, 7) bool: what lies there moved since the frame before.
        is_dark, camera_moves: (T,) bool.
        count: (T,) int8: objects with a colour that show.
    """

    speak: NDArray[np.bool_]
    events: NDArray[np.bool_]
    attributes: Mapping[str, NDArray[np.int16]]
    patch_colour: NDArray[np.int8]
    patch_moving: NDArray[np.bool_]
    is_dark: NDArray[np.bool_]
    camera_moves: NDArray[np.bool_]
    count: NDArray[np.int8]


def labels_of(states: Sequence[FrameState], bar_px: int) -> ClipLabels:
    """Labels of a clip.

    Cost: about 0.1 ms a frame.
    """
    events = np.zeros((len(states), len(EVENT_TYPES)), np.bool_)
    attributes = {name: np.full(len(states), -1, np.int16) for name in ATTRIBUTES}
    colour = np.zeros((len(states), CELLS, CELLS), np.int8)
    moving = np.zeros((len(states), CELLS, CELLS), np.bool_)
    for frame, state in enumerate(states):
        for event in state.events:
            events[frame, EVENT_TYPES.index(event.kind)] = True
            for name, values in ATTRIBUTES.items():
                value = getattr(event, name)
                if value is not None and attributes[name][frame] < 0:
                    attributes[name][frame] = values.index(value)
        if state.fade > 0.0 and state.items:
            same = frame > 0 and states[frame - 1].items == state.items
            same = same and states[frame - 1].fade > 0.0
            if same:
                colour[frame], moving[frame] = colour[frame - 1], moving[frame - 1]
            else:
                colour[frame], moving[frame] = patches(state.items, bar_px)
    return ClipLabels(
        speak=np.array([bool(state.narration) for state in states]),
        events=events,
        attributes=attributes,
        patch_colour=colour,
        patch_moving=moving,
        is_dark=np.array([state.is_dark and state.fade > 0.0 for state in states]),
        camera_moves=np.array([state.camera_moves for state in states]),
        count=np.array([len(visible(state)) for state in states], np.int8),
    )


def visible(state: FrameState) -> list[Item]:
    """Objects with a colour that show at a frame; none in a black picture."""
    if state.fade <= 0.0:
        return []
    return [item for item in state.items if item.thing.colour and item.shown >= SHOWN_SHARE]


def patches(items: Sequence[Item], bar_px: int) -> tuple[NDArray[np.int8], NDArray[np.bool_]]:
    """(7, 7) int8 colours and (7, 7) bool movement of what lies on each cell."""
    colour = np.zeros((_N, _N), np.int8)
    moving = np.zeros((_N, _N), np.bool_)
    for item in items:
        half_w, half_h = (item.right - item.left) / 2, (item.bottom - item.top) / 2
        x = abs((_AT - item.left) / half_w - 1)
        y = abs((_AT - item.top) / half_h - 1)
        if item.thing.is_box and item.thing.colour:
            inside = (y <= 1)[:, None] & (x <= 1)[None]
        else:
            inside = (y * y)[:, None] + (x * x)[None] <= 1
        name = item.thing.colour
        colour[inside] = COLOURS.index(name) + 1 if name else OTHER_COLOUR
        moving[inside] = item.is_moving
    outside = (bar_px > _AT) | (SIDE_PX - bar_px < _AT)
    colour[outside] = 0
    moving &= colour > 0
    cells = colour.reshape(CELLS, POINTS, CELLS, POINTS).transpose(0, 2, 1, 3)
    cells = cells.reshape(CELLS, CELLS, -1)
    counts = (cells[..., None] == np.arange(1, OTHER_COLOUR + 1)).sum(axis=2)
    covered = counts.sum(-1) >= COVERED_POINTS
    most = np.where(covered, counts.argmax(-1) + 1, 0).astype(np.int8)
    moves = moving.reshape(CELLS, POINTS, CELLS, POINTS).sum((1, 3)) >= COVERED_POINTS
    return most, moves
