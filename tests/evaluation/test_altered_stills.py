"""Clips made from stills are what their labels say; what needs real footage skips without it."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from edgestream.evaluation.altered_stills import STILL_KINDS, altered_stills
from edgestream.evaluation.footage import Footage, footage_from_file
from edgestream.evaluation.reference_baselines import MotionRule
from edgestream.runtime.scripted_scenes import SCENES, paint_scene

EVENT_OF = {
    "moved": "pan",
    "cut": "cut",
    "dimmed": "dark",
    "brightened": "bright",
    "zoomed_in": "zoom",
    "zoomed_out": "zoom",
}


@pytest.fixture(scope="module")
def painted() -> list[Footage]:
    pictures = [paint_scene(name, 5, 200).astype(np.uint8) for name in SCENES]
    return [
        Footage(name, (0.0, 5.0), (picture, picture))
        for name, picture in zip(SCENES, pictures, strict=True)
    ]


@pytest.mark.medium
def test_labels_are_complete_and_the_same_seed_gives_the_same_clips(painted: list[Footage]) -> None:
    one, two = (list(altered_stills(painted, count=4, fps=2, seed=3)) for _ in range(2))
    assert [kind for kind, _ in one] == [kind for kind in STILL_KINDS for _ in range(4)]
    for (kind, clip), (_, same) in zip(one, two, strict=True):
        times = [time_s for time_s, _ in clip.frames]
        assert clip.name == same.name and times == sorted(times)
        for (_, a), (_, b) in zip(clip.frames, same.frames, strict=True):
            assert a.shape == (112, 112, 3) and a.dtype == np.uint8 and np.array_equal(a, b)
        assert [event.event for event in clip.truth] == (
            [EVENT_OF[kind]] if kind != "still" else []
        )
        assert all(event.from_s in times and event.event in clip.scored for event in clip.truth)
    ways = [clip.truth[0].attributes["direction"] for kind, clip in one if kind == "moved"]
    assert sorted(ways) == ["down", "left", "right", "up"]


@pytest.mark.medium
def test_light_and_rest_are_in_the_pixels(painted: list[Footage]) -> None:
    for kind, clip in altered_stills(painted, count=2, seed=8):
        level = np.array([pixels.mean() for _, pixels in clip.frames])
        change = np.array(
            [
                abs(b.astype(float) - a).mean()
                for (_, a), (_, b) in zip(clip.frames, clip.frames[1:], strict=False)
            ]
        )
        assert change[:5].max() < 4 and change[-3:].max() < 4, "it begins and ends at rest"
        if kind == "still":
            assert change.max() < 4
        elif kind in ("dimmed", "brightened"):
            assert (level[-1] > 1.3 * level[0]) == (kind == "brightened")
            assert (level[-1] < 0.7 * level[0]) == (kind == "dimmed")


@pytest.mark.medium
def test_what_moves_goes_the_way_it_says_and_as_far() -> None:
    """Over a picture whose red says how far right and whose green how far down one looks."""
    ramp = np.zeros((256, 256, 3), np.uint8)
    ramp[..., 0], ramp[..., 1] = np.arange(256)[None], np.arange(256)[:, None]
    footage = [Footage(name, (0.0, 1.0), (ramp, ramp)) for name in ("one", "two")]
    signs = {"left": (0, -1), "right": (0, 1), "up": (1, -1), "down": (1, 1)}
    for kind, clip in altered_stills(footage, count=8, seed=1):
        first, last = (clip.frames[k][1].mean(axis=(0, 1)) for k in (0, -1))
        if kind == "moved":
            channel, sign = signs[clip.truth[0].attributes["direction"]]
            assert sign * (last - first)[channel] > 0.33 * 255
            assert abs((last - first)[1 - channel]) < 2
        elif kind in ("zoomed_in", "zoomed_out"):
            spans = [np.ptp(clip.frames[k][1][..., 0].mean(axis=0)) for k in (0, -1)]
            ratio = spans[0] / spans[1]
            assert 1.2 < (ratio if kind == "zoomed_in" else 1 / ratio) < 1.8


def test_one_clip_is_not_enough(painted: list[Footage]) -> None:
    with pytest.raises(ValueError, match="two or more"):
        next(altered_stills(painted[:1], count=1))


@pytest.mark.slow
@pytest.mark.real_clips
def test_a_rule_finds_what_was_done_to_real_stills(clips_folder: Path) -> None:
    """All but zooms, which a rule finds by half; nothing on stills."""
    footage = [footage_from_file(path, fps=4) for path in sorted(clips_folder.glob("*.mp4"))]
    found, told_of_still, ways = Counter[str](), 0, []
    for kind, clip in altered_stills(footage, count=12):
        rule = MotionRule()
        told = [
            event
            for frame, (time_s, pixels) in enumerate(clip.frames)
            for event in rule.step(frame, time_s, pixels)
        ]
        if kind == "still":
            told_of_still += len(told)
            continue
        want = clip.truth[0]
        near = [e for e in told if e.kind == want.event and abs(e.frame - want.from_s * 4) <= 1]
        found[kind] += bool(near)
        if near and kind in ("moved", "zoomed_in", "zoomed_out"):
            ways.append(near[0].direction == want.attributes["direction"])
    assert told_of_still == 0 and all(ways)
    assert all(found[kind] >= 11 for kind in ("moved", "cut", "dimmed", "brightened")), found
    assert found["zoomed_in"] >= 6 and found["zoomed_out"] >= 4, found
