"""The budget: it counts by name and refuses what can never fit."""

from __future__ import annotations

import pytest

from edgestream.runtime.errors import SettingsInvalid
from edgestream.runtime.memory.budget import Budget


def test_it_counts_what_each_holds_now():
    budget = Budget(100)
    budget.hold("recent", 30)
    budget.hold("key_frames", 90)
    budget.hold("recent", 20)
    assert budget.holders() == {"recent": 20, "key_frames": 90}
    assert (budget.kept_bytes, budget.room) == (110, 94 - 110)


def test_what_cannot_fit_is_refused_and_what_just_fits_is_not():
    budget = Budget(100)
    budget.require(93, "one frame")
    with pytest.raises(SettingsInvalid, match=r"got a budget of 100 bytes, .*the 101 that one"):
        budget.require(94, "one frame")
    with pytest.raises(SettingsInvalid, match="got a budget of 0 bytes"):
        Budget(0)
