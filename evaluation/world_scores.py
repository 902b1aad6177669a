"""What is counted on a clip of the rendered world: events, speech, sentences, answers.

The rule for events is that of `event_scores`: a pair has the same type and lies at most one frame
apart; the nearest pairs match first, each event once. Frame 0, where everybody speaks, is left out.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from .event_scores import nearest_pairs
from .reference_scores import Ratio, Tally, tally_of
from .world import EVENT_TYPES, Clip, WorldEvent, WorldQuestion, read_sentence
from .world.questions import KINDS
from .world.topics import UNKNOWN

TOLERANCE_FRAMES = 1
# Of matched pairs of one type: the attribute that must agree, where the truth has one.
ATTRIBUTES_SCORED = {
    "pan_direction": ("pan", "direction"),
    "zoom_direction": ("zoom", "direction"),
    "start_direction": ("start", "direction"),
    "enter_side": ("enter", "side"),
    "leave_side": ("leave", "side"),
    "enter_size": ("enter", "size"),
    "mover_colour": (None, "colour"),
}


@dataclass(frozen=True, slots=True)
class ClipPrediction:
    """What a system said of one clip.

    Attributes:
        spoken: frames at which it spoke.
        events: that it told; sentences are not read.
    """

    spoken: tuple[int, ...]
    events: tuple[WorldEvent, ...]


def events_in(frame: int, text: str) -> tuple[WorldEvent, ...]:
    """Events that a text tells, read by the fixed grammar; other sentences are passed over."""
    found = []
    for sentence in sentences_in(text):
        read = read_sentence(sentence)
        if read and read.kind in EVENT_TYPES:
            said = (read.colour, read.side, read.direction, read.size)
            found.append(WorldEvent(frame, read.kind, *said, sentence=sentence))
    return tuple(found)


def sentences_in(text: str) -> list[str]:
    """The sentences of a text, spaced as the world spaces them."""
    plain = re.sub(r" ([.,:?])", r"\1", " ".join(text.split()))
    return [part.strip() for part in re.findall(r"[^.?]+[.?]?", plain) if part.strip()]


def score_events(clips: Sequence[Clip], predictions: Sequence[ClipPrediction]) -> Tally:
    """Speech and events of every clip.

    Figures: speak_f1, false_speech_per_100; event_f1_micro, event_f1_macro is not one (an F1 of
    types is no ratio of sums); event_f1, event_precision, event_recall of each type; the attributes
    of ATTRIBUTES_SCORED among matched events.

    Args:
        clips: truth.
        predictions: one for each.
    """
    rows = [_event_counts(c, p) for c, p in zip(clips, predictions, strict=True)]
    speech = {"spoken_true": 1.0, "spoken": 1.0}
    false = {"spoken": 1.0, "spoken_found": -1.0}
    ratios = {
        "speak_f1": Ratio({"spoken_found": 2.0}, speech),
        "false_speech_per_100": Ratio(false, {"frames": 1.0}, 100.0, "per 100 frames"),
        "event_f1_micro": _f1(EVENT_TYPES),
    }
    for kind in EVENT_TYPES:
        ratios[f"event_f1_{kind}"] = _f1((kind,))
        ratios[f"event_precision_{kind}"] = Ratio({f"found_{kind}": 1}, {f"told_{kind}": 1})
        ratios[f"event_recall_{kind}"] = Ratio({f"found_{kind}": 1}, {f"true_{kind}": 1})
    for name in ATTRIBUTES_SCORED:
        ratios[name] = Ratio({f"{name}_right": 1.0}, {f"{name}_asked": 1.0})
    return tally_of(rows, ratios)


def _f1(kinds: Iterable[str]) -> Ratio:
    above = {f"found_{kind}": 2.0 for kind in kinds}
    below = {f"{what}_{kind}": 1.0 for kind in kinds for what in ("true", "told")}
    return Ratio(above, below)


def _event_counts(clip: Clip, said: ClipPrediction) -> Mapping[str, float]:
    counts = Counter[str]()
    spoken_true = [f for f, told in enumerate(clip.narration) if told and f > 0]
    spoken = sorted({frame for frame in said.spoken if frame > 0})
    pairs = nearest_pairs(spoken, spoken_true, TOLERANCE_FRAMES)
    counts["frames"] = len(clip.narration) - 1
    counts["spoken"], counts["spoken_true"] = len(spoken), len(spoken_true)
    counts["spoken_found"] = len(pairs)
    for kind in EVENT_TYPES:
        true = [event for event in clip.events if event.kind == kind]
        told = [event for event in said.events if event.kind == kind and event.frame > 0]
        found = nearest_pairs([e.frame for e in told], [e.frame for e in true], TOLERANCE_FRAMES)
        counts[f"true_{kind}"], counts[f"told_{kind}"] = len(true), len(told)
        counts[f"found_{kind}"] = len(found)
        for i, j in found:
            counts.update(_attribute_counts(told[i], true[j]))
    return counts


def _attribute_counts(told: WorldEvent, true: WorldEvent) -> Counter[str]:
    counts = Counter[str]()
    for name, (kind, attribute) in ATTRIBUTES_SCORED.items():
        want = getattr(true, attribute)
        if want is not None and kind in (None, true.kind):
            counts[f"{name}_asked"] += 1
            counts[f"{name}_right"] += getattr(told, attribute) == want
    return counts


def score_sentences(clips: Sequence[Clip], said: Sequence[Mapping[int, str]]) -> Tally:
    """Texts at true key frames, frame 0 included.

    Figures: sentence_exact, the share of frames where something is to be told at which the text
    has the very sentences, in any order; sentence_exact_events, frames with an event alone.

    Args:
        clips: truth.
        said: of each clip, the text by frame; a frame without one is silent.
    """
    rows: list[Mapping[str, float]] = []
    for clip, texts in zip(clips, said, strict=True):
        counts = Counter[str]()
        for frame, told in enumerate(clip.narration):
            if told:
                is_exact = sorted(sentences_in(texts.get(frame, ""))) == sorted(told)
                happened = any(event.frame == frame for event in clip.events)
                counts["frames"] += 1
                counts["exact"] += is_exact
                counts["event_frames"] += happened
                counts["event_exact"] += happened and is_exact
        rows.append(counts)
    return tally_of(
        rows,
        {
            "sentence_exact": Ratio({"exact": 1.0}, {"frames": 1.0}),
            "sentence_exact_events": Ratio({"event_exact": 1.0}, {"event_frames": 1.0}),
        },
    )


def score_questions(
    questions: Sequence[Sequence[WorldQuestion]], answers: Sequence[Sequence[str]]
) -> Tally:
    """Answers to the questions about every clip.

    Figures: questions (all), questions_state, _recent, _long, _seen, _unseen,
    questions_unseen_minus_seen, questions_answerable; abstention_precision, abstention_recall;
    questions_topic_… of each topic.

    Args:
        questions: of each clip.
        answers: as many of each.
    """
    rows = [_answer_counts(q, a) for q, a in zip(questions, answers, strict=True)]
    seen, unseen = _share("seen"), _share("unseen")
    ratios = {"questions": _share("all")}
    ratios |= {f"questions_{name}": _share(name) for name in (*KINDS, "answerable")}
    ratios |= {"questions_seen": seen, "questions_unseen": unseen}
    ratios["questions_unseen_minus_seen"] = Ratio(unseen.above, unseen.below, less=seen)
    ratios["abstention_precision"] = Ratio({"abstained_right": 1.0}, {"abstained": 1.0})
    ratios["abstention_recall"] = Ratio({"abstained_right": 1.0}, {"unanswerable": 1.0})
    for topic in sorted({question.topic for asked in questions for question in asked}):
        ratios[f"questions_topic_{topic}"] = _share(f"topic_{topic}")
    return tally_of(rows, ratios)


def _share(name: str) -> Ratio:
    return Ratio({f"{name}_right": 1.0}, {f"{name}_asked": 1.0})


def _answer_counts(
    questions: Sequence[WorldQuestion], answers: Sequence[str]
) -> Mapping[str, float]:
    counts = Counter[str]()
    for question, answer in zip(questions, answers, strict=True):
        is_right = same_answer(answer, question.answer)
        abstains = same_answer(answer, UNKNOWN)
        groups = ["all", question.kind, question.phrasing, f"topic_{question.topic}"]
        groups += ["answerable"] * question.is_answerable
        for group in groups:
            counts[f"{group}_asked"] += 1
            counts[f"{group}_right"] += is_right
        counts["abstained"] += abstains
        counts["unanswerable"] += not question.is_answerable
        counts["abstained_right"] += abstains and not question.is_answerable
    return counts


def same_answer(one: str, two: str) -> bool:
    """Whether two answers differ in spaces, capitals and their last stop at most."""
    plain = (re.sub(r"[^a-z]+", " ", text.lower()).strip() for text in (one, two))
    return next(plain) == next(plain)
