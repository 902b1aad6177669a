"""The one line at the end of a run: what it counts, in words that fit the counts."""

from __future__ import annotations

import pytest

from edgestream.edge.progress import summary_line

STATS = {
    "frames_seen": 64,
    "frames_still": 60,
    "frames_gated": 3,
    "turns": 4,
    "dropped": {},
    "uptime_s": 2.0,
}


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({}, "0:16.00 of video watched in 2.0 s (8x): 64 frames, 60 of them still, "),
        ({}, "3 with an event, 4 answers and descriptions, nothing dropped"),
        ({"turns": 0}, "3 with an event, nothing dropped"),
        ({"turns": 1}, ", 1 answer or description, "),
        ({"frames_seen": 1, "frames_still": 0}, ": 1 frame, 0 of them still"),
        ({"dropped": {"frames": 3}}, ", 3 frames dropped"),
        ({"dropped": {"frames": 3, "event turns": 1}}, ", 1 description and 3 frames dropped"),
    ],
)
def test_a_run_is_told_in_one_line(more, words):
    line = summary_line(STATS | more, 16.0)
    assert words in line and "\n" not in line
