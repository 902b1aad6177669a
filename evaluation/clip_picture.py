"""A picture of one clip: its frames, the trace of the gate, true sentences and spoken ones."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..runtime.errors import BackendMissing, OutputUnwritable, UsageError
from .reference_runs import Watched
from .reference_table import truth_and_words
from .world import EVENT_TYPES, Clip

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLUMNS, EVERY = 10, 2
"""Frames in a row of the picture, and which of them are shown."""


def draw_clip(path: Path, name: str, clip: Clip, watched: Watched) -> None:
    """Write the picture; its kind follows the ending, such as .png.

    Args:
        path: of the file.
        name: of the clip.
        clip: with pixels.
        watched: what the assistant made of it.

    Raises:
        BackendMissing: matplotlib is not installed.
        OutputUnwritable: the file cannot be written.
    """
    figure_class = _figure_class()
    assert clip.pixels is not None, "render it with pixels=True"
    words = truth_and_words(clip, watched)
    figure = figure_class(figsize=(12, 6.5 + 0.2 * len(words)), layout="constrained")
    top, middle, bottom = figure.subplots(3, 1, height_ratios=(3, 2.6, 0.4 + 0.25 * len(words)))
    top.imshow(_sheet(clip.pixels[::EVERY]))
    top.set_title(f"{name}: every second frame", loc="left", fontsize=9)
    _trace(middle, watched)
    for axes in (top, bottom):
        axes.axis("off")
    lines = [f"{'frame':>5}  {'true':44} said"]
    lines += [f"{frame:5}  {_cut(true):44} {_cut(said)}" for frame, true, said in words]
    bottom.text(0, 1, "\n".join(lines), va="top", family="monospace", fontsize=7)
    try:
        figure.savefig(path, dpi=110)
    except (OSError, ValueError) as error:
        raise OutputUnwritable(
            f"the picture {path} cannot be written: {error}", hint="name another file, such as .png"
        ) from error


def check_suffix(path: Path) -> None:
    """Refuse a picture of a kind that is not drawn here, before long work.

    Raises:
        BackendMissing: matplotlib is not installed.
        UsageError: the name has another ending, or none.
    """
    kinds = _figure_class()().canvas.get_supported_filetypes()
    # Without an ending, matplotlib would add one: the file would have another name.
    if path.suffix.removeprefix(".").lower() not in kinds:
        raise UsageError(
            f"got the picture {path}, expected a name that ends in .png or another of "
            f"{', '.join(sorted(kinds))}",
            hint="--picture clip.png",
        )


def _figure_class() -> type[Figure]:
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise BackendMissing(
            "a picture needs matplotlib, which is not installed here",
            hint="pip install matplotlib, or leave out --picture",
        ) from error
    return Figure


def _sheet(frames: np.ndarray) -> np.ndarray:
    """The frames side by side in rows of COLUMNS."""
    rows = -(-len(frames) // COLUMNS)
    side = frames.shape[1]
    sheet = np.full((rows * side, COLUMNS * side, 3), 255, np.uint8)
    for number, frame in enumerate(frames):
        row, column = divmod(number, COLUMNS)
        sheet[row * side : (row + 1) * side, column * side : (column + 1) * side] = frame
    return sheet


def _trace(axes: object, watched: Watched) -> None:
    from matplotlib.axes import Axes

    assert isinstance(axes, Axes)
    axes.plot(watched.scores[:, 0], color="black", linewidth=2, label="speak")
    for at, kind in enumerate(EVENT_TYPES):
        scores = watched.scores[:, 1 + at]
        if scores.max() > 0.2:
            axes.plot(scores, linewidth=1, label=kind)
    for frame in watched.said:
        axes.axvline(frame, color="grey", linewidth=0.5)
    axes.set(xlim=(0, len(watched.scores) - 1), ylim=(0, 1), xlabel="frame", ylabel="score")
    axes.legend(fontsize=7, ncols=8, loc="upper right")


def _cut(text: str, most: int = 44) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"
