"""Scores of a device that watches freely: when it spoke, and whether it said what is written.

Everything is counted dialogue by dialogue, so that each figure has an interval.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from .dialogue_scores import score_triggers
from .event_scores import nearest_pairs
from .reference_scores import Ratio, Tally, tally_of

TOLERANCES_S = (0.5, 1.0, 5.0)
"""A frame or two, what a person calls at once, and StreamMind's (arXiv 2503.06220) middle one."""
WIDEST_S = TOLERANCES_S[-1]


@dataclass(frozen=True, slots=True)
class FreeRun:
    """One dialogue, as it is written and as it was watched.

    Attributes:
        true: (seconds, text) of what is to be said unasked.
        spoken: (seconds, text) of what was said unasked.
        answers: (text that is to be said, text that was said) of each question.
        watched_s: seconds of video.
    """

    true: Sequence[tuple[float, str]]
    spoken: Sequence[tuple[float, str]]
    answers: Sequence[tuple[str, str]] = field(default_factory=tuple)
    watched_s: float = 0.0


def free_run_tally(runs: Sequence[FreeRun]) -> Tally:
    """The figures of some dialogues.

    `trigger_f1_1000ms`, `trigger_precision_…`, `trigger_recall_…` within each of TOLERANCES_S;
    `trigger_off_s`, how far apart the pairs within WIDEST_S are; `false_speech_per_minute`, what
    was said farther from anything; `sentence_exact`, the share of pairs within WIDEST_S whose text
    is as written but for case and full stop; `answer_exact`, the same of answers.

    Raises:
        ValueError: there is no dialogue.
    """
    ratios = {
        "trigger_off_s": Ratio({"off_s": 1}, {_found(WIDEST_S): 1}, unit="s"),
        "false_speech_per_minute": Ratio(
            {"spoken": 1, _found(WIDEST_S): -1}, {"watched_s": 1}, scale=60.0, unit="1/min"
        ),
        "sentence_exact": Ratio({"exact": 1}, {_found(WIDEST_S): 1}),
        "answer_exact": Ratio({"answered": 1}, {"asked": 1}),
    }
    triggers: dict[str, Ratio] = {}
    for tolerance_s in TOLERANCES_S:
        found, within = {_found(tolerance_s): 1.0}, f"{round(1000 * tolerance_s)}ms"
        twice = {_found(tolerance_s): 2.0}
        triggers[f"trigger_f1_{within}"] = Ratio(twice, {"spoken": 1, "true": 1})
        triggers[f"trigger_precision_{within}"] = Ratio(found, {"spoken": 1})
        triggers[f"trigger_recall_{within}"] = Ratio(found, {"true": 1})
    return tally_of([_counts(run) for run in runs], {**triggers, **ratios})


def _counts(run: FreeRun) -> Mapping[str, float]:
    spoken, true = sorted(run.spoken), sorted(run.true)
    spoken_s, true_s = [at for at, _ in spoken], [at for at, _ in true]
    counts = {
        _found(at): float(score_triggers(spoken_s, true_s, at).n_found) for at in TOLERANCES_S
    }
    pairs = nearest_pairs(spoken_s, true_s, WIDEST_S)
    return {
        **counts,
        "spoken": float(len(spoken)),
        "true": float(len(true)),
        "off_s": sum(abs(spoken_s[i] - true_s[j]) for i, j in pairs),
        "exact": float(sum(_same(spoken[i][1], true[j][1]) for i, j in pairs)),
        "asked": float(len(run.answers)),
        "answered": float(sum(_same(wanted, said) for wanted, said in run.answers)),
        "watched_s": run.watched_s,
    }


def _found(tolerance_s: float) -> str:
    return f"found within {tolerance_s:g} s"


def _same(one: str, other: str) -> bool:
    def bare(text: str) -> str:
        return " ".join(text.casefold().split()).rstrip(".!")

    return bare(one) == bare(other)
