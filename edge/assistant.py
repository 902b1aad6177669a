"""The assistant: source, stages, inbox and sinks put together as the settings say, and run."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from ..runtime.encoder import PixelEncoder
from ..runtime.errors import OutputUnwritable, UsageError
from ..runtime.gate import gate_from_name
from ..runtime.inbox import Inbox
from ..runtime.line_file import LineFile
from ..runtime.metrics import Metrics
from ..runtime.outlet import Outlet
from ..runtime.pipeline import run
from ..runtime.router import TurnRouter
from ..runtime.sinks import ConsoleSink, JsonLinesSink, Sink, TextStream
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
    _check_not_the_source(address, jsonl)
    metrics = Metrics(fps_target=settings.source.fps, stats_every_s=settings.records.stats_every_s)
    with ExitStack() as stack:
        left = stack.enter_context(left_by_terminate())
        file_sinks: list[Sink] = []
        if jsonl is not None:
            file_sinks.append(JsonLinesSink(jsonl, left.is_set))
            stack.callback(file_sinks[0].close)
        stdout = stdout_lines(left.is_set, is_json=json_to_stdout)
        shown, lines = stack.enter_context(progress_shown(source, stdout))
        first = _stdout_sinks(stdout, lines, is_json=json_to_stdout)
        if sys.stderr is not None:
            stack.callback(_say_summary, metrics, source, sys.stderr)
        _run(shown, [*first, *file_sinks], metrics, settings, left)


def stdout_lines(has_left: Callable[[], bool], *, is_json: bool) -> TextStream | None:
    """Stdout as a stream of lines; None where the caller closed it.

    Args:
        has_left: whether the run is being left; a reader that does not read is then given up.
        is_json: JSON is UTF-8, whatever people read in.
    """
    if sys.stdout is None:
        return None
    try:
        file = sys.stdout.fileno()
    except OSError:  # replaced by something that is no file, as in a notebook
        return sys.stdout
    sys.stdout.flush()
    encoding = "utf-8" if is_json else sys.stdout.encoding
    return LineFile(file, "stdout", encoding=encoding, has_left=has_left)


def _stdout_sinks(
    stdout: TextStream | None, lines: TextStream | None, *, is_json: bool
) -> list[Sink]:
    if is_json:
        if stdout is None:
            raise OutputUnwritable(
                "cannot write records to stdout: it is closed", hint="name a file for --jsonl"
            )
        return [JsonLinesSink(stdout)]
    # A service may have no stdout at all: then nobody reads the lines for people.
    return [] if lines is None else [ConsoleSink(lines)]


def _check_not_the_source(address: str, jsonl: Path | None) -> None:
    """Raises UsageError where records would be appended to the very file that is watched."""
    try:
        is_same = jsonl is not None and os.path.samefile(address, jsonl)
    except OSError:  # one of the two is not there, so they are not the same
        is_same = False
    if is_same:
        raise UsageError(
            f"--jsonl {jsonl} is the source itself; got one file for both, expected two",
            hint="name another file for the records",
        )


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
