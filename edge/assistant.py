"""The assistant: source, stages, inbox and sinks put together as the settings say, and run."""

from __future__ import annotations

import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from ..runtime.encoder import PixelEncoder
from ..runtime.gate import gate_from_name
from ..runtime.inbox import Inbox
from ..runtime.metrics import Metrics
from ..runtime.outlet import Outlet
from ..runtime.pipeline import run
from ..runtime.router import TurnRouter
from ..runtime.sinks import ConsoleSink, JsonLinesSink, Sink
from ..runtime.source_paced import PacedSource
from ..runtime.sources import Source, SourceSettings, open_source
from ..runtime.stages import Stages
from .gate_rules import change_rules
from .progress import progress_shown, summary_line

if TYPE_CHECKING:
    from .settings_tables import Settings

NO_LANGUAGE_MODEL = "no language model is attached to this run, so nobody can answer"


def watch_source(
    address: str, settings: Settings, *, jsonl: Path | None = None, json_to_stdout: bool = False
) -> None:
    """Watch one source to its end and tell every event.

    Args:
        address: what `open_source` takes.
        settings: all choices of the user.
        jsonl: file to which every record is appended; None for none.
        json_to_stdout: records instead of lines for people on stdout.

    Raises:
        EdgeStreamError: settings, source or output are at fault.
        KeyboardInterrupt: the user left; everything is closed and the last counters are out.
    """
    source = source_from_settings(address, settings)
    with ExitStack() as stack:
        file_sinks: list[Sink] = [] if jsonl is None else [JsonLinesSink(jsonl)]
        for sink in file_sinks:
            stack.callback(sink.close)
        left = stack.enter_context(left_by_terminate())
        shown, lines = stack.enter_context(progress_shown(source))
        first = JsonLinesSink(sys.stdout) if json_to_stdout else ConsoleSink(lines)
        metrics = Metrics(
            fps_target=settings.source.fps, stats_every_s=settings.records.stats_every_s
        )
        stack.callback(_say_summary, metrics, source, sys.stderr)
        _run(shown, [first, *file_sinks], metrics, settings, left)


def _run(
    source: Source,
    sinks: list[Sink],
    metrics: Metrics,
    settings: Settings,
    left: threading.Event,
) -> None:
    stages = Stages(
        encoder=PixelEncoder(),
        gate=gate_from_name(settings.gate.kind, change_rules(settings.gate)),
        router=TurnRouter(describes_events=False),
        metrics=metrics,
    )
    inbox = Inbox(
        source.now_s, capacity=settings.session.questions_waiting, refusal=NO_LANGUAGE_MODEL
    )
    records = Outlet(
        sinks,
        camera=source.name,
        clock=source.now_s,
        capacity=settings.records.outlet_capacity,
    )
    run(source, stages, inbox, records, left=left)


def source_from_settings(address: str, settings: Settings) -> Source:
    """The source at an address, sampled and paced as the settings say.

    Raises:
        SourceError: nothing can be read there.
    """
    chosen = settings.source
    source = open_source(address, SourceSettings(fps=chosen.fps, max_side_px=chosen.max_side_px))
    if chosen.realtime and not source.is_live:
        return PacedSource(source, sleep=time.sleep, monotonic=time.monotonic)
    return source


@contextmanager
def left_by_terminate() -> Iterator[threading.Event]:
    """An event that SIGTERM sets, so that a service manager gets a clean end and last counters."""
    left = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield left  # only the main thread may say what a signal does
        return
    before = signal.signal(signal.SIGTERM, lambda number, where: left.set())
    try:
        yield left
    finally:
        signal.signal(signal.SIGTERM, before)


def _say_summary(metrics: Metrics, source: Source, stream: TextIO) -> None:
    stats = metrics.stats().body
    if stats["frames_seen"]:
        print(summary_line(stats, source.now_s()), file=stream)
