"""What Home Assistant is told of a camera: one device, with an entity for each thing it can show.

A discovery message of a whole device (Home Assistant 2024.11): it appears, changes and goes as one.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from .... import __version__
from .mqtt_topics import Topics, topic_name

LINK_STATES = ("connecting", "open", "lost", "paused", "ended")
MOST_STATE_LETTERS = 255
"""Home Assistant refuses a longer state."""


def discovery_topic(prefix: str, topics: Topics, camera: str) -> str:
    """Where a camera is announced; an empty message there takes it away."""
    return f"{prefix}/device/{topics.node(camera)}/config"


def discovery_of(topics: Topics, camera: str, events: Sequence[str]) -> bytes:
    """The message that announces a camera.

    Args:
        topics: of the service.
        camera: its name.
        events: the types of events that its gate knows.
    """
    node = topics.node(camera)
    parts = {
        "link": _link(topics, camera),
        "said": _said(topics, camera),
        "fps": _fps(topics, camera),
        "standing": _standing(topics, camera),
        **{f"event_{topic_name(event)}": _event(topics, camera, event) for event in events},
    }
    message = {
        "device": {
            "identifiers": [node],
            "name": camera,
            "manufacturer": "EdgeStream",
            "model": "Camera",
            "sw_version": __version__,
        },
        "origin": {"name": "EdgeStream", "sw_version": __version__},
        "availability": [{"topic": topics.status}],
        "components": {
            f"{node}_{name}": {**part, "unique_id": f"{node}_{name}"}
            for name, part in parts.items()
        },
        "qos": 1,
    }
    return json.dumps(message, ensure_ascii=False).encode()


def _link(topics: Topics, camera: str) -> dict[str, Any]:
    return {
        "platform": "sensor",
        "name": "State",
        "device_class": "enum",
        "options": list(LINK_STATES),
        "state_topic": topics.link(camera),
        "value_template": "{{ value_json.state }}",
        "json_attributes_topic": topics.link(camera),
        "entity_category": "diagnostic",
    }


def _said(topics: Topics, camera: str) -> dict[str, Any]:
    return {
        "platform": "sensor",
        "name": "Said",
        "icon": "mdi:message-text",
        "state_topic": topics.said(camera),
        "value_template": "{{ value_json.state }}",
        "json_attributes_topic": topics.said(camera),
    }


def _fps(topics: Topics, camera: str) -> dict[str, Any]:
    return {
        "platform": "sensor",
        "name": "Frames per second",
        "state_topic": topics.fps(camera),
        "unit_of_measurement": "fps",
        "state_class": "measurement",
        "entity_category": "diagnostic",
    }


def _standing(topics: Topics, camera: str) -> dict[str, Any]:
    return {
        "platform": "event",
        "name": "Standing request",
        "event_types": ["met"],
        "state_topic": topics.record(camera, "standing"),
        "value_template": "{{ dict(value_json, event_type='met') | to_json }}",
    }


def _event(topics: Topics, camera: str, event: str) -> dict[str, Any]:
    """ON while an event lasts; not there while the camera is not: no news is no OFF."""
    is_open = "{{ 'online' if value_json.state == 'open' else 'offline' }}"
    return {
        "platform": "binary_sensor",
        "name": event.replace("_", " ").capitalize(),
        "state_topic": topics.event(camera, event),
        "availability": [
            {"topic": topics.status},
            {"topic": topics.link(camera), "value_template": is_open},
        ],
        "availability_mode": "all",
    }
