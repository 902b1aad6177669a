"""`eval dialogues`: a bundle watches the videos of dialogues freely, and is told how it did."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..evaluation.free_run_scores import FreeRun, free_run_tally
from ..evaluation.reference_table import Line
from ..runtime.bundle import Bundle, open_bundle
from ..runtime.engine_pool import EnginePool, engine_pool
from ..runtime.inbox import Inbox
from ..runtime.outlet import Outlet
from ..runtime.pipeline import run
from ..runtime.records import StampedRecord
from ..training.dialogues import ASSISTANT, USER, Dialogue, Turn
from .assistant import source_from_settings
from .result_line import result_line
from .speech_rules import engine_rules
from .staging import attached_by, staged_on, with_facts_of

if TYPE_CHECKING:
    from .settings_tables import Settings

OnDialogue = Callable[[int, int], None]
"""(dialogues that are done, of how many)."""


class Finals:
    """A sink that keeps what was said. State: the bodies of all `final` records."""

    def __init__(self) -> None:
        self.bodies: list[Any] = []

    def send(self, record: StampedRecord) -> None:
        """Keep it where it is a final."""
        if record.record.type == "final":
            self.bodies.append(record.record.body)

    def close(self) -> None:
        """Nothing is held open."""


@dataclass(frozen=True, slots=True, eq=False)
class DialogueEvaluation:
    """What was measured.

    Attributes:
        bundle: that was measured.
        count: dialogues.
        fps: frames a second that were looked at.
        lines: of the table.
        seconds: it took.
        cpu_share: of one core.
    """

    bundle: Bundle
    count: int
    fps: float
    lines: tuple[Line, ...]
    seconds: float
    cpu_share: float

    def as_json(self) -> dict[str, Any]:
        """The one line of `edgestream.bench/1` (docs/FORMATS.md, section 5)."""
        facts = {
            "subject": "dialogues",
            "dialogues": {"count": self.count, "fps": self.fps},
            "processes": 1,
            "seconds": round(self.seconds, 1),
        }
        return result_line(self.bundle, self.cpu_share, facts, self.lines, passed=True)


def evaluate_dialogues(
    bundle: Path,
    dialogues: Sequence[Dialogue],
    settings: Settings,
    *,
    fps: float | None = None,
    on_dialogue: OnDialogue = lambda done, count: None,
) -> DialogueEvaluation:
    """Measure when a bundle speaks and what it says, as `edgestream run` has it.

    Questions of a dialogue are asked at their times. What the assistant says at the very time of a
    question is the answer to it, anything else is to be said unasked.

    Args:
        bundle: folder.
        dialogues: each is watched from a fresh start.
        settings: of the run.
        fps: frames a second; None for those that the bundle is made for.
        on_dialogue: told how far it is.

    Raises:
        EdgeStreamError: bundle, settings or a video are at fault.

    Cost: that of `edgestream run` over the video of each dialogue.
    """
    begun, cpu_begun = time.monotonic(), time.process_time()
    with ExitStack() as stack:
        opened = open_bundle(bundle)
        rate = opened.manifest.input.fps if fps is None else fps
        sampled = settings.source.model_copy(update={"fps": rate, "realtime": False})
        settings = with_facts_of(settings.model_copy(update={"source": sampled}), opened.manifest)
        pool = stack.enter_context(engine_pool(opened, engine_rules(settings)))
        runs = []
        for done, dialogue in enumerate(dialogues, 1):
            runs.append(_free_run(pool, dialogue, settings))
            on_dialogue(done, len(dialogues))
    figures = free_run_tally(runs).figures()
    seconds = time.monotonic() - begun
    share = (time.process_time() - cpu_begun) / max(seconds, 1e-9)
    lines = tuple(Line(figure) for figure in figures)
    return DialogueEvaluation(opened, len(runs), rate, lines, seconds, share)


def _free_run(pool: EnginePool, dialogue: Dialogue, settings: Settings) -> FreeRun:
    """What the bundle said along one dialogue, beside what is written."""
    source = source_from_settings(str(dialogue.video), settings)
    finals = Finals()
    asked = [turn for turn in dialogue.turns if turn.role == USER]
    with (
        attached_by(pool, settings) as model,
        staged_on(pool, model, settings, lambda: ()) as staged,
    ):
        inbox = Inbox(source.now_s, capacity=max(1, len(asked)))
        for turn in asked:
            inbox.ask(turn.text, turn.time_s)
        records = Outlet([finals], camera=source.name, clock=source.now_s)
        run(source, staged.stages, inbox, records)
    return scored_run(dialogue, finals.bodies, source.now_s())


def scored_run(dialogue: Dialogue, finals: Sequence[Mapping[str, Any]], end_s: float) -> FreeRun:
    """What was said along a dialogue, beside what is written.

    One in which nothing is to be said unasked is about its answers alone: its moments do not count.

    Args:
        dialogue: that was watched.
        finals: bodies of the `final` records, in order.
        end_s: when the video ended, seconds.
    """
    true, wanted = truths_of(dialogue)
    from_s, to_s = dialogue.from_s, end_s if dialogue.to_s is None else dialogue.to_s
    answered = [body["text"] for body in finals if body["cause"] == "question"]
    pairs = zip(wanted, answered, strict=True)
    answers = [(text, said) for text, said in pairs if text is not None]
    if not true:
        return FreeRun((), (), answers)
    spoken = [
        (body["about_s"][1], body["text"])
        for body in finals
        if body["cause"] == "event" and body["text"].strip()
    ]
    return FreeRun(
        [(turn.time_s, turn.text) for turn in true],
        [one for one in spoken if from_s <= one[0] <= to_s],
        answers,
        to_s - from_s,
    )


def truths_of(dialogue: Dialogue) -> tuple[list[Turn], list[str | None]]:
    """What is to be said unasked, and to each question its answer; None where none is written.

    What is not to be learned is left out.
    """
    unasked: list[Turn] = []
    answers: list[str | None] = []
    asked_s: float | None = None
    for turn in dialogue.turns:
        if turn.role == USER:
            answers.append(None)
            asked_s = turn.time_s
        elif turn.role == ASSISTANT and turn.learn:
            if turn.time_s == asked_s and answers[-1] is None:
                answers[-1] = turn.text
            else:
                unasked.append(turn)
    return unasked, answers
