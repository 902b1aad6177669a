"""Live clusters: the seed's rule where it is kept, and what differs from it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given

from edgestream.runtime.memory.clustering import LiveClusters, likeness, unit_rows
from edgestream.runtime.memory.key_frame import KeyFrame

from .key_frame_streams import embeds_of, steps


def key_frame(number, topic, reason="cluster", embeds=None):
    embeds = (embeds_of(topic, number) if embeds is None else embeds).astype(np.float16)
    return KeyFrame(f"k{number}", number / 4, embeds, np.zeros(0, np.float32), reason=reason)


def naive_likeness(mean, embeds):
    return np.mean(
        [m @ e / (np.linalg.norm(m) * np.linalg.norm(e)) for m, e in zip(mean, embeds, strict=True)]
    )


@pytest.mark.medium
@given(steps)
def test_a_frame_joins_the_most_alike_that_has_room_as_the_seed_measures_it(stream):
    live, naive = LiveClusters(3, 0.6, 4), []
    for number, step in enumerate(stream):
        frame = key_frame(number, step.topic)
        rows = frame.embeds.astype(np.float64)
        alike = [naive_likeness(np.mean(c, axis=0), rows) if len(c) < 4 else -2 for c in naive]
        if alike and max(alike) >= 0.6:
            naive.append([*naive.pop(int(np.argmax(alike))), rows])
        else:
            naive.append([rows])
        left = live.take(frame)
        assert (left is not None) == (len(naive) > 3)
        naive = naive[-3:]
        assert [cluster.members for cluster in live.clusters] == [len(c) for c in naive]
        for cluster, members in zip(live.clusters, naive, strict=True):
            np.testing.assert_allclose(cluster.mean, np.mean(members, axis=0), atol=1e-5)


def test_likeness_of_grids_that_cannot_be_compared_is_the_least():
    one, other = unit_rows(np.ones((2, 4))), unit_rows(np.ones((3, 4)))
    assert likeness(one, other) == -1.0
    assert likeness(one, one) == pytest.approx(1.0)
    assert likeness(unit_rows(np.zeros((2, 4))), one) == 0.0


def test_the_frame_nearest_to_the_mean_stands_for_the_cluster():
    live = LiveClusters(3, 0.0, 9)
    plain, leaning = np.array([[1.0, 0.0]]), np.array([[1.0, 1.0]])
    for number, embeds in enumerate([leaning, plain, plain, plain]):
        live.take(key_frame(number, 0, embeds=embeds))
    (frame,) = live.frames()
    assert (frame.covers, frame.embeds.tolist()) == (4, plain.tolist())


def test_a_protected_frame_opens_a_cluster_and_goes_on_standing_for_it():
    live = LiveClusters(3, 0.0, 9)
    for number in range(6):
        live.take(key_frame(number, 0, "cut" if number == 2 else "cluster"))
    assert [cluster.members for cluster in live.clusters] != [6]
    assert "k2" in [frame.frame_id for frame in live.frames()]


def test_a_full_cluster_steps_aside_for_the_next_that_is_alike():
    live = LiveClusters(9, 0.6, 3)
    for number in range(9):
        live.take(key_frame(number, 0))
    assert [cluster.members for cluster in live.clusters] == [3, 3, 3]


def test_the_cluster_joined_longest_ago_leaves():
    live = LiveClusters(2, 0.6, 9)
    topics = [0, 1, 0, 2]
    left = [live.take(key_frame(number, topic)) for number, topic in enumerate(topics)]
    assert [frame and frame.frame_id for frame in left] == [None, None, None, "k1"]
