"""What saves the memory of a run while it lasts, and lets go of what was saved."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field

from ..runtime.errors import OutputError
from ..runtime.gate import Gate
from ..runtime.gate_state import saved_gate
from ..runtime.memory.dialogue_log import DialogueLog
from ..runtime.memory.keyframes import KeyFrameMemory
from ..runtime.recent import DialogueTurn, answered_turns
from ..runtime.records import Record, warning
from ..runtime.router import TurnRouter
from ..runtime.state_folder import KEPT, StateFolder
from ..runtime.state_snapshot import SavedPart, State
from ..runtime.values import Features, Float32, GateDecision, Response
from .settings_tables import Settings
from .state_ages import Ages, save_every_s


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
        ages: how old what it has left is.
    """

    clock_s: float
    counters: Mapping[str, int]
    ages: Ages = field(default_factory=Ages)


class StateKeeper:
    """The memory of a run, saved every so often; see `Memory`.

    A state is taken between two frames, by the thread that watches, and written by a thread of its
    own, so that a slow disk costs no frames. While one is being written no other one is taken. One
    that cannot be written is a warning, and the run goes on.

    With a retention nothing saved gets older than that: states are saved more often and the memory
    forgets one such time earlier, so that it holds until the next one; no second one is kept.

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
        self._worker.submit(int)  # its thread is there from now on, not from the first save
        self._writing: Future[int] | None = None
        self._logs = True
        self._ages = Ages() if before is None else before.ages
        self._every_s = save_every_s(parts.settings)
        self._is_aging = parts.settings.privacy.retention_s > 0
        self._forgotten_s = 0.0
        self._kept = 1 if self._is_aging or not parts.settings.privacy.keep_pictures else KEPT
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
        self._save_where_due(features.time_s)

    def _save_where_due(self, now_s: float) -> None:
        if self._saved_s is None:
            self._saved_s = now_s
        is_due = self._is_new and now_s - self._saved_s >= self._every_s
        if is_due and self._is_written():
            self._saved_s, self._is_new = now_s, False
            self._writing = self._worker.submit(self._write, self._state())

    def remember(self, said: Sequence[Response]) -> None:
        """Attach what was said to its moments, and log answered questions."""
        self._parts.memory.remember(said)
        self._is_new = True
        for turn in answered_turns(said):
            if self._logs:
                self._append(turn)

    def forget_before(self, time_s: float) -> None:
        """Let go of what is older than what is at a time, seconds; see `Ages`.

        Also where no frame comes what was saved gets old, and is saved anew.
        """
        n_bytes = self.n_bytes
        self._forgotten_s = self._ages.forget_before_s(time_s + self._every_s)
        self._ages = self._ages.without(self._forgotten_s)
        self._parts.memory.forget_before(self._forgotten_s)
        self._is_new |= self.n_bytes != n_bytes
        self._save_where_due(time_s + self._parts.settings.privacy.retention_s)

    def wipe(self) -> None:
        """Let go of everything, saved states and dialogue on the disk with it.

        Raises:
            OutputError: something of it cannot be removed.
        """
        self._is_written(waits=True)
        self._parts.memory.wipe()
        self._is_new = True  # a state without memory goes on counting
        self._log.forget_before(math.inf)
        self._folder.wipe()

    def tidy(self) -> None:
        """Save what was put back anew, where what was saved holds more than may be kept.

        Raises:
            OutputError: it cannot be written.
        """
        retention_s = self._parts.settings.privacy.retention_s
        if self._is_aging:
            self.forget_before(self._clock_s - retention_s)
        if self._kept < KEPT:
            self._write(self._state())

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
            self._is_new = True
            self.tell(warning("state-not-saved", f"the state was not saved: {fault.message}"))
            if self._is_aging:  # the one before would get too old
                with suppress(OutputError):
                    self._folder.wipe()
        self._writing = None
        return True

    def _write(self, state: State) -> int:
        if self._is_aging:
            self._log.forget_before(self._forgotten_s)
        self._log.sync()
        return self._folder.write(state, kept=self._kept)

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
            SavedPart({**memory.fields, **self._ages.saved(time.time())}, memory.arrays),
            saved_gate(parts.gate, parts.settings.gate.kind),
        )
