"""What stands on the broker of each camera: made of its records, pure."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from ....runtime.records import StampedRecord
from .home_assistant import MOST_STATE_LETTERS, discovery_of, discovery_topic
from .mqtt_topics import Topics

MOST_EVENTS = 64
"""Types of events that one camera shows; a gate has a handful."""
MOST_TEXT_LETTERS = 8000
"""Of an attribute; Home Assistant keeps no history of more than 16 kB of them."""
ON, OFF = b"ON", b"OFF"

Update = tuple[str, bytes]
"""A retained message: topic and payload; an empty payload takes it away."""


class CameraStates:
    """The retained messages that a change of cameras or a record asks for.

    State: each camera's types of events, and which of them last.

    Args:
        topics: of the service.
        prefix: of Home Assistant's discovery; None where it is not told.
    """

    def __init__(self, topics: Topics, prefix: str | None) -> None:
        self._topics = topics
        self._prefix = prefix
        self._events: dict[str, dict[str, None]] = {}
        self._lasting: set[tuple[str, str]] = set()

    def add(self, camera: str, events: Sequence[str]) -> list[Update]:
        """A camera is there: it is announced, connecting, and nothing happens."""
        self._events[camera] = dict.fromkeys(events[:MOST_EVENTS])
        link = _json({"state": "connecting", "reason": "the service has just begun"})
        return [
            *self._announced(camera),
            (self._topics.link(camera), link),
            *self._ended(camera, everything=True),
        ]

    def remove(self, camera: str) -> list[Update]:
        """A camera has gone: everything of it is taken away."""
        events = self._events.pop(camera, None)
        if events is None:
            return []
        self._lasting = {pair for pair in self._lasting if pair[0] != camera}
        topics = [self._topics.link(camera), self._topics.said(camera), self._topics.fps(camera)]
        topics += [self._topics.event(camera, event) for event in events]
        if self._prefix is not None:
            topics.insert(0, discovery_topic(self._prefix, self._topics, camera))
        return [(topic, b"") for topic in topics]

    def told(self, record: StampedRecord) -> list[Update]:
        """What a record changes; nothing of a camera that was not added."""
        camera, body = record.camera, record.record.body
        if camera not in self._events:
            return []
        if record.record.type in ("opened", "closed"):
            return self._event(camera, body["event"], is_on=record.record.type == "opened")
        if record.record.type == "camera":
            return self._link(camera, body["state"], body["reason"])
        if record.record.type == "stats":
            return [(self._topics.fps(camera), f"{body['fps']:g}".encode())]
        if record.record.type == "final" and body["text"].strip():
            return [(self._topics.said(camera), _said(record))]
        return []

    def _announced(self, camera: str) -> list[Update]:
        if self._prefix is None:
            return []
        topic = discovery_topic(self._prefix, self._topics, camera)
        return [(topic, discovery_of(self._topics, camera, list(self._events[camera])))]

    def _event(self, camera: str, event: str, *, is_on: bool) -> list[Update]:
        updates: list[Update] = []
        if event not in self._events[camera]:  # a gate may know more than it said
            if len(self._events[camera]) >= MOST_EVENTS:
                return []
            self._events[camera][event] = None
            updates = self._announced(camera)
        change = self._lasting.add if is_on else self._lasting.discard
        change((camera, event))
        return [*updates, (self._topics.event(camera, event), ON if is_on else OFF)]

    def _link(self, camera: str, state: str, reason: str) -> list[Update]:
        state = "open" if state == "rebased" else state
        link = (self._topics.link(camera), _json({"state": state, "reason": reason}))
        return [link, *(() if state == "open" else self._ended(camera, everything=False))]

    def _ended(self, camera: str, *, everything: bool) -> list[Update]:
        """OFF for what lasts: an event that is open when the camera goes is never closed."""
        events = [
            event
            for event in self._events[camera]
            if everything or (camera, event) in self._lasting
        ]
        self._lasting -= {(camera, event) for event in events}
        return [(self._topics.event(camera, event), OFF) for event in events]


def _said(record: StampedRecord) -> bytes:
    body = record.record.body
    text = body["text"].strip()
    is_long = len(text) > MOST_STATE_LETTERS
    return _json(
        {
            "state": text[: MOST_STATE_LETTERS - 1] + "…" if is_long else text,
            "text": text[:MOST_TEXT_LETTERS],
            "question": body.get("question"),
            "cause": body.get("cause"),
            "time_s": round(record.time_s, 4),
            "wall": record.wall,
        }
    )


def _json(value: dict[str, Any]) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode()
