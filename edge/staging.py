"""The stages of a run as the settings say, with the model of a bundle where one is named."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..runtime.bundle import Bundle, open_bundle
from ..runtime.encoder import PixelEncoder
from ..runtime.gate import Gate
from ..runtime.metrics import Metrics
from ..runtime.records import Record
from ..runtime.router import TurnRouter
from ..runtime.stages import Memory, Stages
from .gate_rules import watching_gate, with_gate_of
from .progress import work_shown
from .questions import AskedQuestion
from .standing_rules import standing_of, untaught

if TYPE_CHECKING:
    from ..runtime.assembly import Attached
    from ..runtime.engine_pool import EnginePool
    from ..runtime.manifest_values import Manifest
    from .settings_tables import Settings
    from .state_keeping import Kept


@dataclass(frozen=True, slots=True)
class Staged:
    """The stages of a run and what belongs to them.

    Attributes:
        stages: with their counters.
        notes: what the user should know before the first frame.
        known: questions that are known before it.
        can_answer: a language model is among them.
        kept: what saves the memory; None where nothing is saved.
    """

    stages: Stages
    notes: tuple[Record, ...] = ()
    known: tuple[AskedQuestion, ...] = ()
    can_answer: bool = False
    kept: Kept | None = None


@contextmanager
def staged_run(
    bundle: Path | None,
    settings: Settings,
    read: Callable[[], tuple[AskedQuestion, ...]],
    state: Path | None = None,
    tells: Sequence[str] = (),
) -> Iterator[Staged]:
    """The stages of a run, for as long as the block lasts.

    Args:
        bundle: folder of a model; None for events alone.
        settings: all of them.
        read: gives the questions that are known before the first frame; may take long.
        state: folder of the memory's state; None where none is kept.
        tells: standing requests in the user's words.

    Raises:
        EdgeStreamError: the bundle, the settings, the state or a request are at fault.
    """
    if bundle is None:
        settings = with_gate_of(settings, None)
        gate = watching_gate(settings.gate)
        router = TurnRouter(describes_events=False)
        standing = standing_of(tells, settings, None)
        yield Staged(
            Stages(PixelEncoder(), gate, router, _metrics(settings), standing=standing),
        )
        return
    # What runs models takes long to load; a run without them shall not wait for it.
    from ..runtime.engine_pool import engine_pool
    from .speech_rules import engine_rules

    with ExitStack() as stack:
        with work_shown(f"opening {bundle.name}"):
            opened = open_bundle(bundle)
            settings = with_facts_of(settings, opened.manifest)
            pool = stack.enter_context(engine_pool(opened, engine_rules(settings)))
            model = stack.enter_context(attached_by(pool, settings))
        yield stack.enter_context(staged_on(pool, model, settings, read, state, tells))


def attached_by(pool: EnginePool, settings: Settings) -> AbstractContextManager[Attached]:
    """What one stream has of a pool, as the settings say."""
    from ..runtime.assembly import attached_to
    from .speech_rules import speaking_rules

    return attached_to(pool, speaking_rules(settings))


@contextmanager
def staged_on(
    pool: EnginePool,
    model: Attached,
    settings: Settings,
    read: Callable[[], tuple[AskedQuestion, ...]],
    state: Path | None = None,
    tells: Sequence[str] = (),
) -> Iterator[Staged]:
    """The stages of one stream that has what it needs of a pool, for as long as the block lasts.

    Args:
        pool, model: the engines, and what this stream has of them.
        settings: with the facts of the bundle.
        read, state, tells: as `staged_run` has them.

    Raises:
        EdgeStreamError: the settings, the state or a request are at fault.
    """
    with ExitStack() as stack:
        gate = watching_gate(settings.gate, model.gate, pool.bundle.manifest.gate)
        known = read()  # before the counters' clock starts: waiting for a pipe is no watching
        kept = _kept(state, model.memory, gate, settings, pool.bundle, stack)
        metrics = _metrics(settings, model.gauges())
        model.session.dropped = metrics.drop
        model.rungs.tell = metrics.notice
        stages = _stages(model, gate, metrics, kept, settings)
        stages.standing = standing_of(tells, settings, pool.bundle.manifest)
        notes = (*model.notes, *untaught(tells, pool.bundle.manifest))
        if kept is not None:
            notes = (*notes, *kept.notes, *kept.too_early(known))
        yield Staged(stages, notes, known, can_answer=True, kept=kept)


def with_facts_of(settings: Settings, manifest: Manifest) -> Settings:
    """The settings with what the user left to the bundle."""
    from .speech_rules import with_memory_of

    return with_memory_of(with_gate_of(settings, manifest), manifest.memory)


def _stages(
    model: Attached, gate: Gate, metrics: Metrics, kept: Kept | None, settings: Settings
) -> Stages:
    """The stages of a run with a model; its Turns go on counting where an earlier run ended."""
    router = TurnRouter(
        describes_events=True,
        passes_frames=model.passes_frames,
        turns_before=0 if kept is None else kept.keeper.turns_before,
    )
    if kept is not None:
        kept.keeper.router = router
    return Stages(
        encoder=model.encoder,
        gate=gate,
        router=router,
        metrics=metrics,
        connector=model.connector,
        memory=model.memory if kept is None else kept.keeper,
        session=model.session,
        question_cuts_event=settings.session.question_cuts_event,
        carriers=(model.encoder.carry,),
        retention_s=settings.privacy.retention_s,
    )


def _kept(
    state: Path | None,
    memory: Memory,
    gate: Gate,
    settings: Settings,
    bundle: Bundle,
    stack: ExitStack,
) -> Kept | None:
    if state is None:
        return None
    from ..runtime.memory.keyframes import KeyFrameMemory
    from .state_keeping import Remembering, kept_state

    assert isinstance(memory, KeyFrameMemory), "check_state refuses what keeps no key frames"
    parts = Remembering(memory, gate, settings, bundle.sha256)
    return stack.enter_context(kept_state(state, parts))


def _metrics(settings: Settings, gauges: Mapping[str, Callable[[], Any]] | None = None) -> Metrics:
    return Metrics(
        fps_target=settings.source.fps,
        stats_every_s=settings.records.stats_every_s,
        gauges=gauges,
    )
