"""Topics: where what is said of which camera stands on the broker.

<topic>/status                              online, offline (also the last will); retained
<topic>/<camera>/<type of record>           each record, as it comes
<topic>/<camera>/state/link                 {"state": "open", "reason": "..."}; retained
<topic>/<camera>/state/said                 what was said last; retained
<topic>/<camera>/state/fps                  frames per second; retained
<topic>/<camera>/state/event/<type>         ON while an event of this type lasts; retained
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass

LONGEST_NAME = 64
_OTHER = re.compile(r"[^A-Za-z0-9_-]+")


def topic_name(name: str) -> str:
    """A name as one level of a topic: letters, digits, `_` and `-`.

    What had to be changed gets a part of its hash behind it, so that two names do not share one.
    """
    kept = _OTHER.sub("_", name)[:LONGEST_NAME].strip("_")
    if kept == name and kept:
        return kept
    mark = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    return f"{kept or 'camera'}-{mark}"


@dataclass(frozen=True, slots=True)
class Topics:
    """The topics of one service.

    Attributes:
        base: what all begin with.
    """

    base: str

    @property
    def status(self) -> str:
        """Whether the service is there."""
        return f"{self.base}/status"

    def record(self, camera: str, type_: str) -> str:
        """Of the records of one type."""
        return f"{self.base}/{topic_name(camera)}/{type_}"

    def link(self, camera: str) -> str:
        """Of the camera's state."""
        return f"{self.base}/{topic_name(camera)}/state/link"

    def said(self, camera: str) -> str:
        """Of the last sentence."""
        return f"{self.base}/{topic_name(camera)}/state/said"

    def fps(self, camera: str) -> str:
        """Of the frames per second."""
        return f"{self.base}/{topic_name(camera)}/state/fps"

    def event(self, camera: str, event: str) -> str:
        """Of an event type's ON and OFF."""
        return f"{self.base}/{topic_name(camera)}/state/event/{topic_name(event)}"

    def node(self, camera: str) -> str:
        """The camera among all devices that Home Assistant knows."""
        return f"{self.base.replace('/', '_')}_{topic_name(camera)}"
