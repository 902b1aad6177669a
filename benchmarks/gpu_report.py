"""Table, figures and bounds out of what the GPU benchmark has measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, median
from typing import Any

from figures import Figure
from gpu_measure import APPEND, DECODE, PREFILL, QUESTION, WATCH, Plan
from gpu_shapes import Shape
from gpu_state import RungState

BASELINE = "torch"
WATCH_MUST, MINUTES_MUST, DECODE_MUST = 100.0, 0.95, 2.0
LARGE = "videollm_online_8b"


@dataclass(frozen=True, slots=True)
class Speeds:
    """What a peer does on a shape; None where it was not measured.

    Attributes:
        watch, first, last: frames a second: of the watch path, and of the stream with every frame
            in the cache in its first and last minute.
        prefill, append, decode: tokens a second.
        first_token_ms: from a question to the first token of its answer.
        peak_bytes: weights, cache and working memory.
        watts: mean of the board while it was measured.
    """

    watch: float | None
    first: float | None
    last: float | None
    prefill: float | None
    append: float | None
    decode: float | None
    first_token_ms: float | None
    peak_bytes: int
    watts: float | None

    @property
    def ratio(self) -> float | None:
        """The last minute's speed as a share of the first one's."""
        return None if self.first is None or self.last is None else self.last / self.first


def speeds(shape: Shape, state: RungState, plan: Plan) -> Speeds:
    """Medians of all samples; of the stream, frames by time over the last half of a minute."""
    question_s = _median(state, QUESTION)
    return Speeds(
        watch=_rate(state, WATCH, 1),
        first=_minute(state, plan.minutes[0]),
        last=_minute(state, plan.minutes[1]),
        prefill=_rate(state, PREFILL, shape.prefill_tokens),
        append=_rate(state, APPEND, shape.frame_tokens + 1),
        decode=_rate(state, DECODE, 1),
        first_token_ms=None if question_s is None else 1e3 * question_s,
        peak_bytes=state.peak_bytes,
        watts=fmean(state.watts) if state.watts else None,
    )


def rows(
    shapes: Sequence[Shape], states: Mapping[str, Mapping[str, RungState]], plan: Plan
) -> list[dict[str, Any]]:
    """A row for each peer that ran."""
    first, last = plan.minutes
    found = []
    for shape in shapes:
        for rung, state in states.get(shape.name, {}).items():
            if not state.rounds:
                continue
            told = speeds(shape, state, plan)
            found.append({
                "shape": shape.title, "runs": rung, "watch frames/s": told.watch,
                f"minute {first} frames/s": told.first, f"minute {last}": told.last,
                f"{last}/{first}": told.ratio, "prefill tok/s": told.prefill,
                "append tok/s": told.append, "decode tok/s": told.decode,
                "first token ms": told.first_token_ms, "peak MB": told.peak_bytes / 1e6,
                "W": told.watts, "cosine": state.cosine,
            })  # fmt: skip
    return found


def figures(
    shapes: Sequence[Shape],
    states: Mapping[str, Mapping[str, RungState]],
    plan: Plan,
    *,
    is_bound: bool,
) -> list[Figure]:
    """All numbers, and the goals of each shape's fastest peer of ours.

    Args:
        is_bound: the goals count: real sizes on a GPU. Otherwise they are only told.
    """
    found: list[Figure] = []
    for shape in shapes:
        held = {rung: one for rung, one in states.get(shape.name, {}).items() if one.rounds}
        for rung, state in held.items():
            found += _of_peer(f"{shape.name}_{rung}", speeds(shape, state, plan), state, plan)
        found += _goals(shape, held, plan, is_bound)
    return found


def _of_peer(name: str, told: Speeds, state: RungState, plan: Plan) -> list[Figure]:
    count = {key: sum(map(len, taken)) for key, taken in state.rounds.items()}
    frames = int(state.stretches[0][0]) if state.stretches else 0
    first, last = plan.minutes
    measured = (
        ("watch_frames_per_s", told.watch, "frames/s", count.get(WATCH)),
        (f"minute_{first}_frames_per_s", told.first, "frames/s", frames),
        (f"minute_{last}_frames_per_s", told.last, "frames/s", frames),
        ("prefill_tokens_per_s", told.prefill, "tokens/s", count.get(PREFILL)),
        ("append_tokens_per_s", told.append, "tokens/s", count.get(APPEND)),
        ("decode_tokens_per_s", told.decode, "tokens/s", count.get(DECODE)),
        ("first_token_ms", told.first_token_ms, "ms", count.get(QUESTION)),
        ("peak_bytes", told.peak_bytes, "bytes", 1),
        ("watts", told.watts, "W", len(state.watts)),
    )
    return [
        Figure(f"{name}_{what}", float(value), unit, n or 0)
        for what, value, unit, n in measured
        if value is not None
    ]


def _goals(shape: Shape, held: Mapping[str, RungState], plan: Plan, is_bound: bool) -> list[Figure]:
    told = {rung: speeds(shape, one, plan) for rung, one in held.items()}
    ours = {rung: one for rung, one in told.items() if rung != BASELINE}
    found: list[Figure] = []

    def goal(what: str, value: float | None, must: float, unit: str = "1") -> None:
        if value is not None:
            name = f"{shape.name}_goal_{what}"
            found.append(Figure(name, value, unit, 1, at_least=must if is_bound else None))

    if shape.name == LARGE:
        best = max((one.watch for one in ours.values() if one.watch), default=None)
        goal("watch_frames_per_s", best, WATCH_MUST, "frames/s")
    # The peer that speaks fastest is the one that a user would take.
    speaking = [one for one in ours.values() if one.decode is not None]
    if speaking:
        chosen = max(speaking, key=lambda one: one.decode or 0.0)
        goal("last_over_first_minute", chosen.ratio, MINUTES_MUST)
        base = told[BASELINE].decode if BASELINE in told else None
        goal("decode_against_pytorch", _over(chosen.decode, base), DECODE_MUST)
    return found


def _over(value: float | None, base: float | None) -> float | None:
    return None if value is None or base is None else value / base


def _median(state: RungState, name: str) -> float | None:
    every = [one for taken in state.rounds.get(name, []) for one in taken]
    return median(every) if every else None


def _rate(state: RungState, name: str, count: int) -> float | None:
    taken_s = _median(state, name)
    return None if taken_s is None else count / taken_s


def _minute(state: RungState, minute: int) -> float | None:
    """Frames a second in the half minute of the stream that ends with this minute."""
    if len(state.stretches) < 2 * minute:
        return None
    frames, taken_s, _ = state.stretches[2 * minute - 1]
    return frames / taken_s
