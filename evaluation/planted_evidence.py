"""A stream whose truth is known: topics that show for some seconds, and questions about them later.

The generator is fixed, so that figures of different days can be compared. A topic is a random unit
vector in R^128. A segment of 3 to 40 s shows one topic; one segment in five returns to an earlier
one. Frames come at 4 a second, 10 tokens each: the topic plus noise of a variance of 0.25 / 128 in
each dimension, which makes a noise of half the topic's length. A question has 6 tokens: one is its
topic's vector plus the same noise, at a random place; the others are random unit vectors plus the
same noise: words that have nothing to do with anything seen. It comes 10 s to 50 min after a
segment of its topic ended.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..runtime.motion_value import Motion
from ..runtime.values import Features, Float32

DIM, FRAME_TOKENS, QUESTION_TOKENS, FPS = 128, 10, 6, 4
SEGMENT_S = (3.0, 40.0)
RETURNS = 0.2
NOISE_VARIANCE = 0.25 / DIM
ASKED_AFTER_S = (10.0, 50 * 60.0)
MOTION = Motion(np.zeros((6, 7, 7), np.float32))
SHOWS = 0.5
"""Cosine of embeds and topic from which on they show it: a chance one is 0.09, the mean of four
topics in equal parts 0.5."""


@dataclass(frozen=True, slots=True)
class Segment:
    """A stretch of the stream.

    Attributes:
        from_s, to_s: its first moment, and the first that is over, seconds.
        topic: its number.
    """

    from_s: float
    to_s: float
    topic: int


@dataclass(frozen=True, slots=True, eq=False)
class PlantedQuestion:
    """A question about a topic that was seen.

    Attributes:
        time_s: it comes, stream time in seconds.
        topic: that it is about.
        rows: (6, 128) float32.
        age_s: since the topic was last seen; 0 while it shows.
    """

    time_s: float
    topic: int
    rows: Float32
    age_s: float


class PlantedStream:
    """One stream and its truth; the same for the same arguments, in whatever order it is asked.

    Args:
        seed: of everything random.
        length_s: seconds of stream, at least 60; questions come up to 50 min later where it is
            51 min or longer.
        noise: 2 for noise of twice the length, on frames and on questions.
    """

    def __init__(self, seed: int, *, length_s: float = 3600.0, noise: float = 1.0) -> None:
        if length_s < 60.0:
            raise ValueError(f"got {length_s} s of stream, expected 60 or more")
        rng = np.random.default_rng([seed, 0])
        self._seed, self._sigma = seed, noise * NOISE_VARIANCE**0.5
        self.length_s = length_s
        self.segments = _segments(rng, length_s)
        self._starts_s = [segment.from_s for segment in self.segments]
        n_topics = 1 + max(segment.topic for segment in self.segments)
        self.topics = _unit(rng, n_topics)

    def frames(self) -> Iterator[tuple[float, Float32]]:
        """(time_s, embeds (10, 128) float32) of every frame."""
        for number, segment in enumerate(self.segments):
            rng = np.random.default_rng([self._seed, 1, number])
            first, end = (int(np.ceil(at_s * FPS)) for at_s in (segment.from_s, segment.to_s))
            for index in range(first, end):
                noise = rng.normal(0.0, self._sigma, (FRAME_TOKENS, DIM))
                yield index / FPS, (self.topics[segment.topic] + noise).astype(np.float32)

    def questions(self, count: int) -> tuple[PlantedQuestion, ...]:
        """So many questions, in order of time, each within the stream."""
        rng = np.random.default_rng([self._seed, 2])
        asked = (self._question(rng) for _ in range(count))
        return tuple(sorted(asked, key=lambda question: question.time_s))

    def topic_at(self, time_s: float) -> int:
        """What shows at a time."""
        return self.segments[bisect_right(self._starts_s, time_s) - 1].topic

    def shows(self, time_s: float, embeds: NDArray[np.floating[Any]], topic: int) -> bool:
        """Whether embeds that say they are of this time are evidence of a topic.

        Both must be so: the topic showed at that time, and it can be seen in them (what is left of
        frames that were merged may lie in a segment whose topic it no longer shows).
        """
        mean = np.asarray(embeds, np.float32).mean(axis=0)
        likeness = mean @ self.topics[topic] / max(float(np.linalg.norm(mean)), 1e-9)
        return self.topic_at(time_s) == topic and bool(likeness >= SHOWS)

    def _question(self, rng: np.random.Generator) -> PlantedQuestion:
        longest_s = self.length_s - self.segments[0].to_s
        after_s = rng.uniform(ASKED_AFTER_S[0], min(ASKED_AFTER_S[1], longest_s))
        ended = [segment for segment in self.segments if segment.to_s + after_s <= self.length_s]
        about = ended[int(rng.integers(len(ended)))]
        time_s = about.to_s + after_s
        rows = _unit(rng, QUESTION_TOKENS)
        rows[int(rng.integers(QUESTION_TOKENS))] = self.topics[about.topic]
        rows += rng.normal(0.0, self._sigma, rows.shape)
        seen_s = max(
            segment.to_s
            for segment in self.segments
            if segment.topic == about.topic and segment.from_s <= time_s
        )
        age_s = max(0.0, time_s - seen_s)
        return PlantedQuestion(time_s, about.topic, rows.astype(np.float32), age_s)


def features_from_embeds(time_s: float, embeds: Float32) -> Features:
    """What an encoder would say of such a frame: nothing moves, the summary is its mean token."""
    mean = embeds.mean(axis=0)
    summary = mean / max(float(np.linalg.norm(mean)), 1e-9)
    return Features(time_s, embeds, summary, MOTION, is_still=False, is_fresh=True)


def _segments(rng: np.random.Generator, length_s: float) -> tuple[Segment, ...]:
    """Back to back; the last one ends with the stream."""
    found: list[Segment] = []
    topics = 0
    while not found or found[-1].to_s < length_s:
        from_s = found[-1].to_s if found else 0.0
        to_s = min(length_s, from_s + rng.uniform(*SEGMENT_S))
        # Returning to what shows already would only make the segment longer.
        earlier = sorted({segment.topic for segment in found[:-1]} - {s.topic for s in found[-1:]})
        if earlier and rng.random() < RETURNS:
            topic = earlier[int(rng.integers(len(earlier)))]
        else:
            topic, topics = topics, topics + 1
        found.append(Segment(from_s, to_s, topic))
    return tuple(found)


def _unit(rng: np.random.Generator, count: int) -> Float32:
    rows = rng.normal(size=(count, DIM))
    unit: Float32 = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    return unit
