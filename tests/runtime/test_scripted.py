"""The `test:` clips: the same bytes every time, and a truth that fits the pictures."""

from __future__ import annotations

import numpy as np
import pytest

from edgestream.runtime.errors import SourceUnknown
from edgestream.runtime.scripted import (
    Light,
    Move,
    Turn,
    first_time,
    frame_times,
    gain_at,
    render,
    script_named,
    truth,
)
from edgestream.runtime.scripted_stories import SCRIPTS
from edgestream.runtime.values import UInt8

SIZE_PX = (72, 128)


def frames(name: str, fps: float = 4.0, seed: int = 0) -> list[tuple[float, UInt8]]:
    return list(render(script_named(name), fps, seed, SIZE_PX))


@pytest.mark.medium
def test_the_same_arguments_give_the_same_bytes_and_a_seed_gives_others() -> None:
    one, two, other = frames("pans", 2.0, 3), frames("pans", 2.0, 3), frames("pans", 2.0, 4)
    assert all(a == b and np.array_equal(p, q) for (a, p), (b, q) in zip(one, two, strict=True))
    assert any(not np.array_equal(p, q) for (_, p), (_, q) in zip(one, other, strict=False))


@pytest.mark.parametrize("size_px", [(1, 1), (2, 3), (33, 71), (90, 40), (40, 88)])
def test_any_size_can_be_painted(size_px: tuple[int, int]) -> None:
    pictures = [pixels for _, pixels in render(SCRIPTS["sample"], 0.5, 0, size_px)]
    assert {pixels.shape for pixels in pictures} == {(*size_px, 3)}
    assert {pixels.dtype for pixels in pictures} == {np.dtype(np.uint8)}


@pytest.mark.parametrize("name", list(SCRIPTS))
@pytest.mark.parametrize("fps", [2.0, 4.0, 8.0])
def test_the_truth_lies_on_sampled_frames_in_order(name: str, fps: float) -> None:
    for seed in range(20):
        script = script_named(name)
        times = frame_times(script.story(seed).length_s, fps)
        events = truth(script, fps, seed)
        assert [event.from_s for event in events] == sorted(event.from_s for event in events)
        for event in events:
            assert event.from_s in times and event.to_s >= event.from_s
            assert (event.event == "pan") == ("direction" in event.attributes)


def test_the_sample_has_every_event() -> None:
    seen = {event.event for event in truth(SCRIPTS["sample"], 4.0)}
    assert seen == {"cut", "dark", "bright", "motion", "pan"}
    assert 30 <= SCRIPTS["sample"].story(0).length_s <= 40


@pytest.mark.parametrize(
    ("name", "events"),
    [
        ("still", set()),
        ("jitter", set()),
        ("lights", {"dark", "bright"}),
        ("cuts", {"cut"}),
        ("pans", {"pan"}),
        ("motion", {"motion"}),
    ],
)
def test_each_script_shows_what_it_says(name: str, events: set[str]) -> None:
    for seed in range(5):
        assert {event.event for event in truth(SCRIPTS[name], 4.0, seed)} == events


def test_thirty_events_of_each_type_take_few_seeds() -> None:
    for name, event in (("cuts", "cut"), ("pans", "pan"), ("motion", "motion")):
        found = [e for seed in range(100, 115) for e in truth(SCRIPTS[name], 4.0, seed)]
        assert sum(e.event == event for e in found) >= 30


@pytest.mark.medium
def test_cuts_and_lights_are_in_the_pictures_when_the_truth_says_so() -> None:
    pictures = dict(frames("cuts"))
    for event in truth(SCRIPTS["cuts"], 4.0):
        now, before = pictures[event.from_s], pictures[event.from_s - 0.25]
        assert np.abs(now.astype(int) - before).mean() > 15
    pictures = dict(frames("lights"))
    for event in truth(SCRIPTS["lights"], 4.0):
        change = pictures[event.from_s].mean() / pictures[max(event.from_s - 1.0, 0.0)].mean()
        assert (change < 0.85) if event.event == "dark" else (change > 1.15)


def test_a_truth_is_the_first_decidable_frame() -> None:
    for seed in range(10):
        for name in ("lights", "pans", "motion"):
            story = SCRIPTS[name].story(seed)
            begins = [cue.at_s for cue in story.cues if isinstance(cue, Light | Turn | Move)]
            for event in truth(SCRIPTS[name], 4.0, seed):
                begin_s = max(at_s for at_s in begins if at_s <= event.from_s)
                assert event.from_s - begin_s <= 1.0


def test_nothing_runs_into_the_edge_of_the_world() -> None:
    # A turn that is stopped by the edge would be labelled and not seen.
    for seed in range(30):
        story = SCRIPTS["pans"].story(seed)
        x, y = story.first.x * 1.4, story.first.y * 0.8
        for cue in story.cues:
            assert isinstance(cue, Turn)
            x, y = x + cue.right, y + cue.down
            assert -1e-6 <= x <= 1.4 + 1e-6 and -1e-6 <= y <= 0.8 + 1e-6


def test_light_ramps_and_stays() -> None:
    story = SCRIPTS["sample"].story(0)
    assert [round(gain_at(story, t), 3) for t in (7.9, 8.0, 10.4, 10.75, 11.0, 20.0)] == [
        1.0, 0.3, 0.3, 0.65, 1.0, 1.0,
    ]  # fmt: skip


def test_first_time_forgives_floating_point() -> None:
    assert first_time((0.1, 0.2, 0.3), lambda t: t >= 0.1 + 0.2) == 0.3
    assert first_time((0.1,), lambda t: t > 5) is None


def test_an_unknown_name_is_refused_with_those_there_are() -> None:
    with pytest.raises(SourceUnknown, match="sample, still, lights"):
        script_named("nothing")
