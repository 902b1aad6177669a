"""Saving what a run remembers while it lasts, and going on from it in the next one (`--state`)."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from ..runtime.errors import OutputError, SettingsInvalid, StateInvalid
from ..runtime.gate_query import shown
from ..runtime.gate_state import restore_gate
from ..runtime.memory.dialogue_log import DialogueLog
from ..runtime.memory.memory_state import MemoryState
from ..runtime.records import Record, warning
from ..runtime.source_continued import ContinuedSource
from ..runtime.sources import Source
from ..runtime.state_folder import StateFolder
from ..runtime.state_snapshot import State
from .questions import AskedQuestion
from .settings_tables import Settings
from .state_ages import ages_after
from .state_keeper import Before, StateKeeper
from .state_keeper import Remembering as Remembering


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
        if before is not None:
            keeper.tidy()
        elif parts.settings.privacy.retention_s:
            log.forget_before(math.inf)  # of a run that left no state nobody knows how old it is
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
    kind, query = parts.settings.gate.kind, parts.settings.gate.query
    if not restore_gate(parts.gate, kind, found.gate):
        looks = f" that looks for {shown(query)}" if query else ""
        if not query and "query" in found.gate.values:
            looks = " without a query"
        text = f"the state is of another gate than {kind}{looks}"
        notes.append(warning("gate-started-anew", text))
    ages = ages_after(found.memory.values, found.clock_s, time.time())
    return Before(found.clock_s, dict(found.counters), ages)
