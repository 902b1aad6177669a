"""Which of several proven plans is taken: the fastest, and of those as fast the smallest.

Pure: measured times in, a choice and its reason out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median, quantiles
from typing import Any

ANSWER_TOKENS = 24
PROMPT_POSITIONS = 64
"""Of one answer: positions that it reads, and tokens that it says, about as in the proof."""
LEAST_NOISE = 0.02
"""Two plans this near are one, however quiet the rounds were: another day moves them as much."""
SAME_SIZE = 0.001
"""Share of the bytes that names and notes in a graph make up: no reason to take a plan."""
FORMULA = (
    "busy_ms = frames_per_s * frame_ms "
    f"+ tokens_per_s / {ANSWER_TOKENS} * (prompt_ms + {ANSWER_TOKENS} * token_ms)"
)


@dataclass(frozen=True, slots=True)
class Workload:
    """What the bundle is to do in each second of the stream.

    Attributes:
        frames_per_s: that are encoded.
        tokens_per_s: that are said; for ANSWER_TOKENS of them PROMPT_POSITIONS are read.
    """

    frames_per_s: float
    tokens_per_s: float

    def busy_ms(self, frame_ms: float, prompt_ms: float, token_ms: float) -> float:
        """Milliseconds of work for a second of the stream; the formula that plans are compared by.

        Args:
            frame_ms: of one frame, vision and connector.
            prompt_ms: of reading PROMPT_POSITIONS.
            token_ms: of one token.
        """
        answers_per_s = self.tokens_per_s / ANSWER_TOKENS
        answer_ms = prompt_ms + ANSWER_TOKENS * token_ms
        return self.frames_per_s * frame_ms + answers_per_s * answer_ms


@dataclass(frozen=True, slots=True)
class Part:
    """One way of keeping the parts that see, or the one that speaks.

    Attributes:
        word: as `--vision` or `--llm` takes it.
        why_not: why it is no candidate; empty for one that passed its proof.
        n_bytes: of its files.
        ms: name of a figure → its median in each round.
        likeness: to full precision, at most 1: agreement of tokens, or cosine of what is seen.
    """

    word: str
    why_not: str = ""
    n_bytes: int = 0
    ms: Mapping[str, tuple[float, ...]] | None = None
    likeness: float = 1.0


@dataclass(frozen=True, slots=True)
class PlanRow:
    """A plan: one way of seeing with one of speaking.

    Attributes:
        vision, llm: the words of both.
        why_not: why it is no candidate.
        n_bytes: of all its graphs.
        busy_ms: of each round, by the formula; empty where it is no candidate.
        frame_ms, prompt_ms, token_ms: medians over the rounds.
        likeness: of both parts to full precision, multiplied.
    """

    vision: str
    llm: str
    why_not: str
    n_bytes: int
    busy_ms: tuple[float, ...] = ()
    frame_ms: float = 0.0
    prompt_ms: float = 0.0
    token_ms: float = 0.0
    likeness: float = 1.0

    @property
    def passed(self) -> bool:
        """It passed its proof and was measured."""
        return not self.why_not

    def as_json(self) -> dict[str, Any]:
        """One candidate in `search.json`."""
        told: dict[str, Any] = {"vision": self.vision, "llm": self.llm, "passed": self.passed}
        if not self.passed:
            return {**told, "why_not": self.why_not}
        return {
            **told,
            "busy_ms": round(median(self.busy_ms), 4),
            "busy_ms_rounds": [round(one, 4) for one in self.busy_ms],
            "frame_ms": round(self.frame_ms, 4),
            "prompt_ms": round(self.prompt_ms, 4),
            "tokens_per_s": round(1e3 / self.token_ms, 2),
            "likeness": round(self.likeness, 5),
            "bytes": self.n_bytes,
        }


@dataclass(frozen=True, slots=True)
class Choice:
    """Which plan is taken.

    Attributes:
        chosen: the smallest of those that are as fast as the fastest; of several of one size the
            one that is nearest to full precision.
        fastest: by the median over the rounds.
        tied: those within the noise of the fastest, itself among them.
    """

    chosen: PlanRow
    fastest: PlanRow
    tied: tuple[PlanRow, ...]

    @property
    def because(self) -> str:
        """Why, in one sentence."""
        chosen, fastest = self.chosen, self.fastest
        told = f"{_words(chosen)} needs {median(chosen.busy_ms):.1f} ms a second of the stream"
        if chosen is fastest and len(self.tied) == 1:
            return f"{told}, the least of those that passed"
        if chosen is fastest:
            return f"{told}, the least, and is the smallest of {len(self.tied)} that are as fast"
        return (
            f"{told}, within the noise of the fastest ({_words(fastest)}, "
            f"{median(fastest.busy_ms):.1f} ms), and is smaller: {chosen.n_bytes / 1e6:.1f} "
            f"instead of {fastest.n_bytes / 1e6:.1f} MB"
        )


def plan_rows(
    seen: Sequence[Part], spoken: Sequence[Part], workload: Workload
) -> tuple[PlanRow, ...]:
    """Every pair, those that passed first and the fastest of them first.

    Parts were measured in the same rounds: round i of one belongs to round i of the other.
    """
    rows = [_row(see, speak, workload) for see in seen for speak in spoken]
    return tuple(sorted(rows, key=lambda row: median(row.busy_ms) if row.passed else float("inf")))


def _row(see: Part, speak: Part, workload: Workload) -> PlanRow:
    why = "; ".join(why for why in (see.why_not, speak.why_not) if why)
    n_bytes = see.n_bytes + speak.n_bytes
    if why:
        return PlanRow(see.word, speak.word, why, n_bytes)
    assert see.ms is not None and speak.ms is not None
    rounds = zip(see.ms["frame"], speak.ms["prompt"], speak.ms["token"], strict=True)
    return PlanRow(
        see.word,
        speak.word,
        "",
        n_bytes,
        tuple(workload.busy_ms(*one) for one in rounds),
        median(see.ms["frame"]),
        median(speak.ms["prompt"]),
        median(speak.ms["token"]),
        see.likeness * speak.likeness,
    )


def chosen_plan(rows: Sequence[PlanRow]) -> Choice | None:
    """The choice; None where no plan passed.

    A plan is within the noise of the fastest where its time by that of the fastest, round by round,
    has a median of at most 1 + noise; noise is half the spread of the middle half of these ratios,
    and at least LEAST_NOISE.
    """
    candidates = [row for row in rows if row.passed]
    if not candidates:
        return None
    fastest = min(candidates, key=lambda row: median(row.busy_ms))
    tied = tuple(row for row in candidates if row is fastest or _is_tied(row, fastest))
    least = min(row.n_bytes for row in tied)
    small = [row for row in tied if row.n_bytes <= (1 + SAME_SIZE) * least]
    chosen = min(small, key=lambda row: (-row.likeness, row.n_bytes, median(row.busy_ms)))
    return Choice(chosen, fastest, tied)


def _is_tied(row: PlanRow, fastest: PlanRow) -> bool:
    ratios = [one / other for one, other in zip(row.busy_ms, fastest.busy_ms, strict=True)]
    low, _, high = quantiles(ratios, n=4, method="inclusive") if len(ratios) > 1 else (0, 0, 0)
    return median(ratios) <= 1 + max(LEAST_NOISE, (high - low) / 2)


def _words(row: PlanRow) -> str:
    return f"--vision {row.vision} --llm {row.llm}"
