"""The assistant: source, stages, inbox and sinks put together as the settings say, and run."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from ..runtime.errors import OutputUnwritable, UsageError
from ..runtime.inbox import Inbox
from ..runtime.line_file import LineFile
from ..runtime.live_rules import LiveRules
from ..runtime.metrics import Metrics
from ..runtime.outlet import Outlet
from ..runtime.pipeline import run
from ..runtime.sinks import ConsoleSink, JsonLinesSink, Sink, TextStream
from ..runtime.source_paced import PacedSource
from ..runtime.sources import Source, SourceSettings, open_source, tells_its_state
from .asking import Asks, asked, asked_before, is_typed_at
from .gate_queries import with_query_of
from .gate_rules import check_gate
from .governing import governed, with_target
from .privacy_rules import unused_zones, with_zones
from .progress import progress_shown, summary_line
from .staging import Staged, staged_run
from .terminal import let_go_of_gone_terminal

if TYPE_CHECKING:
    from .settings_tables import Settings

NO_LANGUAGE_MODEL = "no language model is attached to this run, so nobody can answer"


def watch_source(
    address: str,
    settings: Settings,
    *,
    bundle: Path | None = None,
    asks: Asks | None = None,
    jsonl: Path | None = None,
    json_to_stdout: bool = False,
    state: Path | None = None,
    tells: Sequence[str] = (),
) -> None:
    """Watch one source to its end, tell every event and answer every question.

    Args:
        address: what `open_source` takes.
        settings: all choices of the user.
        bundle: folder of the model that speaks; None for events alone.
        asks: questions; only with a bundle.
        jsonl: file to which every record is appended; None for none.
        json_to_stdout: records instead of lines for people on stdout.
        state: folder of which the memory goes on, and into which it is saved; None for neither.
        tells: standing requests in the user's words; only with a bundle.

    Raises:
        EdgeStreamError: settings, source or output are at fault.
        KeyboardInterrupt: the user left; everything is closed and the last counters are out.
    """
    check_gate(settings, has_language_model=bundle is not None)
    if state is not None:
        from .state_keeping import check_state

        check_state(settings, has_bundle=bundle is not None)
    settings = with_target(settings)
    source = source_from_settings(address, settings)
    settings = with_query_of(settings, source.name)
    _check_not_the_source(address, jsonl)
    with ExitStack() as stack:
        left = stack.enter_context(left_by_terminate())
        file_sinks: list[Sink] = []
        if jsonl is not None:
            file_sinks.append(JsonLinesSink(jsonl, left.is_set))
            stack.callback(file_sinks[0].close)
        stdout = stdout_lines(left.is_set, is_json=json_to_stdout)
        asks = asks or Asks()
        read = partial(asked_before, asks, is_live=source.is_live, has_left=left.is_set)
        staged = stack.enter_context(staged_run(bundle, settings, read, state, tells))
        is_typed = staged.can_answer and is_typed_at()
        # A bar that moves would run through what is typed.
        bar = nullcontext((source, stdout)) if is_typed else progress_shown(source, stdout)
        shown, lines = stack.enter_context(bar)
        sinks = [*_stdout_sinks(stdout, lines, is_json=json_to_stdout), *file_sinks]
        if sys.stderr is not None:
            stack.callback(_say_summary, staged.stages.metrics, source, sys.stderr)
        if staged.kept is None:
            _run(shown, staged, asks, sinks, settings, left)
            return
        with staged.kept.saved_at_the_end():
            _run(staged.kept.continued(shown), staged, asks, sinks, settings, left)


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
    staged: Staged,
    asks: Asks,
    sinks: list[Sink],
    settings: Settings,
    left: threading.Event,
) -> None:
    inbox = Inbox(
        source.now_s,
        # What was asked beforehand is a list that somebody wrote: it is never too long.
        capacity=max(settings.session.questions_waiting, len(staged.known)),
        refusal=None if staged.can_answer else NO_LANGUAGE_MODEL,
    )
    records = Outlet(
        sinks,
        camera=source.name,
        clock=source.now_s,
        capacity=settings.records.outlet_capacity,
    )
    records.put_all(unused_zones(source.name, settings.privacy))
    records.put_all((*staged.notes, *governed(staged.stages, settings, source)))
    if staged.kept is not None:
        staged.kept.keeper.tell = records.put
    with ExitStack() as stack:
        if staged.can_answer:
            # A file that is played at its own speed has an end as well; a camera has none.
            has_end = not tells_its_state(source)
            reads_stdin = asks.reads_stdin and source.is_live
            stack.enter_context(
                asked(staged.known, inbox, has_end=has_end, reads_stdin=reads_stdin)
            )
        run(source, staged.stages, inbox, records, left=left)


def source_settings(settings: Settings) -> SourceSettings:
    """How a source is sampled, and how patient it is, as the settings say it."""
    chosen, live = settings.source, LiveRules(**settings.live.model_dump())
    return SourceSettings(chosen.fps, chosen.max_side_px, live)


def source_from_settings(address: str, settings: Settings) -> Source:
    """The source at an address, its zones hidden, sampled and paced as the settings say.

    Raises:
        SourceError: nothing can be read there.
        ZoneInvalid: a zone of any camera is none.
    """
    source = with_zones(open_source(address, source_settings(settings)), settings.privacy)
    if settings.source.realtime and not source.is_live:
        return PacedSource(source, sleep=time.sleep, monotonic=time.monotonic)
    return source


@contextmanager
def left_by_terminate() -> Iterator[threading.Event]:
    """An event that SIGTERM and SIGHUP set: a clean end with the last counters.

    So for a service manager, and where the terminal is closed; under `nohup`, which has SIGHUP
    ignored, the run goes on.
    """
    left = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield left  # only the main thread may say what a signal does
        return
    ways = [signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        ways.append(signal.SIGHUP)

    def leave(number: int, where: object) -> None:
        left.set()
        let_go_of_gone_terminal()

    before = {way: signal.signal(way, leave) for way in ways}
    try:
        yield left
    finally:
        for way, handler in before.items():
            signal.signal(way, handler)


def _say_summary(metrics: Metrics, source: Source, stream: TextIO) -> None:
    stats = metrics.stats().body
    if stats["frames_seen"]:
        print(summary_line(stats, source.now_s()), file=stream)
