"""Altered clips are what their labels say; on them and on real clips the change gate is true."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest

from edgestream.evaluation.altered_clips import ALTERATIONS, AlteredClip, altered_clips
from edgestream.evaluation.event_scores import Scores, decisions_of, score_events
from edgestream.evaluation.footage import Footage, Window, footage_from_file
from edgestream.runtime.gate_change import CHANGE_EVENTS, ChangeGate
from edgestream.runtime.scripted import render, truth
from edgestream.runtime.scripted_scenes import SCENES, paint_scene
from edgestream.runtime.scripted_stories import SCRIPTS
from edgestream.runtime.values import Event, UInt8

MUST_RECALL, MUST_FALSE_PER_MINUTE = 0.9, 1.0


@pytest.fixture(scope="module")
def painted() -> list[Footage]:
    """Three painted scenes as if they were still footage."""
    pictures = [paint_scene(name, 5, 200).astype(np.uint8) for name in SCENES]
    return [
        Footage(name, (0.0, 5.0), (picture, picture))
        for name, picture in zip(SCENES, pictures, strict=True)
    ]


@pytest.fixture(scope="module")
def real(clips_folder: Path) -> list[Footage]:
    """The real clips."""
    return [footage_from_file(path) for path in sorted(clips_folder.glob("*.mp4"))]


def opened(frames: Iterable[tuple[float, UInt8]]) -> list[Event]:
    return [event for d in decisions_of(frames, ChangeGate()) for event in d.opened]


def scores_of(clips: Iterable[AlteredClip], fps: float) -> Scores:
    total = Scores()
    for clip in clips:
        total += score_events(
            opened(clip.frames), clip.truth, fps=fps, watched_s=clip.length_s, scored=clip.scored
        )
    return total


def scripted_scores(names: Iterable[str], seeds: Iterable[int], fps: float) -> Scores:
    total = Scores()
    for seed in seeds:
        for name in names:
            script = SCRIPTS[name]
            length_s = script.story(seed).length_s
            events = opened(render(script, fps, seed, (180, 320)))
            total += score_events(
                events, truth(script, fps, seed), fps=fps, watched_s=length_s, scored=CHANGE_EVENTS
            )
    return total


def assert_good(
    scores: Scores,
    at_least: int,
    recall: float = MUST_RECALL,
    false_per_minute: float = MUST_FALSE_PER_MINUTE,
) -> None:
    for name, score in scores.types.items():
        assert score.n_true >= at_least, name
        assert score.recall >= recall, (name, score.n_found, score.n_true)
        assert score.direction_accuracy is None or score.direction_accuracy >= 0.95
    assert scores.false_per_minute <= false_per_minute


@pytest.mark.medium
def test_the_same_seed_gives_the_same_clips(painted: list[Footage]) -> None:
    one, two = (list(altered_clips(painted, fps=2, seeds=[4])) for _ in range(2))
    assert [clip.name for clip in one] == [clip.name for clip in two]
    assert [clip.truth for clip in one] == [clip.truth for clip in two]
    for a, b in zip(one, two, strict=True):
        assert all(np.array_equal(p, q) for (_, p), (_, q) in zip(a.frames, b.frames, strict=True))


@pytest.mark.parametrize("kind", list(ALTERATIONS))
def test_labels_lie_on_frames_of_the_clip(painted: list[Footage], kind: str) -> None:
    for seed in range(6):
        clip = ALTERATIONS[kind](painted, 4.0, np.random.default_rng(seed))
        times = [time_s for time_s, _ in clip.frames]
        assert times == sorted(times) and len({p.shape for _, p in clip.frames}) == 1
        assert all(event.from_s in times and event.event in clip.scored for event in clip.truth)
        assert bool(clip.truth) == (kind != "shaken")


def test_footage_runs_forwards_and_backwards() -> None:
    pictures = tuple(np.full((2, 2, 3), level, np.uint8) for level in (0, 1, 2, 3))
    footage = Footage("x", (10.0, 11.0, 12.0, 13.0), pictures)
    levels = [int(footage.at(t)[0, 0, 0]) for t in (0, 1, 2, 2.9, 3, 3.1, 4.5, 6, 7)]
    assert levels == [0, 1, 2, 2, 3, 2, 1, 0, 1]


def test_a_window_stays_inside() -> None:
    picture = np.zeros((10, 20, 3), np.uint8)
    assert Window(-5, 99, 8, 6).of(picture).shape == (6, 8, 3)
    assert Window(0, 0, 4, 4).overlap(Window(2, 2, 4, 4)) == 0.25
    assert Window(0, 0, 4, 4).overlap(Window(9, 9, 4, 4)) == 0.0


@pytest.mark.medium
def test_the_gate_is_true_on_altered_paintings(painted: list[Footage]) -> None:
    assert_good(scores_of(altered_clips(painted, fps=4, seeds=[100, 101]), 4), at_least=2)


@pytest.mark.medium
def test_the_gate_is_true_on_the_sample_at_every_rate() -> None:
    for fps in (2.0, 4.0):
        assert_good(scripted_scores(["sample"], [0], fps), at_least=1)


@pytest.mark.medium
def test_a_hand_that_sways_is_no_event() -> None:
    scores = scripted_scores(["jitter"], [1, 11], 4.0)
    assert sum(score.n_opened for score in scores.types.values()) == 0


@pytest.mark.slow
@pytest.mark.parametrize(("fps", "seeds"), [(2.0, 2), (4.0, 3), (8.0, 1)])
def test_the_gate_is_true_on_scripted_clips(fps: float, seeds: int) -> None:
    """`benchmarks/change_gate.py` does so with more of them."""
    names = [name for name in SCRIPTS if name != "sample"]
    assert_good(scripted_scores(names, range(100, 100 + seeds), fps), at_least=2 * seeds - 1)


@pytest.mark.slow
@pytest.mark.real_clips
@pytest.mark.parametrize(
    ("fps", "seeds", "recall", "false_per_minute"),
    # At 2 frames/s a child that fills the crop is another picture from frame to frame.
    [(2.0, 16, 0.8, 1.5), (4.0, 8, MUST_RECALL, MUST_FALSE_PER_MINUTE)],
)
def test_the_gate_is_true_on_altered_real_clips(
    real: list[Footage], fps: float, seeds: int, recall: float, false_per_minute: float
) -> None:
    scores = scores_of(altered_clips(real, fps=fps, seeds=range(100, 100 + seeds)), fps)
    assert_good(scores, seeds, recall, false_per_minute)


@pytest.mark.medium
@pytest.mark.real_clips
def test_a_few_altered_real_clips(real: list[Footage]) -> None:
    assert_good(scores_of(altered_clips(real, fps=4, seeds=[100, 101]), 4), at_least=2)


def sampled(path: Path, fps: float) -> list[tuple[float, UInt8]]:
    footage = footage_from_file(path, fps=fps, from_s=0.0)
    return list(zip(footage.times_s, footage.pictures, strict=True))


@pytest.mark.medium
@pytest.mark.real_clips
@pytest.mark.parametrize("fps", [2.0, 4.0])
def test_real_clips_as_they_are(clips_folder: Path, fps: float) -> None:
    for name, wanted in (
        ("child-with-book", []),
        ("woman-at-table", []),
        ("living-room-cut", [("cut", 1)]),
    ):
        frames = sampled(clips_folder / f"{name}.mp4", fps)
        times = [time_s for time_s, _ in frames]
        got = [(e.event, times.index(e.opened_s)) for e in opened(frames) if e.event != "motion"]
        assert got == wanted, name


@pytest.mark.medium
@pytest.mark.real_clips
def test_the_join_of_two_clips_is_the_only_cut(clips_folder: Path) -> None:
    first = sampled(clips_folder / "woman-at-table.mp4", 4.0)[:20]
    second = sampled(clips_folder / "child-with-book.mp4", 4.0)[:20]
    frames = [(i / 4, pixels) for i, (_, pixels) in enumerate([*first, *second])]
    got = [(e.event, e.opened_s) for e in opened(frames) if e.event != "motion"]
    assert got == [("cut", 5.0)]
