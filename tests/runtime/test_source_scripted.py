"""Scripted clips as a source: the address is read strictly, the frames are those of the script."""

from __future__ import annotations

import numpy as np
import pytest

from edgestream.runtime.errors import SettingsInvalid, SourceUnknown
from edgestream.runtime.scripted import render, script_named
from edgestream.runtime.scripted_stories import SCRIPTS
from edgestream.runtime.source_scripted import LARGEST_SEED, SIZE_PX
from edgestream.runtime.sources import SourceSettings, open_source

SLOW = SourceSettings(fps=0.5, max_side_px=64)


@pytest.mark.medium
def test_the_frames_are_those_of_the_script():
    source = open_source("test:sample?seed=3", SLOW)
    assert (source.name, source.is_live) == ("sample", False)
    told: list[object] = []
    expected = render(script_named("sample"), 0.5, 3, (36, 64))
    both = zip(source.frames(told.append), expected, strict=True)
    for index, (frame, (time_s, pixels)) in enumerate(both):
        assert frame is not None
        assert (frame.index, frame.time_s) == (index, time_s)
        assert source.now_s() == time_s
        assert np.array_equal(frame.pixels, pixels)
    assert source.now_s() == source.duration_s == script_named("sample").story(3).length_s
    assert told == []


@pytest.mark.medium
def test_the_default_seed_is_0_and_seeds_differ():
    def first(address: str) -> np.ndarray:
        frame = next(open_source(address, SLOW).frames(list().append))
        assert frame is not None
        return frame.pixels

    assert np.array_equal(first("test:sample"), first("test:sample?seed=0"))
    assert not np.array_equal(first("test:sample"), first("test:sample?seed=1"))


@pytest.mark.medium
def test_every_script_plays():
    for name in SCRIPTS:
        frame = next(open_source(f"test:{name}", SLOW).frames(list().append))
        assert frame is not None
        assert frame.pixels.shape == (36, 64, 3)


@pytest.mark.medium
def test_the_size_by_default():
    frame = next(open_source("test:sample", SourceSettings()).frames(list().append))
    assert frame is not None
    assert frame.pixels.shape == (*SIZE_PX, 3)


@pytest.mark.parametrize("name", ["", "nothing", "Sample", "sample/"])
def test_an_unknown_name_lists_the_known_ones(name):
    with pytest.raises(SourceUnknown) as caught:
        open_source(f"test:{name}", SourceSettings())
    assert caught.value.exit_code == 5
    for known in SCRIPTS:
        assert known in caught.value.message


@pytest.mark.parametrize(
    "query",
    [
        *(
            "",
            "seed",
            "seed=",
            "seed=-1",
            "seed=1.5",
            "seed=x",
            "speed=1",
            "seed=²",
            "seed=٣",
            "seed=1&a=2",
        ),
        f"seed={LARGEST_SEED + 1}",
        "seed=" + "9" * 5000,
    ],
)
def test_a_query_that_is_no_seed(query):
    with pytest.raises(SettingsInvalid, match="expected test:NAME"):
        open_source(f"test:sample?{query}", SourceSettings())


def test_the_largest_seed_is_allowed():
    open_source(f"test:sample?seed={LARGEST_SEED}", SourceSettings())
