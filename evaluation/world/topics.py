"""What can be asked about a clip at a frame, and the true answer: now, just now, long ago."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from random import Random

from .event_types import COLOURS, EVENT_TYPES, WorldEvent
from .labels import visible
from .phrasings import CLAUSES
from .rules import SIDE_PX
from .simulate import FrameState, Item
from .stage import SHOWN_SHARE

UNKNOWN = "I cannot tell."
RECENT_FRAMES = 12
"""A recent question is about something at most so many frames back."""
LONG_FRAMES = 16
"""What a long question is about was last to be seen more than so many frames ago."""
NUMBERS = ("None.", "One.", "Two.", "Three.", "Four.", "Five.")
PLACES = ("On the left.", "In the middle.", "On the right.")
CLEAR_OF_BORDER = 5.0
"""A place is asked for only where it is as clear as this, px."""
CLEARLY_LARGER = 1.3
SLIGHTLY_SHOWN = 0.12
"""Between this and SHOWN_SHARE nobody can say whether something is to be seen."""


@dataclass(frozen=True, slots=True)
class Past:
    """What was to be seen up to a frame.

    Attributes:
        frame: the last one.
        state: at that frame.
        states: of the whole clip.
        events: up to that frame.
        rng: chooses what is asked for.
        wants_yes: of a question of yes or no, or of none or some.
    """

    frame: int
    state: FrameState
    states: Sequence[FrameState]
    events: tuple[WorldEvent, ...]
    rng: Random
    wants_yes: bool

    def of(self, *kinds: str) -> list[WorldEvent]:
        """Events of these types."""
        return [event for event in self.events if event.kind in kinds]

    def is_recent(self, frame: int) -> bool:
        return frame > self.frame - RECENT_FRAMES

    def is_long_ago(self, frame: int) -> bool:
        return frame < self.frame - LONG_FRAMES


def past_of(states: Sequence[FrameState], frame: int, rng: Random, wants_yes: bool = True) -> Past:
    """What was to be seen up to a frame of a clip."""
    events = tuple(event for state in states[: frame + 1] for event in state.events)
    return Past(frame, states[frame], states, events, rng, wants_yes)


@dataclass(frozen=True, slots=True)
class Asked:
    """An answer, and what its question asks for.

    Attributes:
        answer: a sentence.
        slots: values for the phrasing.
    """

    answer: str
    slots: dict[str, str] = field(default_factory=dict)


Topic = Callable[[Past], "Asked | None"]
"""None where it cannot be asked at this frame."""


def _name(value: object) -> str:
    return f"{str(value).capitalize()}."


def is_black(past: Past) -> bool:
    """Whether the picture is black."""
    return past.state.fade <= 0.0


def _is_clear(past: Past) -> bool:
    """Whether everything is there or not: not fading, no thing half in the picture."""
    halves = (i for i in past.state.items if i.thing.colour)
    return past.state.fade in (0.0, 1.0) and not any(
        SLIGHTLY_SHOWN < item.shown < SHOWN_SHARE + 0.1 for item in halves
    )


def _count(past: Past) -> Asked | None:
    return Asked(NUMBERS[len(visible(past.state))]) if _is_clear(past) else None


def _moving(past: Past) -> Asked | None:
    state = past.state
    if state.is_new_scene or state.camera_moves or not _is_clear(past):
        return None
    if any(item.is_moving and item.shown <= SLIGHTLY_SHOWN for item in state.items):
        return None
    moves = any(item.is_moving for item in state.items)
    return Asked("Yes." if moves else "No.") if moves == past.wants_yes else None


def _lit(past: Past) -> Asked | None:
    if past.state.is_dark != past.wants_yes or past.state.fade < 1.0:
        return None
    return Asked("Yes." if past.state.is_dark else "No.")


def _where(past: Past) -> Asked | None:
    seen = [item for item in visible(past.state) if _third(item) is not None]
    if not seen or not _is_clear(past):
        return None
    item = past.rng.choice(seen)
    return Asked(PLACES[_third(item) or 0], {"colour": str(item.thing.colour)})


def _third(item: Item) -> int | None:
    """Left, middle or right; None where it is too near a border of two."""
    middle = (max(item.left, 0.0) + min(item.right, SIDE_PX)) / 2
    borders = (SIDE_PX / 3, 2 * SIDE_PX / 3)
    if any(abs(middle - border) < CLEAR_OF_BORDER for border in borders):
        return None
    return sum(middle > border for border in borders)


def _largest(past: Past) -> Asked | None:
    sizes = sorted(
        ((i.right - i.left) * (i.bottom - i.top), str(i.thing.colour)) for i in visible(past.state)
    )
    if not sizes or not _is_clear(past):
        return None
    if len(sizes) > 1 and sizes[-1][0] < CLEARLY_LARGER * sizes[-2][0]:
        return None
    return Asked(_name(sizes[-1][1]))


def _present(past: Past) -> Asked | None:
    if not _is_clear(past):
        return None
    seen = {str(item.thing.colour) for item in visible(past.state)}
    if past.wants_yes:
        return Asked("Yes.", {"colour": past.rng.choice(sorted(seen))}) if seen else None
    return Asked("No.", {"colour": past.rng.choice(sorted(set(COLOURS) - seen))})


def _absent_colour(past: Past) -> Asked | None:
    shown = {item.thing.colour for item in past.state.items}
    return Asked(UNKNOWN, {"colour": past.rng.choice(sorted(set(COLOURS) - shown))})


def _no_object(past: Past) -> Asked | None:
    return None if any(item.thing.colour for item in past.state.items) else Asked(UNKNOWN)


def _in_black(past: Past) -> Asked | None:
    return Asked(UNKNOWN, {"colour": past.rng.choice(COLOURS)}) if is_black(past) else None


def _last(*kinds: str, tell: Callable[[WorldEvent], str]) -> Topic:
    def topic(past: Past) -> Asked | None:
        found = past.of(*kinds)
        if not found or not past.is_recent(found[-1].frame):
            return None
        if sum(event.frame == found[-1].frame for event in found) > 1:
            return None
        return Asked(tell(found[-1]))

    return topic


def _first(*kinds: str, tell: Callable[[WorldEvent], str]) -> Topic:
    def topic(past: Past) -> Asked | None:
        found = past.of(*kinds)
        if not found or not past.is_long_ago(found[0].frame):
            return None
        if sum(event.frame == found[0].frame for event in found) > 1:
            return None
        return Asked(tell(found[0])) if tell(found[0]) != "None." else None

    return topic


def _never(*kinds: str) -> Topic:
    return lambda past: None if past.of(*kinds) else Asked(UNKNOWN)


def _number(kind: str) -> Topic:
    def topic(past: Past) -> Asked | None:
        found = past.of(kind)
        if bool(found) != past.wants_yes or len(found) >= len(NUMBERS):
            return None
        if found and not past.is_long_ago(found[0].frame):
            return None
        return Asked(NUMBERS[len(found)]) if past.is_long_ago(0) else None

    return topic


def _ever(past: Past) -> Asked | None:
    is_yes = past.wants_yes
    kind = past.rng.choice(tuple(CLAUSES))
    found = past.of(kind)
    if bool(found) != is_yes or not past.is_long_ago(found[-1].frame if found else 0):
        return None
    return Asked("Yes." if is_yes else "No.", {"clause": CLAUSES[kind]})


def _seen_colour(past: Past) -> Asked | None:
    """Yes of an object that was told long ago and has not shown since; no of one never there."""
    colour = past.rng.choice(COLOURS)
    frames = [
        frame
        for frame, state in enumerate(past.states[: past.frame + 1])
        if any(item.thing.colour == colour for item in state.items)
    ]
    if not past.is_long_ago(frames[-1] if frames else 0):
        return None
    if bool(frames) != past.wants_yes:
        return None
    if not frames:
        return Asked("No.", {"colour": colour})
    told = any(colour in text for state in past.states[: frames[-1]] for text in state.narration)
    return Asked("Yes.", {"colour": colour}) if told else None


def _opening(past: Past) -> Asked | None:
    first = past.states[0]
    if first.fade <= 0.0 or not past.is_long_ago(0):
        return None
    return Asked(NUMBERS[len(visible(first))])


def _opened_black(past: Past) -> Asked | None:
    return Asked(UNKNOWN) if past.states[0].fade <= 0.0 else None


ANSWERABLE: dict[str, dict[str, Topic]] = {
    "state": {
        "count": _count,
        "moving": _moving,
        "lit": _lit,
        "where": _where,
        "largest": _largest,
        "present": _present,
    },
    "recent": {
        "last_event": _last(*EVENT_TYPES, tell=lambda event: event.sentence),
        "last_pan": _last("pan", tell=lambda event: _name(event.direction)),
        "last_zoom": _last("zoom", tell=lambda event: _name(event.direction)),
        "last_enter": _last("enter", tell=lambda event: f"From the {event.side}."),
        "last_light": _last(
            "dark", "bright", tell=lambda e: "Darker." if e.kind == "dark" else "Brighter."
        ),
    },
    "long": {
        "first_event": _first(*EVENT_TYPES, tell=lambda event: event.sentence),
        "first_pan": _first("pan", tell=lambda event: _name(event.direction)),
        "first_colour": _first("enter", tell=lambda event: _name(event.colour)),
        "n_cuts": _number("cut"),
        "n_enters": _number("enter"),
        "ever": _ever,
        "seen_colour": _seen_colour,
        "opening": _opening,
    },
}
UNANSWERABLE: dict[str, dict[str, tuple[Topic, ...]]] = {
    "state": {
        "count": (_in_black,),
        "moving": (_in_black,),
        "lit": (_in_black,),
        "where": (_in_black, _absent_colour),
        "largest": (_in_black, _no_object),
        "present": (_in_black,),
    },
    "recent": {
        "last_event": (_never(*EVENT_TYPES),),
        "last_pan": (_never("pan"),),
        "last_zoom": (_never("zoom"),),
        "last_enter": (_never("enter"),),
        "last_light": (_never("dark", "bright"),),
    },
    "long": {
        "first_event": (_never(*EVENT_TYPES),),
        "first_pan": (_never("pan"),),
        "first_colour": (_never("enter"),),
        "opening": (_opened_black,),
    },
}
