"""The reference assistant of a bundle watches clips of the rendered world, in the device's own way.

The stages of the runtime run frame by frame in the order of `runtime/pipeline.py`, without threads
and without a file in between. What they are asked and shown of the past depends on the mode.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ..runtime.assembly import Attached, attached
from ..runtime.bundle import Bundle
from ..runtime.engine_pool import EngineRules
from ..runtime.errors import BundleFileRefused
from ..runtime.gate_learned import LearnedGate
from ..runtime.gate_network import SPEAK
from ..runtime.learned_phases import learned_rules
from ..runtime.manifest_values import MemoryPlan
from ..runtime.memory.key_frame_rules import KeyFrameRules
from ..runtime.memory.keyframes import KeyFrameMemory
from ..runtime.metrics import Metrics
from ..runtime.recall import RecallRules
from ..runtime.router import TurnRouter
from ..runtime.speaking import MemoryRules, SpeakingRules
from ..runtime.stages import Stages
from ..runtime.values import Event, Features, Frame, GateDecision, Question, Response, Turn, UInt8
from .world import ATTRIBUTES, EVENT_TYPES, Clip, WorldEvent, event_sentence
from .world_scores import ClipPrediction, events_in

Mode: TypeAlias = Literal["own_text", "true_text", "last_frames"]
MODES: tuple[Mode, ...] = ("own_text", "true_text", "last_frames")
"""As deployed; memory holds what is true, said at true key frames; the last 16 frames alone."""
LAST_FRAMES = 16
Sight: TypeAlias = tuple[tuple[Features, GateDecision], ...]
"""What vision and gate made of each frame of a clip: the same, whatever is said of it."""


@dataclass(frozen=True, slots=True, eq=False)
class Watched:
    """What the assistant made of one clip.

    Attributes:
        gate: events that its gate opened, and the frames at which a Turn was due.
        said: frame → what it said; frames at which it chose silence are left out.
        answers: to the questions of the clip, in their order.
        scores: (T, 15) of the gate, `speak` first.
    """

    gate: ClipPrediction
    said: Mapping[int, str]
    answers: tuple[str, ...]
    scores: NDArray[np.float32]

    @property
    def told(self) -> ClipPrediction:
        """Speech and events as its sentences tell them."""
        events = [event for frame, text in self.said.items() for event in events_in(frame, text)]
        return ClipPrediction(tuple(self.said), tuple(events))


def rules_of(mode: Mode, plan: MemoryPlan | None) -> SpeakingRules:
    """What the language model is shown in a mode; what an untrained one says is measured too.

    Args:
        mode: of the measurement.
        plan: of the bundle: memory works as the model was taught, as in a run without settings.
    """
    if mode == "last_frames":
        return SpeakingRules(
            recent_frames=LAST_FRAMES,
            recent_every_s=0.0,
            recall=RecallRules(mode="recent"),
            allow_random_weights=True,
        )
    key_frames, recall = KeyFrameRules(), RecallRules()
    if plan is not None:
        key_frames = replace(key_frames, clip_len=plan.clip_len or key_frames.clip_len)
        recall = replace(recall, topk=plan.topk or recall.topk)
    return SpeakingRules(
        memory=MemoryRules(key_frames),
        recall=recall,
        allow_random_weights=True,
    )


def eyes_of(bundle: Bundle) -> str:
    """Of two bundles the same where vision and gate are: their files, and what they are told."""
    manifest = bundle.manifest
    files = [
        [role, variant.id, manifest.files[variant.file].sha256]
        for role, variant in manifest.variants()
        if role in ("vision", "gate")
    ]
    told = manifest.as_json()
    return json.dumps([files, told["input"], told.get("gate")], sort_keys=True)


@contextmanager
def watcher(bundle: Bundle, mode: Mode, threads: int = 1) -> Iterator[Watcher]:
    """What watches clips in one mode, for as long as the block lasts.

    Raises:
        BundleFileRefused: the bundle is not of a reference assistant.
        EngineUnusable: a part does not run here.
    """
    facts, rules = bundle.manifest.gate, rules_of(mode, bundle.manifest.memory)
    with attached(bundle, EngineRules(threads=threads), rules) as model:
        if model.gate is None or facts is None or facts.events != EVENT_TYPES:
            raise BundleFileRefused(
                f"{bundle.folder.name} has no gate for the events of the rendered world",
                hint="name a bundle of a reference assistant",
            )
        gate_rules = learned_rules(facts, has_speak=SPEAK in model.gate.names)
        yield Watcher(model, LearnedGate(model.gate, gate_rules), mode)


class Watcher:
    """Watches one clip after another, each from a fresh start.

    Args:
        model: at work.
        gate: of the same bundle.
        mode: what the language model is shown.
    """

    def __init__(self, model: Attached, gate: LearnedGate, mode: Mode) -> None:
        self._model, self._gate, self._mode = model, gate, mode

    def look(self, frames: Sequence[tuple[float, UInt8]]) -> Sight:
        """What vision and gate make of frames: (seconds, (112, 112, 3) uint8 RGB).

        Cost: about 10 ms a frame that moves on one core.
        """
        stages = self._fresh_stages()
        found = []
        for number, (time_s, pixels) in enumerate(frames):
            features = stages.encode(Frame(number, float(time_s), pixels))
            found.append((features, stages.decide(features)))
        return tuple(found)

    def watch(self, clip: Clip, sight: Sight | None = None) -> Watched:
        """What the assistant says of a clip.

        Args:
            clip: with pixels, where nothing is given instead.
            sight: what a watcher with the same vision and gate made of it; None looks here.

        Cost: about 15 ms a sentence or answer on one core, and `look`.
        """
        if sight is None:
            assert clip.pixels is not None, "render it with pixels=True"
            sight = self.look(list(zip(clip.time_s, clip.pixels, strict=True)))
        return self._watched(sight, clip)

    def see(self, frames: Sequence[tuple[float, UInt8]]) -> Watched:
        """What it says of frames that nothing is known of: (seconds, (112, 112, 3) uint8 RGB).

        Raises:
            ValueError: its memory is to hold what is true, which nobody knows here.
        """
        if self._mode == "true_text":
            raise ValueError("got the mode true_text and no truth, expected another mode")
        return self._watched(self.look(frames), None)

    def _watched(self, sight: Sight, clip: Clip | None) -> Watched:
        stages = self._fresh_stages()
        heard: list[Response] = []
        said: dict[int, str] = {}
        answers: list[str] = []
        opened: list[WorldEvent] = []
        due: list[int] = []
        scores = np.zeros((len(sight), 1 + len(EVENT_TYPES)), np.float32)
        for number, (features, decision) in enumerate(sight):
            stages.hear(heard)
            embeds = stages.connect(features, decision)
            stages.keep(features, embeds, decision)
            heard = []
            for question in _asked(clip, number, decision.time_s):
                heard.append(self._final(stages, question))
                answers.append(heard[-1].text.strip())
            scores[number] = [decision.scores.get(name, 0.0) for name in (SPEAK, *EVENT_TYPES)]
            opened += told_events(number, decision.opened)
            if decision.opened and decision.speaks:
                due.append(number)
            heard += self._described(stages, decision, clip, number, said)
        gate = ClipPrediction(tuple(due), tuple(opened))
        return Watched(gate, said, tuple(answers), scores)

    def _described(
        self,
        stages: Stages,
        decision: GateDecision,
        clip: Clip | None,
        number: int,
        said: dict[int, str],
    ) -> list[Response]:
        """What is said at a frame, and what memory is told of it."""
        truth = " ".join(clip.narration[number]) if clip else ""
        is_due = bool(decision.opened and decision.speaks)
        if self._mode == "last_frames" or not (truth if self._mode == "true_text" else is_due):
            return []
        # Where truth decides, the gate may have opened nothing; what opened is not read anyway.
        opened = decision.opened or (Event(f"t{number}", SPEAK, decision.time_s),)
        turn = Turn(f"t{number}", "event", decision.time_s, "describe", events=opened)
        response = self._final(stages, turn)
        if response.text.strip():
            said[number] = response.text.strip()
        return [replace(response, text=truth) if self._mode == "true_text" else response]

    def _final(self, stages: Stages, turn: Turn) -> Response:
        *_, final = stages.session.take(turn, lambda: False, lambda record: None)
        return final

    def _fresh_stages(self) -> Stages:
        model = self._model
        assert isinstance(model.memory, KeyFrameMemory), "the rules of every mode keep key frames"
        for part in (model.encoder, model.connector, model.memory, model.session, self._gate):
            part.reset()
        return Stages(
            encoder=model.encoder,
            gate=self._gate,
            router=TurnRouter(describes_events=True),
            metrics=Metrics(fps_target=4.0),
            connector=model.connector,
            memory=model.memory,
            session=model.session,
        )


def told_events(frame: int, opened: Sequence[Event]) -> list[WorldEvent]:
    """The events of a gate as the world writes them; others than its own are left out."""
    return [
        told_event(frame, event.event, event.attributes)
        for event in opened
        if event.event in EVENT_TYPES
    ]


def told_event(frame: int, kind: str, said: Mapping[str, str]) -> WorldEvent:
    """An event of a gate as the world writes it; what it is not sure of is left out."""
    values = {name: said.get(name) for name in ATTRIBUTES}
    is_whole = kind not in ("pan", "zoom", "start") or values["direction"] is not None
    is_whole = is_whole and (kind not in ("enter", "leave") or values["side"] is not None)
    sentence = event_sentence(kind, **values) if is_whole else ""
    return WorldEvent(frame, kind, **values, sentence=sentence)


def _asked(clip: Clip | None, number: int, time_s: float) -> list[Turn]:
    return [
        Turn(f"q{at}", "question", time_s, "answer", Question(f"q{at}", question.text, time_s))
        for at, question in enumerate(clip.questions if clip else ())
        if question.frame == number
    ]
