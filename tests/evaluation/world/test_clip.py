"""The same seed gives the same clip, longer ones begin with shorter ones, labels agree."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgestream.evaluation.world import (
    ATTRIBUTES,
    EVENT_TYPES,
    WORDS,
    Clip,
    WorldRules,
    read_sentence,
    render_clip,
    scene_sentence,
    words_of,
)

SEEDS = st.integers(0, 2**31 - 1)
FEW_LOOKS = WorldRules(looks=6)


def assert_same_truth(one: Clip, two: Clip) -> None:
    for name in ("events", "narration", "questions", "hard_negative"):
        assert getattr(one, name) == getattr(two, name), name
    for field in fields(one.labels):
        mine, theirs = getattr(one.labels, field.name), getattr(two.labels, field.name)
        if field.name == "attributes":
            assert all(np.array_equal(mine[name], theirs[name]) for name in ATTRIBUTES)
        else:
            assert np.array_equal(mine, theirs) and mine.dtype == theirs.dtype, field.name


@pytest.mark.parametrize("seed", [3, 2**31 + 5])
def test_the_same_seed_gives_the_same_bytes_and_pixels_change_no_truth(seed: int) -> None:
    one, two, plain = (render_clip(seed, 20, FEW_LOOKS, pixels=p) for p in (True, True, False))
    assert one.pixels is not None and two.pixels is not None and plain.pixels is None
    assert one.pixels.shape == (20, 112, 112, 3) and one.pixels.dtype == np.uint8
    assert np.array_equal(one.pixels, two.pixels)
    assert_same_truth(one, two)
    assert_same_truth(one, plain)
    other = render_clip(seed + 1, 20, FEW_LOOKS)
    assert not np.array_equal(one.pixels, other.pixels)


def test_a_longer_clip_begins_with_the_shorter_one() -> None:
    for seed in (11, 12):
        short, long = render_clip(seed, 8, FEW_LOOKS), render_clip(seed, 20, FEW_LOOKS)
        assert short.pixels is not None and long.pixels is not None
        assert np.array_equal(short.pixels, long.pixels[:8])
        assert short.narration == long.narration[:8]
        assert short.events == tuple(event for event in long.events if event.frame < 8)
        assert np.array_equal(short.labels.patch_colour, long.labels.patch_colour[:8])


@pytest.mark.medium
@given(SEEDS)
def test_labels_agree_with_events_and_narration(seed: int) -> None:
    clip = render_clip(seed, 40, pixels=False)
    labels = clip.labels
    told = {(event.frame, EVENT_TYPES.index(event.kind)) for event in clip.events}
    assert told == set(zip(*(k.tolist() for k in np.nonzero(labels.events)), strict=True))
    assert labels.speak.tolist() == [bool(sentences) for sentences in clip.narration]
    for name, values in ATTRIBUTES.items():
        for frame in np.nonzero(labels.attributes[name] >= 0)[0]:
            value = values[labels.attributes[name][frame]]
            assert value in {getattr(e, name) for e in clip.events if e.frame == frame}
    assert np.all(labels.patch_colour[labels.patch_moving] > 0)
    assert np.all(labels.events[0] == 0), "nothing can happen before there is a frame to compare"
    frames = [event.frame for event in clip.events]
    assert frames == sorted(frames)
    assert np.array_equal(clip.time_s, np.arange(40) / 4.0)


@pytest.mark.medium
@given(SEEDS)
def test_what_is_told_says_what_happened(seed: int) -> None:
    clip = render_clip(seed, 40, pixels=False)
    for frame, sentences in enumerate(clip.narration):
        events = [event for event in clip.events if event.frame == frame]
        assert [event.sentence for event in events] == list(sentences[: len(events)])
        for event in events:
            read = read_sentence(event.sentence)
            assert read is not None and read.kind == event.kind
            for name in ATTRIBUTES:
                assert getattr(read, name) == getattr(event, name), (event, read)
        for scene in sentences[len(events) :]:
            read = read_sentence(scene)
            assert read is not None and read.kind in ("scene", "black")
            if read.kind == "scene":
                assert len(read.colours) == clip.labels.count[frame]
                assert scene == scene_sentence(read.colours)
    assert clip.narration[0], "the opening is told"
    for event in clip.events:
        if event.kind == "cut":
            assert len(clip.narration[event.frame]) == 2, "a new scene is told"


@pytest.mark.medium
@given(SEEDS)
def test_every_text_is_made_of_the_words(seed: int) -> None:
    clip = render_clip(seed, 40, WorldRules(unseen=0.5), pixels=False)
    texts = [sentence for sentences in clip.narration for sentence in sentences]
    texts += [text for question in clip.questions for text in (question.text, question.answer)]
    for text in texts:
        words = words_of(text)
        assert set(words) <= set(WORDS)
        assert "".join(words) == text.replace(" ", ""), "nothing of a text is lost"


def test_the_words_are_few_and_sorted() -> None:
    assert list(WORDS) == sorted(set(WORDS)) and len(WORDS) <= 200


@pytest.mark.parametrize(("seed", "frames"), [(-1, 5), (0, 0)])
def test_a_clip_that_cannot_be_is_refused(seed: int, frames: int) -> None:
    with pytest.raises(ValueError, match="expected 0 and 1 or more"):
        render_clip(seed, frames)


@pytest.mark.parametrize(
    "wrong",
    [{"action_weights": (1.0,)}, {"width_share": (0.5, 0.2)}, {"fps": 0.0}, {"looks": 0}],
)
def test_rules_that_cannot_be_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="expected"):
        replace(WorldRules(), **wrong)


def test_hard_negatives_are_as_many_as_asked_for() -> None:
    few = [
        render_clip(seed, 1, WorldRules(hard_negatives=share), pixels=False).hard_negative
        for share in (0.0, 1.0)
        for seed in range(30)
    ]
    assert not any(few[:30]) and all(few[30:])
