"""`eval reference`: a bundle on the frozen set, in as many processes as are wanted, as a table."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..evaluation.reference_against import lines_against
from ..evaluation.reference_baselines import majority_answers, rule_prediction
from ..evaluation.reference_runs import MODES, Mode, Sight, Watched, eyes_of, watcher
from ..evaluation.reference_table import Line, differences, table, tallies_of
from ..evaluation.world import Clip, frozen_clips, frozen_set, render_clip
from ..evaluation.world_scores import ClipPrediction
from ..runtime.bundle import Bundle, open_bundle
from ..runtime.errors import UsageError
from .result_line import result_line

PART_CLIPS = 20
"""Clips that a process takes at a time."""
MAJORITY_CLIPS = 300
"""Training clips on which the most frequent answers are counted."""

OnClips = Callable[[int, int], None]
"""(clips that are done, of how many)."""


@dataclass(frozen=True, slots=True, eq=False)
class Evaluation:
    """What was measured.

    Attributes:
        bundle: that was measured.
        clips: of the frozen set.
        lines: of the table.
        compared: lines of the difference from full precision, and from another bundle; none where
            nothing was compared.
        seconds: it took.
        cpu_share: of one core, of each process.
        processes: that worked.
        first: what the assistant made of the first clip, for a picture.
        against: sha256 of the other bundle; None where nothing was compared with one.
    """

    bundle: Bundle
    clips: int
    lines: tuple[Line, ...]
    compared: tuple[Line, ...]
    seconds: float
    cpu_share: float
    processes: int
    first: Watched
    against: str | None = None

    @property
    def passed(self) -> bool:
        """Every bound is kept."""
        return all(line.passed is not False for line in (*self.lines, *self.compared))

    def as_json(self) -> dict[str, Any]:
        """The one line of `edgestream.bench/1` (docs/FORMATS.md, section 5)."""
        facts: dict[str, Any] = {
            "subject": "reference",
            "frozen_set": {"truth_sha256": frozen_set().truth_sha256, "clips": self.clips},
            "processes": self.processes,
            "seconds": round(self.seconds, 1),
        }
        if self.against is not None:
            facts["against_sha256"] = self.against
        lines = (*self.lines, *self.compared)
        return result_line(self.bundle, self.cpu_share, facts, lines, self.passed)


@dataclass(frozen=True, slots=True, eq=False)
class _Part:
    """What one process found of some clips."""

    watched: dict[Mode, list[Watched]]
    rule: list[ClipPrediction]
    cpu_s: float


def evaluate_reference(
    folder: Path,
    *,
    clips: int | None = None,
    full: Path | None = None,
    against: Path | None = None,
    processes: int = 1,
    on_clips: OnClips = lambda done, all_: None,
) -> Evaluation:
    """Measure a bundle on the frozen set.

    Args:
        folder: of the bundle.
        clips: how many of the set, from its beginning; None for all.
        full: a bundle of the same checkpoint in full precision, to take the difference from.
        against: another bundle, which every line is compared with.
        processes: that share the clips, one thread each.
        on_clips: told how far it is.

    Raises:
        BundleError: a bundle cannot be used.
        QualityError, UsageError: as `checked_count`.

    Cost: about 1.5 s a clip on one core, and 0.5 s for each further bundle with the same vision
        and gate.
    """
    bundle, count = open_bundle(folder), checked_count(clips)
    begun = time.monotonic()
    others = [one for one in (full, against) if one is not None]
    folders = [folder, *others]
    parts = list(_parts(folders, count, processes, on_clips))
    truth = [clip for _, clip in frozen_clips(count, pixels=False)]
    watched = [_joined(parts, at) for at in range(len(folders))]
    tallies = [tallies_of(truth, one) for one in watched]
    rule = [one for part in parts for one in part[0].rule]
    majority = majority_answers(
        render_clip(seed, frozen_set().frames, pixels=False) for seed in range(MAJORITY_CLIPS)
    )
    seconds = time.monotonic() - begun
    cpu_s = sum(one.cpu_s for part in parts for one in part)
    return Evaluation(
        bundle=bundle,
        clips=count,
        lines=table(truth, tallies[0], rule, majority),
        compared=(
            *(() if full is None else differences(tallies[0], tallies[1])),
            *(() if against is None else lines_against(tallies[0], tallies[-1])),
        ),
        seconds=seconds,
        cpu_share=cpu_s / max(seconds * processes, 1e-9),
        processes=processes,
        first=watched[0]["own_text"][0],
        against=None if against is None else open_bundle(against, check="manifest").sha256,
    )


def checked_count(clips: int | None) -> int:
    """How many clips of the frozen set are meant; None for all.

    Raises:
        QualityError: the frozen set is not the one that was frozen.
        UsageError: it does not have so many.
    """
    most = frozen_set().clips
    if clips is not None and not 1 <= clips <= most:
        raise UsageError(
            f"got --clips {clips}, expected 1 to {most}: the frozen set has no more",
            hint="leave --clips out for all of them",
        )
    return most if clips is None else clips


def first_clip() -> tuple[str, Clip]:
    """Name and pixels of the clip that `Evaluation.first` is about."""
    return next(frozen_clips(1))


def _parts(
    folders: Sequence[Path], count: int, processes: int, on_clips: OnClips
) -> Iterator[list[_Part]]:
    """What was found of each stretch of clips, in order; one `_Part` for each bundle."""
    stretches = [(at, min(PART_CLIPS, count - at)) for at in range(0, count, PART_CLIPS)]
    done = 0
    if processes == 1:
        results: Iterator[list[_Part]] = (_watch_part(folders, *one) for one in stretches)
        for (_, size), part in zip(stretches, results, strict=True):
            on_clips(done := done + size, count)
            yield part
        return
    before = multiprocessing.active_children()
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(processes, context, initializer=_begin_worker)
    try:
        with _interrupts_held():
            waiting = [pool.submit(_watch_part, folders, *one) for one in stretches]
        for (_, size), one in zip(stretches, waiting, strict=True):
            part = one.result()
            on_clips(done := done + size, count)
            yield part
    except BaseException:  # an interrupt too: nobody waits for the parts that are left
        pool.shutdown(wait=False, cancel_futures=True)
        for worker in multiprocessing.active_children():
            if worker not in before:
                worker.terminate()
        raise
    pool.shutdown()


@contextmanager
def _interrupts_held() -> Iterator[None]:
    """Ctrl-C comes a moment later: workers that start meanwhile do not hear it either."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _begin_worker() -> None:
    """Leave Ctrl-C of a terminal to the process that started this one; end when that has ended.

    A process that is killed tells its workers nothing, and they would wait for work for ever.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    assert parent is not None, "called in a worker alone"

    def wait() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=wait, name="edgestream parent", daemon=True).start()


def _watch_part(folders: Sequence[Path], first: int, count: int) -> list[_Part]:
    """Some clips in all modes, for each bundle; the rule watches once."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    clips = [clip for _, clip in frozen_clips(count, first=first)]
    found = []
    sights: dict[str, list[Sight]] = {}
    for number, folder in enumerate(folders):
        begun = time.process_time()
        bundle = open_bundle(folder, check="manifest")
        watched: dict[Mode, list[Watched]] = {}
        for mode in MODES:
            with watcher(bundle, mode) as one:
                # The same eyes see the same, whatever is said of it: they look once.
                seen = sights.setdefault(eyes_of(bundle), [])
                for clip in clips[len(seen) :]:
                    assert clip.pixels is not None, "a frozen clip comes with them"
                    seen.append(one.look(list(zip(clip.time_s, clip.pixels, strict=True))))
                watched[mode] = [
                    one.watch(clip, sight) for clip, sight in zip(clips, seen, strict=True)
                ]
        rule = [] if number else [rule_prediction(clip) for clip in clips]
        found.append(_Part(watched, rule, time.process_time() - begun))
    return found


def _joined(parts: Sequence[Sequence[_Part]], at: int) -> dict[Mode, list[Watched]]:
    return {mode: [one for part in parts for one in part[at].watched[mode]] for mode in MODES}
