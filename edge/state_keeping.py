"""Saving what a run remembers while it lasts, and going on from it in the next one (`--state`)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from ..runtime.errors import OutputError, SettingsInvalid, StateInvalid
from ..runtime.gate import Gate
from ..runtime.gate_state import restore_gate, saved_gate
from ..runtime.memory.dialogue_log import DialogueLog
from ..runtime.memory.keyframes import KeyFrameMemory
from ..runtime.memory.memory_state import MemoryState
from ..runtime.recent import DialogueTurn, answered_turns
from ..runtime.records import Record, warning
from ..runtime.router import TurnRouter
from ..runtime.source_continued import ContinuedSource
from ..runtime.sources import Source
from ..runtime.state_folder import StateFolder
from ..runtime.state_snapshot import SavedPart, State
from ..runtime.values import Features, Float32, GateDecision, Response
from .questions import AskedQuestion
from .settings_tables import Settings


@dataclass(frozen=True, slots=True)
class Remembering:
    """What a state is made of, and put back into.

    Attributes:
        memory: of the run.
        gate: of the run; its name is the setting `gate.kind`.
        settings: those that the run was started with.
        bundle_sha256: of the bundle that made the embeds.
    """

    memory: KeyFrameMemory
    gate: Gate
    settings: Settings
    bundle_sha256: str


@dataclass(frozen=True, slots=True)
class Before:
    """Where an earlier run ended.

    Attributes:
        clock_s: stream time, seconds.
        counters: as the state has them.
    """

    clock_s: float
    counters: Mapping[str, int]


class StateKeeper:
    """The memory of a run, saved every so often; see `Memory`.

    A state is taken between two frames, by the thread that watches, and written by a thread of its
    own, so that a slow disk costs no frames. While one is being written no other one is taken. One
    that cannot be written is a warning, and the run goes on.

    State: when the next one is due, the writing that goes on, what `tell` was given.

    Args:
        folder: held by this run.
        log: of the dialogue, in the same folder.
        parts: what is saved.
        before: what this run goes on from; None for a new stream.
    """

    def __init__(
        self, folder: StateFolder, log: DialogueLog, parts: Remembering, before: Before | None
    ) -> None:
        self._folder, self._log, self._parts = folder, log, parts
        self._before = {} if before is None else before.counters
        self._frames = self._before.get("frames", 0)
        self._clock_s = 0.0 if before is None else before.clock_s
        self._saved_s: float | None = None
        self._is_new = False
        self._worker = ThreadPoolExecutor(1, "edgestream state")
        self._writing: Future[int] | None = None
        self._logs = True
        self.tell: Callable[[Record], None] = lambda record: None
        """Takes the warnings; set before the first frame."""
        self.router: TurnRouter | None = None
        """Its Turns are counted; set before the first frame."""

    @property
    def turns_before(self) -> int:
        """Turns of earlier runs."""
        return self._before.get("turns", 0)

    @property
    def n_bytes(self) -> int:
        """What the memory keeps, bytes."""
        return self._parts.memory.n_bytes

    def step(self, features: Features, embeds: Float32, decision: GateDecision) -> None:
        """Take one frame in; save where it is time."""
        self._parts.memory.step(features, embeds, decision)
        self._clock_s, self._frames, self._is_new = features.time_s, self._frames + 1, True
        if self._saved_s is None:
            self._saved_s = features.time_s
        every_s = self._parts.settings.memory.snapshot_every_s
        if features.time_s - self._saved_s < every_s or not self._is_written():
            return
        self._saved_s = features.time_s
        self._writing = self._worker.submit(self._write, self._state())

    def remember(self, said: Sequence[Response]) -> None:
        """Attach what was said to its moments, and log answered questions."""
        self._parts.memory.remember(said)
        self._is_new = True
        for turn in answered_turns(said):
            if self._logs:
                self._append(turn)

    def save_last(self) -> None:
        """Wait for what is being written, then save what came after it.

        Raises:
            OutputError: it cannot be written.
        """
        if self._writing is not None:
            self._is_written(waits=True)
        if self._is_new:
            self._write(self._state())
            self._is_new = False

    def close(self) -> None:
        """Wait for what is being written; call it when nothing is stepped any more."""
        self._worker.shutdown()

    def _is_written(self, *, waits: bool = False) -> bool:
        """Whether nothing is being written now; a fault of what was is told once."""
        if self._writing is None:
            return True
        if not (waits or self._writing.done()):
            return False
        try:
            self._writing.result()
        except OutputError as fault:
            self.tell(warning("state-not-saved", f"the state was not saved: {fault.message}"))
        self._writing = None
        return True

    def _write(self, state: State) -> int:
        self._log.sync()
        return self._folder.write(state)

    def _append(self, turn: DialogueTurn) -> None:
        try:
            self._log.append(turn)
        except OutputError as fault:
            self._logs = False
            self.tell(warning("dialogue-not-saved", f"no more dialogue is saved: {fault.message}"))

    def _state(self) -> State:
        parts, memory = self._parts, self._parts.memory.snapshot()
        turns = self.turns_before if self.router is None else self.router.turns_made
        return State(
            parts.bundle_sha256,
            parts.settings.memory.model_dump(mode="json"),
            self._clock_s,
            {"frames": self._frames, "turns": turns},
            SavedPart(memory.fields, memory.arrays),
            saved_gate(parts.gate, parts.settings.gate.kind),
        )


@dataclass(frozen=True, slots=True)
class Kept:
    """A run that keeps its state.

    Attributes:
        keeper: stands in the place of the memory.
        goes_on_s: stream time at which the first frame comes; None of a new stream.
        notes: what the user should know of what was found.
    """

    keeper: StateKeeper
    goes_on_s: float | None
    notes: tuple[Record, ...] = ()

    def continued(self, source: Source) -> Source:
        """The source, its stream time going on from the state where there was one."""
        if self.goes_on_s is None:
            return source
        reason = f"{source.name} goes on from its saved state, at {self.goes_on_s:.2f} s"
        return ContinuedSource(source, self.goes_on_s, reason)

    def too_early(self, known: Iterable[AskedQuestion]) -> list[Record]:
        """A warning for each question about a time that an earlier run has watched."""
        return [
            warning(
                "question-about-earlier-run",
                f"the question for {question.time_s:g} s is about an earlier run: this one goes on "
                f"from its saved state at {self.goes_on_s:.2f} s",
            )
            for question in known
            if question.time_s is not None and question.time_s < (self.goes_on_s or 0.0)
        ]

    @contextmanager
    def saved_at_the_end(self) -> Iterator[None]:
        """Save once more when the block ends, whatever ends it.

        Raises:
            OutputError: it cannot be saved, and the block itself had no fault to tell.
        """
        try:
            yield
        except BaseException:
            # What ended the run is told, not that its last minutes could not be saved either.
            with suppress(OutputError):
                self.keeper.save_last()
            raise
        self.keeper.save_last()


def check_state(settings: Settings, *, has_bundle: bool) -> None:
    """Refuse a state of a run that remembers nothing.

    Raises:
        SettingsInvalid: there is no bundle, or the settings keep no key frames.
    """
    if not has_bundle:
        raise SettingsInvalid(
            "--state keeps what a model remembers; got no model", hint="name one with --bundle"
        )
    wrong = {"memory.kind": settings.memory.kind, "context.kind": settings.context.kind}
    for key, value in wrong.items():
        if value == {"memory.kind": "recent", "context.kind": "continuous"}[key]:
            raise SettingsInvalid(
                f"--state needs key frames to keep; got {key} = {value}",
                hint=f"leave out --state, or {key}",
            )


@contextmanager
def kept_state(place: Path, parts: Remembering) -> Iterator[Kept]:
    """The state of a folder put back, and its keeper, for as long as the block lasts.

    Raises:
        OutputUnwritable: the folder cannot be used, or another run holds it.
        BundleError: its state is of another bundle, of a newer format, or damaged.
    """
    faults: list[StateInvalid] = []
    with ExitStack() as stack:
        folder = stack.enter_context(StateFolder(place))
        notes: list[Record] = []
        before = _restore(parts, folder.read(parts.bundle_sha256, faults.append), place, notes)
        notes += [
            warning("state-damaged", f"{one.message}; an older one is used") for one in faults
        ]
        log = stack.enter_context(DialogueLog(place))
        keeper = StateKeeper(folder, log, parts, before)
        stack.callback(keeper.close)
        frame_s = 1.0 / parts.settings.source.fps
        yield Kept(keeper, None if before is None else before.clock_s + frame_s, tuple(notes))


def _restore(
    parts: Remembering, found: State | None, place: Path, notes: list[Record]
) -> Before | None:
    """Put a state back. It is not kept: what was read would stand beside what was made of it."""
    if found is None:
        return None
    try:
        parts.memory.restore(MemoryState(found.memory.arrays, found.memory.values))
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        # Every byte is as it was written, so another version wrote something else into it.
        raise StateInvalid(
            f"the state in {place} is not of this memory: {type(error).__name__}: {error}",
            hint=f"remove {place}, or name another folder with --state",
        ) from error
    kind = parts.settings.gate.kind
    if not restore_gate(parts.gate, kind, found.gate):
        notes.append(warning("gate-started-anew", f"the state is of another gate than {kind}"))
    return Before(found.clock_s, dict(found.counters))
