"""Planted evidence: the generator is as the page says, and the same for the same seed."""

from __future__ import annotations

from itertools import islice, pairwise

import numpy as np
import pytest

from edgestream.evaluation.planted_evidence import (
    ASKED_AFTER_S,
    DIM,
    PlantedStream,
    features_from_embeds,
)

SHORT_S = 300.0


@pytest.fixture(scope="module")
def hour():
    return PlantedStream(0)


@pytest.mark.parametrize("seed", range(5))
def test_segments_lie_back_to_back_and_change_the_topic(seed):
    stream = PlantedStream(seed)
    assert stream.segments[0].from_s == 0.0 and stream.segments[-1].to_s == stream.length_s
    for one, other in pairwise(stream.segments):
        assert one.to_s == other.from_s and one.topic != other.topic
    lengths_s = np.array([s.to_s - s.from_s for s in stream.segments[:-1]])
    assert lengths_s.min() >= 3.0 and lengths_s.max() <= 40.0
    assert lengths_s.mean() == pytest.approx(21.5, abs=3.0)
    topics = [segment.topic for segment in stream.segments]
    assert sorted(set(topics)) == list(range(len(stream.topics)))


def test_no_segment_returns_to_the_topic_that_shows():
    for seed in range(60):
        topics = [segment.topic for segment in PlantedStream(seed, length_s=SHORT_S).segments]
        assert all(one != other for one, other in pairwise(topics))


def test_one_segment_in_five_returns():
    returned = segments = 0
    for seed in range(10):
        stream = PlantedStream(seed)
        segments += len(stream.segments)
        returned += len(stream.segments) - len(stream.topics)
    assert returned / segments == pytest.approx(0.2, abs=0.03)


@pytest.mark.medium
def test_frames_come_four_a_second_each_in_its_segment(hour):
    times_s = [time_s for time_s, _ in hour.frames()]
    assert times_s == [index / 4 for index in range(3600 * 4)]


@pytest.mark.parametrize(("noise", "length"), [(1.0, 0.5), (2.0, 1.0)])
def test_noise_has_half_the_length_of_a_topic_and_doubled_all_of_it(noise, length):
    stream = PlantedStream(3, length_s=SHORT_S, noise=noise)
    off = []
    for time_s, embeds in stream.frames():
        assert embeds.shape == (10, DIM) and embeds.dtype == np.float32
        topic = stream.topics[stream.topic_at(time_s)]
        assert np.linalg.norm(topic) == pytest.approx(1.0, abs=1e-5)
        off.append(embeds - topic)
    # Topics lie so far apart that a frame of another topic would show here.
    assert np.sqrt((np.array(off) ** 2).sum(-1)).mean() == pytest.approx(length, rel=0.02)
    assert np.array(off).std() == pytest.approx(length / DIM**0.5, rel=0.01)


def test_it_is_the_same_again_in_whatever_order_it_is_asked():
    one, other = PlantedStream(5, length_s=SHORT_S), PlantedStream(5, length_s=SHORT_S)
    questions = one.questions(5)
    for (t, a), (u, b) in zip(islice(one.frames(), 200), islice(other.frames(), 200), strict=True):
        assert t == u and np.array_equal(a, b)
    for a, b in zip(questions, other.questions(5), strict=True):
        assert a.time_s == b.time_s and a.topic == b.topic and np.array_equal(a.rows, b.rows)
    assert not np.array_equal(PlantedStream(6).topics[0], one.topics[0])


def test_questions_have_one_telling_word_and_come_in_time(hour):
    questions = hour.questions(400)
    assert [q.time_s for q in questions] == sorted(q.time_s for q in questions)
    places, after_s = set(), []
    for question in questions:
        assert question.rows.shape == (6, DIM) and question.rows.dtype == np.float32
        likeness = question.rows @ hour.topics[question.topic]
        place = int(likeness.argmax())
        places.add(place)
        assert likeness[place] > 0.7 and np.delete(likeness, place).max() < 0.7
        shown = [s for s in hour.segments if s.topic == question.topic]
        gaps_s = [question.time_s - s.to_s for s in shown if s.to_s <= question.time_s]
        assert any(ASKED_AFTER_S[0] <= gap_s <= ASKED_AFTER_S[1] for gap_s in gaps_s)
        began_s = [question.time_s - s.from_s for s in shown if s.from_s <= question.time_s]
        now = len(began_s) > len(gaps_s)
        assert question.age_s == (0.0 if now else pytest.approx(min(gaps_s)))
        after_s.append(question.age_s)
    lengths = np.linalg.norm([question.rows for question in questions], axis=2)
    assert (lengths**2).mean(axis=0) == pytest.approx(np.full(6, 1.25), rel=0.02)
    assert places == set(range(6)) and questions[-1].time_s <= hour.length_s
    assert min(after_s) < 300 and max(after_s) > 40 * 60


def test_evidence_shows_its_topic_and_lies_where_it_showed(hour):
    time_s, embeds = next(islice(hour.frames(), 10, None))
    topic = hour.topic_at(time_s)
    elsewhere = next(s for s in hour.segments if s.topic != topic)
    assert all(hour.shows(time_s, embeds * scale, topic) for scale in (0.1, 1, 9))
    assert hour.shows(time_s, embeds.astype(np.float16), topic)
    assert not hour.shows(time_s, embeds, elsewhere.topic)
    assert not hour.shows(elsewhere.from_s, embeds, topic)
    noise = np.random.default_rng(0).normal(size=embeds.shape).astype(np.float32)
    assert not hour.shows(time_s, noise, topic) and not hour.shows(time_s, embeds * 0, topic)


def test_features_of_a_frame(hour):
    time_s, embeds = next(hour.frames())
    features = features_from_embeds(time_s, embeds)
    assert features.time_s == time_s and features.is_fresh and not features.is_still
    assert np.linalg.norm(features.summary) == pytest.approx(1.0, abs=1e-5)
    assert features.summary @ embeds.mean(axis=0) == pytest.approx(
        np.linalg.norm(embeds.mean(axis=0)), abs=1e-5
    )


def test_a_stream_too_short_for_a_question_is_refused():
    with pytest.raises(ValueError, match="expected 60 or more"):
        PlantedStream(0, length_s=59.0)
    assert len(PlantedStream(0, length_s=60.0).questions(3)) == 3
