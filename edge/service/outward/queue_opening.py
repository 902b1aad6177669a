"""What an earlier run has left of a queue: its files, checked, and how far its sender came."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from pathlib import Path

from .queue_folder import Place, read_place
from .segments import Segment, opened_segment, segment_paths


@dataclass(slots=True)
class Left:
    """A queue as it was left.

    Attributes:
        saved: how far the sender came, as it was saved.
        next_segment: number of the next file.
        segments: the files, oldest first.
        head: number of the last record that is done.
        must_roll: the newest file may not be written any more.
    """

    saved: Place
    next_segment: int
    segments: deque[Segment] = field(default_factory=deque)
    head: int = 0
    must_roll: bool = False

    @property
    def lost(self) -> int:
        """Records that waited and cannot be read; those that were erased are none."""
        waits = [one.damaged - one.erased for one in self.segments]
        return sum(number > self.head for numbers in waits for number in numbers)


def left_in(folder: Path) -> Left:
    """The queue in a folder.

    Raises:
        OSError, OutputUnwritable: it cannot be read, or is of a newer format.

    Cost: every file is read.
    """
    saved, paths = read_place(folder), list(segment_paths(folder))
    left = Left(saved, max([saved.segment, *(int(path.stem) for path in paths)]) + 1)
    for path in paths:
        first = left.segments[-1].last + 1 if left.segments else 1
        segment = opened_segment(path, first, is_newest=path == paths[-1])
        if segment.number <= saved.segment:
            is_whole = segment.number < saved.segment
            lines = segment.lines if is_whole else min(saved.lines, segment.lines)
            left.head = first - 1 + lines
            # Its last lines were lost: those that came in their place would count as done.
            left.must_roll = is_whole or saved.lines > segment.lines
        left.segments.append(segment)
    return left
