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
    by_rule = {"rule": score_events(clips, rule)}
    lines = [_line(tallies.told, name, beside=by_rule) for name in ("speak_f1",)]
    lines.append(_line(tallies.told, "false_speech_per_100", beside=by_rule))
    lines.append(_line(tallies.gate, "speak_f1", as_name="speak_f1_of_gate"))
    kinds = [name for name in MUST if name.startswith("event_f1_")]
    kinds += [f"event_f1_{kind}" for kind in TYPES_BESIDE]
    lines += [_line(tallies.gate, name, beside=by_rule) for name in kinds]
    for name in ("pan_direction", "enter_side", "mover_colour"):
        lines.append(_line(tallies.gate, name, beside=by_rule))
    lines.append(_line(tallies.sentences, "sentence_exact"))
    lines.append(_line(tallies.sentences, "sentence_exact_events"))
    lines.append(_line(tallies.told, "event_f1_micro", as_name="live_event_f1", beside=by_rule))
    return (*lines, *_question_lines(clips, tallies, majority))


def _question_lines(
    clips: Sequence[Clip], tallies: Tallies, majority: Mapping[str, str]
) -> list[Line]:
    asked = [clip.questions for clip in clips]
    guessed = score_questions(asked, [answers_by_majority(one, majority) for one in asked])
    own, true = tallies.questions["own_text"], tallies.questions["true_text"]
    last = tallies.questions["last_frames"]
    beside = {"majority": guessed, "last_16_frames": last}
    lines = [
        _line(true, "questions", as_name="questions_true_text", beside=beside),
        _line(own, "questions", as_name="questions_own_text", beside=beside),
    ]
    for kind in ("state", "recent", "long"):
        name = f"questions_{kind}"
        lines.append(_line(true, name, as_name=f"{name}_true_text", beside=beside))
        lines.append(_line(own, name, as_name=f"{name}_own_text", beside=beside))
    for name in ("questions_unseen_minus_seen", "abstention_precision", "abstention_recall"):
        lines.append(_line(own, name, beside=beside))
    less = own.minus(last, "questions_long")
    name = "questions_long_own_text_minus_last_frames"
    lines.append(Line(_renamed(less, name), MUST.get(name)))
    return lines


def _line(
    tally: Tally, name: str, as_name: str = "", beside: Mapping[str, Tally] | None = None
) -> Line:
    shown = as_name or name
    is_most = shown in MUST_NOT
    values = {key: other.figure(name).value for key, other in (beside or {}).items()}
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
