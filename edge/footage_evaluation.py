"""`eval footage`: the reference assistant on stills of somebody's own clips, as a table."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..evaluation.footage import Footage, footage_from_source
from ..evaluation.reference_footage import DONE, Example, examples, footage_lines
from ..evaluation.reference_runs import Watched, watcher
from ..evaluation.reference_table import Line
from ..runtime.bundle import Bundle, open_bundle
from ..runtime.errors import SourceMissing, SourceUnreadable, UsageError
from .result_line import result_line

MOST_CLIPS = 24
"""Each is kept as up to 72 pictures of 640 pixels, 50 MB."""
SUFFIXES = frozenset({".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpg", ".ts", ".webm"})

OnExamples = Callable[[int, int], None]
"""(examples that are done, of how many)."""


@dataclass(frozen=True, slots=True, eq=False)
class FootageEvaluation:
    """What was measured.

    Attributes:
        bundle: that was measured.
        footage: names of the clips.
        count: examples of each kind.
        fps: frames per second of them.
        lines: of the table.
        seconds: it took.
        cpu_share: of one core.
    """

    bundle: Bundle
    footage: tuple[str, ...]
    count: int
    fps: float
    lines: tuple[Line, ...]
    seconds: float
    cpu_share: float

    @property
    def passed(self) -> bool:
        """Every bound is kept."""
        return all(line.passed is not False for line in self.lines)

    def as_json(self) -> dict[str, Any]:
        """The one line of `edgestream.bench/1` (docs/FORMATS.md, section 5)."""
        facts = {
            "subject": "footage",
            "footage": {"clips": len(self.footage), "examples": self.count, "fps": self.fps},
            "processes": 1,
            "seconds": round(self.seconds, 1),
        }
        return result_line(self.bundle, self.cpu_share, facts, self.lines, self.passed)


def evaluate_footage(
    bundle: Path,
    clips: Path,
    *,
    count: int = 32,
    fps: float = 4.0,
    seed: int = 0,
    on_examples: OnExamples = lambda done, all_: None,
) -> FootageEvaluation:
    """Measure a bundle on what is done to stills of real clips.

    Args:
        bundle: folder.
        clips: folder with two or more videos; the first MOST_CLIPS by name are read.
        count: examples of each kind.
        fps: frames per second of them.
        seed: of everything random.
        on_examples: told how far it is.

    Raises:
        BundleError: the bundle cannot be used.
        SourceError: a clip cannot be read.
        UsageError: there are fewer than two.

    Cost: about 70 ms an example on one core, after reading the clips.
    """
    opened = open_bundle(bundle)
    footage = [footage_from_source(str(path), fps=fps) for path in _videos(clips)]
    begun, cpu_begun = time.monotonic(), time.process_time()
    seen = _seen(opened, footage, count, fps, seed, on_examples)
    lines = footage_lines(seen, fps)
    seconds = time.monotonic() - begun
    return FootageEvaluation(
        bundle=opened,
        footage=tuple(one.name for one in footage),
        count=count,
        fps=fps,
        lines=lines,
        seconds=seconds,
        cpu_share=(time.process_time() - cpu_begun) / max(seconds, 1e-9),
    )


def _seen(
    bundle: Bundle,
    footage: Sequence[Footage],
    count: int,
    fps: float,
    seed: int,
    on_examples: OnExamples,
) -> Iterator[tuple[Example, Watched]]:
    wanted = count * (len(DONE) + 1)
    with watcher(bundle, "own_text") as one:
        for done, example in enumerate(examples(footage, count=count, fps=fps, seed=seed), 1):
            yield example, one.see(example[1])
            on_examples(done, wanted)


def _videos(folder: Path) -> list[Path]:
    hint = "name a folder with two or more clips of your camera"
    if not folder.exists():
        raise SourceMissing(f"got {str(folder)!r}, but there is no such folder", hint=hint)
    if not folder.is_dir():
        raise SourceUnreadable(f"got {str(folder)!r}, expected a folder", hint=hint)
    videos = sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)
    if len(videos) < 2:
        raise UsageError(
            f"got {len(videos)} videos in {folder.name}, expected two or more to cut between",
            hint=hint,
        )
    return videos[:MOST_CLIPS]
