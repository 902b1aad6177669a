"""What a gate found of what it was asked for on rendered clips: F1, and two queries compared."""

from __future__ import annotations

import numpy as np
from gate_world import SeenClips
from numpy.typing import NDArray

from edgestream.evaluation.event_scores import nearest_pairs
from edgestream.training.gate_thresholds import best_above, openings

TOLERANCE_FRAMES, RATIO, MUTED_FRAMES = 1, 0.8, 2
Flags = NDArray[np.bool_]
Scores = NDArray[np.float32]


def fired(scores: Scores, above: float) -> Flags:
    """(N, 14, T): frames at which it speaks; as `LearnedPhases` of a gate without events."""
    flat = scores.reshape(-1, scores.shape[-1]).copy()
    flat[:, :MUTED_FRAMES] = 0.0
    return openings(flat, above, RATIO).reshape(scores.shape)


def event_f1(told: Flags, clips: SeenClips) -> float:
    """Micro F1 over all clips and queries, within a frame; (N, 14, T) against the truth."""
    true = clips.events.transpose(0, 2, 1).copy()
    true[..., 0] = False
    found = 0
    rows = zip(told.reshape(-1, told.shape[-1]), true.reshape(-1, true.shape[-1]), strict=True)
    for ours, theirs in rows:
        if ours.any() and theirs.any():
            left, right = (np.flatnonzero(one).tolist() for one in (ours, theirs))
            found += len(nearest_pairs(left, right, TOLERANCE_FRAMES))
    return 2.0 * found / max(1, int(true.sum()) + int(told.sum()))


def threshold_of(scores: Scores, clips: SeenClips) -> float:
    """The threshold of the best F1 on these clips, one for all queries."""
    return best_above(lambda above: event_f1(fired(scores, above), clips))


def asked_apart(told: Flags, clips: SeenClips, seed: int) -> tuple[float, int]:
    """Two queries on the same clip: (share where the right one fires and the other does not, n).

    Of each clip one kind that begins in it, and one that does not: the first must fire within a
    frame of one of its events, the second nowhere in the clip.
    """
    rng = np.random.default_rng([seed, 3])
    right = []
    for clip, truth in enumerate(clips.events):
        happens, never = np.flatnonzero(truth[MUTED_FRAMES:].any(0)), np.flatnonzero(~truth.any(0))
        if not len(happens) or not len(never):
            continue
        one, other = int(rng.choice(happens)), int(rng.choice(never))
        events = np.flatnonzero(truth[:, one])
        near = [
            abs(events - at).min() <= TOLERANCE_FRAMES for at in np.flatnonzero(told[clip, one])
        ]
        right.append(any(near) and not told[clip, other].any())
    return float(np.mean(right)), len(right)


def fires_at(told: Flags, clips: SeenClips) -> tuple[float, float]:
    """(share of events at which their own query fires, share at which another one does)."""
    own, other = [], []
    frames = told.shape[-1]
    for clip, frame, kind in zip(*np.nonzero(clips.events), strict=True):
        if frame < MUTED_FRAMES:
            continue
        near = slice(frame - TOLERANCE_FRAMES, min(frames, frame + TOLERANCE_FRAMES + 1))
        own.append(told[clip, kind, near].any())
        others = ~clips.events[clip, near].any(0)
        other.extend(told[clip, others][:, near].any(1))
    return float(np.mean(own)), float(np.mean(other))
