"""Retained messages: what should stand on the broker, and what stands there and should not.

The topics are kept in a file, so that a camera that is gone when the service starts again is taken
away from the broker then.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterable
from pathlib import Path

from .camera_states import Update

RETAINED_FILE = "retained.json"
MOST_TOPICS = 10_000


class Retained:
    """The newest payload of each topic. Any thread may set; one takes and publishes.

    State: payload by topic (empty where it is to be taken away), the topics that have changed
    since they were taken, and whether the file has all topics.

    Args:
        folder: of the file; an unreadable one is taken for empty.
    """

    def __init__(self, folder: Path) -> None:
        self._file = folder / RETAINED_FILE
        self._lock = threading.Lock()
        self._payloads: dict[str, bytes] = dict.fromkeys(_topics_in(self._file), b"")
        self._changed: dict[str, None] = {}
        self._saved = set(self._payloads)

    def set(self, updates: Iterable[Update]) -> None:
        """Have these stand there; an empty payload takes a topic away."""
        with self._lock:
            for topic, payload in updates:
                # Only names that come and go for ever while the broker is down get so far.
                if len(self._payloads) < MOST_TOPICS or topic in self._payloads:
                    self._payloads[topic] = payload
                    self._changed[topic] = None

    def all_again(self) -> None:
        """Publish everything once more: to a broker or a listener that may know nothing."""
        with self._lock:
            self._changed = dict.fromkeys(self._payloads)

    def take(self) -> Update | None:
        """The next message to publish; None where all is published."""
        with self._lock:
            if not self._changed:
                return None
            topic = next(iter(self._changed))
            del self._changed[topic]
            return topic, self._payloads[topic]

    def published(self, topic: str) -> None:
        """The broker has the message that was taken; one that is gone is forgotten."""
        with self._lock:
            if topic not in self._changed and self._payloads.get(topic) == b"":
                del self._payloads[topic]

    def save(self) -> None:
        """Write the topics to the file, where they have changed.

        Raises:
            OSError: they cannot be written; what is there stays.
        """
        with self._lock:
            topics = set(self._payloads)
            if topics == self._saved:
                return
        beside = self._file.with_name(f".{self._file.name}")
        text = json.dumps({"format": 1, "topics": sorted(topics)})
        file = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with open(file, "w", encoding="utf-8") as content:
            content.write(text)
        os.replace(beside, self._file)
        self._saved = topics


def _topics_in(file: Path) -> list[str]:
    try:
        topics = json.loads(file.read_bytes())["topics"]
        return [topic for topic in topics if isinstance(topic, str) and topic][:MOST_TOPICS]
    except (OSError, ValueError, KeyError, TypeError):
        return []  # the worst that comes of it is a device that is shown as gone
