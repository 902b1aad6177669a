"""One run of one camera: its stages on the shared engines, from opening to the last record."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ...runtime.inbox import Inbox
from ...runtime.memory.key_frame import MemoryView
from ...runtime.memory.keyframes import KeyFrameMemory
from ...runtime.outlet import Outlet
from ...runtime.pipeline import run
from ...runtime.recent import RecentMemory
from ...runtime.records import Record
from ...runtime.sinks import Sink
from ...runtime.source_pushed import PushedSource
from ...runtime.sources import Source
from ...runtime.stages import Stages
from ..gate_queries import with_query_of
from ..gate_rules import change_rules, learned_rules_of
from ..governing import governed
from ..staging import Staged, attached_by, staged_on
from .answers import AnsweringSession, Answers
from .camera_source import Pausing, opened_source
from .hub import Hub, HubSink
from .outward.opening import NOBODY, Outward
from .pictures import Pictures, ShownSource
from .shares import Shares
from .standing_board import StandingBoard
from .trace import Trace, TracedGate, rounded

if TYPE_CHECKING:
    from ...runtime.assembly import Attached
    from ...runtime.engine_pool import EnginePool
    from ..settings_tables import Settings


@dataclass(frozen=True, slots=True)
class Shared:
    """What all cameras of a service have in common.

    Attributes:
        pool: the engines.
        settings: with the facts of the bundle and a camera's share of the budget.
        shares: how the budget is divided.
        hub: takes every record.
        standing: requests that cameras hold.
        state: folder with a folder of each camera; None where nothing is saved.
        outward: gets the records of every camera.
        event_types: that the gate of each camera knows.
    """

    pool: EnginePool
    settings: Settings
    shares: Shares
    hub: Hub
    standing: StandingBoard
    state: Path | None = None
    outward: Outward = NOBODY
    event_types: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Shown:
    """What others see of a camera, from one run to the next.

    Attributes:
        pictures, trace, answers: see there.
    """

    pictures: Pictures
    trace: Trace
    answers: Answers


@dataclass(frozen=True, slots=True)
class WatchRun:
    """A camera that is being watched.

    Attributes:
        source: as the pipeline sees it.
        pausing: pauses it.
        pushed: takes the pictures of a page; None of a source that finds its own.
        stages: with their counters.
        inbox: what it is asked.
        records: where its records go.
        view: what its memory keeps now.
        kept_bytes, budget_bytes: of its memory.
        thresholds: scores from which events open.
        query: what its gate looks for; empty for nothing.
        staged: with what saves the memory.
        notes: what the user should know before the first frame.
    """

    source: Source
    pausing: Pausing
    pushed: PushedSource | None
    stages: Stages
    inbox: Inbox
    records: Outlet
    view: Callable[[], MemoryView]
    kept_bytes: Callable[[], int]
    budget_bytes: int
    thresholds: dict[str, float]
    query: str
    staged: Staged
    notes: tuple[Record, ...]

    def watch(self, left: threading.Event) -> None:
        """Watch until the source ends or is to stop; `left` leaves at once.

        Raises:
            EdgeStreamError: see `pipeline.run`.
        """
        self.records.put_all(self.notes)
        kept = self.staged.kept
        if kept is None:
            run(self.source, self.stages, self.inbox, self.records, left=left)
            return
        kept.keeper.tell = self.records.put
        with kept.saved_at_the_end():
            run(self.source, self.stages, self.inbox, self.records, left=left)


@contextmanager
def opened_run(
    name: str, address: str, shared: Shared, shown: Shown, has_stopped: Callable[[], bool]
) -> Iterator[WatchRun]:
    """A camera ready to be watched, for as long as the block lasts.

    Raises:
        EdgeStreamError: its source, its state or an engine is at fault.
    """
    settings = with_query_of(shared.settings, name)
    opened = opened_source(name, address, settings)
    with ExitStack() as stack:
        model = stack.enter_context(attached_by(shared.pool, settings))
        place = None if shared.state is None else shared.state / name
        staged = stack.enter_context(staged_on(shared.pool, model, settings, lambda: (), place))
        stages = staged.stages
        shared.standing.attach(name, stages.standing)
        stack.callback(shared.standing.detach, name)
        stages.gate = TracedGate(stages.gate, shown.trace)
        stages.session = AnsweringSession(model.session, shown.answers)
        seen: Source = ShownSource(opened.source, name, shown.pictures, has_stopped)
        if staged.kept is not None:
            seen = staged.kept.continued(seen)
        hub_sink = HubSink(shared.hub)
        stack.callback(hub_sink.close)  # the outward ones stay open for the other cameras
        sinks: list[Sink] = [hub_sink, *shared.outward.sinks]
        yield WatchRun(
            source=seen,
            pausing=opened.pausing,
            pushed=opened.pushed,
            stages=stages,
            inbox=Inbox(seen.now_s, capacity=settings.session.questions_waiting),
            records=Outlet(
                sinks,
                camera=name,
                clock=seen.now_s,
                capacity=settings.records.outlet_capacity,
            ),
            view=_view_of(model),
            kept_bytes=model.n_bytes,
            budget_bytes=shared.shares.memory,
            thresholds=_thresholds(settings, model, shared.pool),
            query=settings.gate.query,
            staged=staged,
            notes=(*staged.notes, *governed(stages, settings, seen)),
        )


def _view_of(model: Attached) -> Callable[[], MemoryView]:
    memory = model.memory
    if isinstance(memory, KeyFrameMemory):
        return memory.view
    if isinstance(memory, RecentMemory):
        return lambda: MemoryView(memory.view(), (), memory.view().dialogue)
    return MemoryView


def _thresholds(settings: Settings, model: Attached, pool: EnginePool) -> dict[str, float]:
    facts = pool.bundle.manifest.gate
    if settings.gate.kind == "learned" and model.gate is not None and facts is not None:
        rules = learned_rules_of(settings.gate, model.gate, facts)
        speak = {} if rules.speak is None else {"speak": rules.speak.open_above}
        return rounded({**speak, **{name: one.open_above for name, one in rules.events.items()}})
    if settings.gate.kind == "change":
        phases = change_rules(settings.gate).phases
        return rounded({name: one.open_above for name, one in phases.items()})
    return {}
