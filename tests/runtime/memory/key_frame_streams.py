"""Streams of frames with known embeds, for the laws of the key-frame memory."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from hypothesis import strategies as st

from edgestream.runtime.memory.keyframes import KeyFrameMemory
from edgestream.runtime.motion_value import Motion
from edgestream.runtime.values import Event, Features, GateDecision, Response

MOTION = Motion(np.zeros((6, 7, 7), np.float32))
TOKENS, DIM = 3, 8


@dataclass(frozen=True)
class Step:
    """One frame, and what is said after it about a time so many seconds before."""

    passed_s: float = 0.25
    topic: int = 0
    is_fresh: bool = True
    is_cut: bool = False
    said: str = ""
    ago_s: float = 0.0


steps = st.lists(
    st.builds(
        Step,
        passed_s=st.sampled_from([0.0, 0.25, 1.0, 30.0]),
        topic=st.integers(0, 5),
        is_fresh=st.sampled_from([True, True, True, False]),
        is_cut=st.sampled_from([False] * 7 + [True]),
        said=st.sampled_from(["", "", "", "A dog.", "é" * 700]),
        ago_s=st.floats(0.0, 20.0),
    ),
    max_size=60,
)


def embeds_of(topic: int, number: int = 0) -> np.ndarray:
    """(TOKENS, DIM) float32, alike for one topic and different for every number."""
    base = np.random.default_rng(topic).standard_normal((TOKENS, DIM))
    return (base + 0.3 * np.random.default_rng([7, number]).standard_normal(base.shape)).astype(
        np.float32
    )


def features_at(
    time_s: float, *, is_fresh: bool = True, dim: int = DIM, small: np.ndarray | None = None
) -> Features:
    summary = np.zeros(dim, np.float32)
    summary[:1] = 1.0
    tokens = np.zeros((0, 0), np.float32)
    return Features(time_s, tokens, summary, MOTION, False, is_fresh, small=small)


def decision_at(time_s: float, *, is_cut: bool = False) -> GateDecision:
    opened = (Event("e1", "cut", time_s),) if is_cut else ()
    return GateDecision(time_s, opened=opened)


def said(text: str, at_s: float, *, is_final: bool = True, question: str | None = "What?"):
    cause = "event" if question is None else "question"
    return Response("t1", cause, text, is_final, (0.0, at_s), question=question)


def times_of(stream: list[Step]) -> list[float]:
    return np.cumsum([step.passed_s for step in stream]).tolist()


def play(memory: KeyFrameMemory, stream: list[Step], *, start: int = 0, end: int | None = None):
    """Step from one place of the stream to another; yields after each change of the memory."""
    times_s, embeds = times_of(stream), embeds_of(0)
    for number, step in enumerate(stream):
        if step.is_fresh or number == 0:
            embeds = embeds_of(step.topic, number)
        if not start <= number < (len(stream) if end is None else end):
            continue
        time_s = times_s[number]
        picture = np.full((4, 6, 3), number % 256, np.uint8)
        memory.step(
            features_at(time_s, is_fresh=step.is_fresh, small=picture),
            embeds,
            decision_at(time_s, is_cut=step.is_cut),
        )
        yield number
        if step.said:
            memory.remember([said(step.said, max(0.0, time_s - step.ago_s))])
            yield number


def kept(memory: KeyFrameMemory):
    """Everything in a memory, as plain values that can be compared."""
    view = memory.view()
    frames = [
        (
            f.frame_id,
            f.time_s,
            f.embeds.tobytes(),
            f.summary.tobytes(),
            None if f.thumbnail is None else f.thumbnail.tobytes(),
            f.said,
            f.reason,
            f.covers,
        )
        for f in view.key_frames
    ]
    recent = [(time_s, embeds.tobytes()) for time_s, embeds in view.recent.frames]
    return frames, recent, view.dialogue, memory.holders(), memory.frames
