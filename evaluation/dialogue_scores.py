"""Scores of a streaming dialogue: those of VideoLLM-online, and when a free-running model spoke.

The first four are read off one teacher-forced pass, turn by turn. With s frames and m tokens of a
turn, c of which are right before the first wrong one, and d the frames by which the first word of
a turn comes early (above 0) or late (below 0):

    LM-PPL          exp of the mean cross-entropy over the m tokens
    LM-Correctness  c / m: a prefix, not the share of right tokens
    TimeDiff        |d| / fps, seconds
    Fluency         d = 0: (s + c) / (s + m);  early: (s - d) / (s + m);  late: (s - 1) / (s + m)

Source: VideoLLM-online (arXiv 2406.11816), stream_evaluate at e2c78ec; differs: nothing. Means are
taken over the turns of a dialogue, then over dialogues.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from .event_scores import nearest_pairs

Numbers = NDArray[np.float64]
Flags = NDArray[np.bool_]


def _no_numbers() -> Numbers:
    return np.zeros(0)


def _no_flags() -> Flags:
    return np.zeros(0, np.bool_)


@dataclass(frozen=True, slots=True, eq=False)
class TurnLogs:
    """What a teacher-forced pass said along one turn of the assistant.

    Attributes:
        token_losses: (m,) cross-entropy of each learned token of the text.
        token_right: (m,) bool: the most likely token is the right one.
        silence: (s,) probability of staying silent after each learned frame, the last of which is
            where the assistant speaks.
        silent_wins: (s,) bool: staying silent is the most likely.
        later_silence, later_silent_wins: the same for frames behind the last one, had the assistant
            not spoken: as many as the next turn has, at most s - 1. Only read where nothing
            triggered.
        is_last: no turn follows.
    """

    token_losses: Numbers = field(default_factory=_no_numbers)
    token_right: Flags = field(default_factory=_no_flags)
    silence: Numbers = field(default_factory=_no_numbers)
    silent_wins: Flags = field(default_factory=_no_flags)
    later_silence: Numbers = field(default_factory=_no_numbers)
    later_silent_wins: Flags = field(default_factory=_no_flags)
    is_last: bool = False


@dataclass(frozen=True, slots=True)
class DialogueScores:
    """Means over turns, or over dialogues; None where there was nothing to be scored.

    Attributes:
        ppl: of the language model, at least 1.
        correctness: share of a text before its first wrong token.
        time_diff_s: seconds between the moment of speaking and the true one.
        fluency: share of frames and tokens before the first wrong decision.
        turns: of the assistant.
    """

    ppl: float | None
    correctness: float | None
    time_diff_s: float | None
    fluency: float | None
    turns: int


def score_turns(turns: Sequence[TurnLogs], *, fps: float, threshold: float = 0.0) -> DialogueScores:
    """The scores of one dialogue.

    Args:
        turns: of the assistant, in order.
        fps: frames a second.
        threshold: below this probability of silence the assistant speaks, whatever is most likely;
            0, as the released evaluation has it, asks for the most likely alone.
    """
    told = [turn for turn in turns if len(turn.token_losses)]
    watched = [turn for turn in turns if len(turn.silence)]
    both = [turn for turn in told if len(turn.silence)]
    early = {id(turn): frames_early(turn, threshold) for turn in watched}
    return DialogueScores(
        _mean([float(np.exp(turn.token_losses.mean())) for turn in told]),
        _mean([right_prefix(turn) / len(turn.token_right) for turn in told]),
        _mean([abs(early[id(turn)]) / fps for turn in watched]),
        _mean([fluency(turn, early[id(turn)]) for turn in both]),
        len(turns),
    )


def mean_scores(dialogues: Sequence[DialogueScores]) -> DialogueScores:
    """Means over dialogues, each counted once, however many turns it has."""
    return DialogueScores(
        _mean([one.ppl for one in dialogues]),
        _mean([one.correctness for one in dialogues]),
        _mean([one.time_diff_s for one in dialogues]),
        _mean([one.fluency for one in dialogues]),
        sum(one.turns for one in dialogues),
    )


def right_prefix(turn: TurnLogs) -> int:
    """How many tokens come before the first wrong one."""
    wrong = np.flatnonzero(~turn.token_right)
    return int(wrong[0]) if len(wrong) else len(turn.token_right)


def frames_early(turn: TurnLogs, threshold: float = 0.0) -> int:
    """Frames by which the assistant speaks too early (above 0) or too late (below 0).

    One that never speaks is as late as there are later frames; in the last turn it counts as right,
    as nobody can see how late it would be.
    """
    first = _first_trigger(turn.silence, turn.silent_wins, threshold)
    if first is not None:
        return len(turn.silence) - first - 1
    if turn.is_last:
        return 0
    later = _first_trigger(turn.later_silence, turn.later_silent_wins, threshold)
    return -len(turn.later_silence) if later is None else -(later + 1)


def fluency(turn: TurnLogs, early: int) -> float:
    """Share of the frames and tokens of a turn that come before the first wrong decision."""
    frames, tokens = len(turn.silence), len(turn.token_right)
    if early == 0:
        return (frames + right_prefix(turn)) / (frames + tokens)
    return (frames - early if early > 0 else frames - 1) / (frames + tokens)


@dataclass(frozen=True, slots=True)
class TriggerScore:
    """How well the moments of speaking were found; `+` adds up.

    Attributes:
        n_true: moments at which something was to be said.
        n_spoken: moments at which something was said.
        n_found: pairs of both, each used once.
    """

    n_true: int = 0
    n_spoken: int = 0
    n_found: int = 0

    @property
    def precision(self) -> float:
        """Share of what was said that was due; 1 where nothing was said."""
        return self.n_found / self.n_spoken if self.n_spoken else 1.0

    @property
    def recall(self) -> float:
        """Share of what was due that was said; 1 where nothing was due."""
        return self.n_found / self.n_true if self.n_true else 1.0

    @property
    def f1(self) -> float:
        """Harmonic mean of both."""
        both = self.precision + self.recall
        return 2 * self.precision * self.recall / both if both else 0.0

    def __add__(self, other: TriggerScore) -> TriggerScore:
        return TriggerScore(
            self.n_true + other.n_true,
            self.n_spoken + other.n_spoken,
            self.n_found + other.n_found,
        )


def score_triggers(
    spoken_s: Sequence[float], true_s: Sequence[float], tolerance_s: float
) -> TriggerScore:
    """When a model that runs freely spoke, against when it was to.

    Args:
        spoken_s, true_s: seconds.
        tolerance_s: a pair may be so far apart, both ways; the nearest pairs are taken first, and
            each moment is in one pair at most: who speaks twice about one thing was wrong once.
    """
    pairs = nearest_pairs(sorted(spoken_s), sorted(true_s), tolerance_s)
    return TriggerScore(len(true_s), len(spoken_s), len(pairs))


def _first_trigger(silence: Numbers, silent_wins: Flags, threshold: float) -> int | None:
    found = np.flatnonzero((silence < threshold) | ~silent_wins)
    return int(found[0]) if len(found) else None


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None
