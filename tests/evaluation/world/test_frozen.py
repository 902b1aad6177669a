"""The frozen set is the one that was frozen, and its mix is as promised."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from edgestream.evaluation.world import (
    EVENT_TYPES,
    TRAINING_SEEDS_END,
    WorldRules,
    frozen,
    frozen_clips,
    frozen_set,
    render_clip,
)
from edgestream.runtime.errors import QualityError


def test_it_is_the_one_that_was_frozen() -> None:
    spec = frozen_set()
    assert spec.first_seed >= TRAINING_SEEDS_END and spec.clips >= 200
    assert spec.rules.first_look >= WorldRules().first_look + WorldRules().looks
    assert spec.rules.hard_negatives == 0.3 and spec.rules.width_share == (0.05, 0.6)


def test_a_changed_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = bytearray(frozen.SPEC_FILE.read_bytes())
    text[text.index(b"40")] ^= 1
    changed = tmp_path / "frozen_set.json"
    changed.write_bytes(bytes(text))
    monkeypatch.setattr(frozen, "SPEC_FILE", changed)
    with pytest.raises(QualityError, match="changed after it was frozen"):
        frozen_set()


def test_rules_need_every_field() -> None:
    with pytest.raises(ValueError, match="expected exactly"):
        frozen.rules_from_json({"fps": 4.0})


def test_clips_come_by_number_and_are_those_of_their_seeds() -> None:
    spec = frozen_set()
    named = dict(frozen_clips(2, first=5, pixels=False))
    assert list(named) == ["world-0005", "world-0006"]
    same = render_clip(spec.first_seed + 5, spec.frames, spec.rules, pixels=False)
    assert named["world-0005"].events == same.events
    assert named["world-0005"].questions == same.questions
    assert len(list(frozen_clips(9, first=spec.clips - 1, pixels=False))) == 1


@pytest.mark.slow
def test_the_mix_is_as_promised() -> None:
    spec = frozen_set()
    clips = [clip for _, clip in frozen_clips(pixels=False)]
    assert frozen.truth_digest(iter(clips)) == spec.truth_sha256
    events = np.sum([clip.labels.events.sum(0) for clip in clips], axis=0)
    assert events.min() >= 300, dict(zip(EVENT_TYPES, events.tolist(), strict=True))
    assert (events / events.sum()).min() >= 0.06
    assert 8 <= 100 * events.sum() / (spec.clips * spec.frames) <= 14
    hard = Counter(clip.hard_negative for clip in clips)
    assert 1 - hard[None] / len(clips) == pytest.approx(0.3, abs=0.03)
    questions = [question for clip in clips for question in clip.questions]
    kinds = Counter(question.kind for question in questions)
    for kind, share in (("state", 0.4), ("recent", 0.3), ("long", 0.3)):
        assert kinds[kind] / len(questions) == pytest.approx(share, abs=0.015)
    unanswerable = sum(not question.is_answerable for question in questions)
    assert unanswerable / len(questions) == pytest.approx(0.15, abs=0.01)
    unseen = sum(question.phrasing == "unseen" for question in questions)
    assert unseen / len(questions) == pytest.approx(0.25, abs=0.01)
    pans = Counter(e.direction for clip in clips for e in clip.events if e.kind == "pan")
    zooms = Counter(e.direction for clip in clips for e in clip.events if e.kind == "zoom")
    assert min(pans.values()) > 60 and min(zooms.values()) > 100
