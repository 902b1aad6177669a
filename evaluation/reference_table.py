"""The table of the reference assistant: what must be reached, beside what is had for nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from .reference_baselines import answers_by_majority
from .reference_runs import Mode, Watched
from .reference_scores import Figure, Tally
from .world import Clip
from .world_scores import (
    ClipPrediction,
    score_events,
    score_questions,
    score_sentences,
    sentences_in,
)

MUST: Mapping[str, float] = {
    "speak_f1": 0.85,
    "event_f1_micro": 0.66,
    "event_f1_cut": 0.95,
    "event_f1_fade_in": 0.95,
    "event_f1_dark": 0.85,
    "event_f1_bright": 0.85,
    "event_f1_pan": 0.82,
    "event_f1_zoom": 0.80,
    "event_f1_enter": 0.75,
    "event_f1_leave": 0.58,
    "event_f1_start": 0.62,
    "event_f1_stop": 0.55,
    "pan_direction": 0.95,
    "enter_side": 0.88,
    "mover_colour": 0.70,
    "sentence_exact": 0.60,
    "live_event_f1": 0.66,
    "questions_true_text": 0.75,
    "questions_own_text": 0.63,
    "questions_unseen_minus_seen": -0.10,
    "abstention_precision": 0.80,
    "abstention_recall": 0.80,
    "questions_long_own_text_minus_last_frames": 0.20,
}
"""At least."""
MUST_NOT: Mapping[str, float] = {"false_speech_per_100": 2.0}
"""At most."""
TYPES_BESIDE = ("fade_out", "shake", "blur", "meet")
"""Event types without a bound of their own."""


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the table.

    Attributes:
        figure: value, count and interval.
        must: bound; None where there is none.
        is_most: the value may be at most that, not at least.
        lowest: bound of the lower end of the interval; None where there is none.
        beside: name of a baseline → its value on the same clips.
    """

    figure: Figure
    must: float | None = None
    is_most: bool = False
    lowest: float | None = None
    beside: Mapping[str, float | None] = field(default_factory=dict)

    @property
    def passed(self) -> bool | None:
        """None where there is no bound, or nothing was measured."""
        value, interval = self.figure.value, self.figure.ci95
        if (self.must is None and self.lowest is None) or value is None:
            return None
        if self.lowest is not None and (interval is None or interval[0] < self.lowest):
            return False
        if self.must is None:
            return True
        return value <= self.must if self.is_most else value >= self.must

    def as_json(self) -> dict[str, Any]:
        """One of the `metrics` of docs/FORMATS.md, section 5."""
        told = {**self.figure.as_json(), "must": self.must, "passed": self.passed}
        if self.is_most:
            told["must_is"] = "at most"
        if self.lowest is not None:
            told["must_lowest"] = self.lowest
        return told | ({"baselines": dict(self.beside)} if self.beside else {})


@dataclass(frozen=True, slots=True, eq=False)
class Tallies:
    """Everything that was counted of one system.

    Attributes:
        gate: events that the gate opened.
        told: speech and events of its sentences.
        sentences: at true key frames.
        questions: by mode.
    """

    gate: Tally
    told: Tally
    sentences: Tally
    questions: Mapping[Mode, Tally]


def tallies_of(clips: Sequence[Clip], watched: Mapping[Mode, Sequence[Watched]]) -> Tallies:
    """Count what was watched in all modes."""
    own = watched["own_text"]
    return Tallies(
        gate=score_events(clips, [one.gate for one in own]),
        told=score_events(clips, [one.told for one in own]),
        sentences=score_sentences(clips, [one.said for one in watched["true_text"]]),
        questions={
            mode: score_questions([clip.questions for clip in clips], [one.answers for one in seen])
            for mode, seen in watched.items()
        },
    )


def table(
    clips: Sequence[Clip],
    tallies: Tallies,
    rule: Sequence[ClipPrediction],
    majority: Mapping[str, str],
) -> tuple[Line, ...]:
    """All lines, in the order of the issue that asks for them.

    Args:
        clips: truth.
        tallies: of the assistant.
        rule: what the hand-written rule says of the clips.
        majority: the most frequent answer of each topic in training.
    """
    asked = [clip.questions for clip in clips]
    guessed = score_questions(asked, [answers_by_majority(one, majority) for one in asked])
    by_rule = {"rule": score_events(clips, rule)}
    by_guess = {"majority": guessed, "last_16_frames": tallies.questions["last_frames"]}
    lines = []
    for shown, name, tally in counted(tallies):
        beside = by_guess if name in tallies.questions["own_text"].ratios else by_rule
        lines.append(_line(tally, name, shown, {} if shown in ALONE else beside))
    own, last = tallies.questions["own_text"], tallies.questions["last_frames"]
    less = own.minus(last, "questions_long")
    return (*lines, Line(_renamed(less, LONG_MINUS_LAST), MUST.get(LONG_MINUS_LAST)))


ALONE = ("speak_f1_of_gate", "sentence_exact", "sentence_exact_events")
"""Lines without a baseline."""
LONG_MINUS_LAST = "questions_long_own_text_minus_last_frames"
"""The last line: what memory adds."""


def counted(tallies: Tallies) -> list[tuple[str, str, Tally]]:
    """(line, figure of the tally, tally) of every line but the last, in the order of the table."""
    gate, told, sentences = tallies.gate, tallies.told, tallies.sentences
    own, true = tallies.questions["own_text"], tallies.questions["true_text"]
    found = [(name, name, told) for name in ("speak_f1", "false_speech_per_100")]
    found.append(("speak_f1_of_gate", "speak_f1", gate))
    kinds = [name for name in MUST if name.startswith("event_f1_")]
    kinds += [f"event_f1_{kind}" for kind in TYPES_BESIDE]
    found += [(name, name, gate) for name in kinds]
    found += [(name, name, gate) for name in ("pan_direction", "enter_side", "mover_colour")]
    found += [(name, name, sentences) for name in ("sentence_exact", "sentence_exact_events")]
    found.append(("live_event_f1", "event_f1_micro", told))
    for name in ("questions", "questions_state", "questions_recent", "questions_long"):
        found += [(f"{name}_true_text", name, true), (f"{name}_own_text", name, own)]
    for name in ("questions_unseen_minus_seen", "abstention_precision", "abstention_recall"):
        found.append((name, name, own))
    return found


def _line(tally: Tally, name: str, shown: str, beside: Mapping[str, Tally]) -> Line:
    is_most = shown in MUST_NOT
    values = {key: other.figure(name).value for key, other in beside.items()}
    must = MUST_NOT.get(shown, MUST.get(shown))
    return Line(_renamed(tally.figure(name), shown), must, is_most, beside=values)


def _renamed(figure: Figure, name: str) -> Figure:
    return Figure(name, figure.value, figure.unit, figure.n, figure.ci95)


MICRO = ("speak_f1", "event_f1_micro")
LEAST_DIFFERENCE, LEAST_BOUND = -0.01, -0.02
"""Of a quantized bundle from full precision: on micro lines, and of the interval of each line."""


def differences(ours: Tallies, full: Tallies) -> tuple[Line, ...]:
    """The quantized bundle minus full precision, on the same clips."""
    pairs = [
        ("speak_f1", ours.told, full.told),
        ("event_f1_micro", ours.gate, full.gate),
        ("sentence_exact", ours.sentences, full.sentences),
        *(
            (f"questions:{mode}", ours.questions[mode], full.questions[mode])
            for mode in ("own_text", "true_text")
        ),
    ]
    found = []
    for name, one, two in pairs:
        figure = one.minus(two, name.partition(":")[0])
        shown = f"{name.replace(':', '_')}_minus_full_precision"
        must = LEAST_DIFFERENCE if name in MICRO else None
        found.append(Line(_renamed(figure, shown), must, lowest=LEAST_BOUND))
    return tuple(found)


def truth_and_words(clip: Clip, watched: Watched) -> list[tuple[int, str, str]]:
    """(frame, what is true, what was said) wherever there is one of both, for a picture."""
    frames = {f for f, told in enumerate(clip.narration) if told} | set(watched.said)
    return [
        (
            frame,
            " ".join(clip.narration[frame]),
            " ".join(sentences_in(watched.said.get(frame, ""))),
        )
        for frame in sorted(frames)
    ]
