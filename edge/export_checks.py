"""What `edgestream export` refuses before it begins."""

from __future__ import annotations

import re
from pathlib import Path

from ..runtime.errors import UsageError
from ..runtime.file_names import MANIFEST_FILE
from ..runtime.whole_folder import check_place

_SIZE = re.compile(r"\d{1,5}(x\d{1,5})?", re.ASCII)


def refuse_other_targets(target: str) -> None:
    """Raise UsageError for a target that this version does not write."""
    if target != "cpu":
        raise UsageError(
            f"got --target {target}, expected cpu",
            hint="the CPU variant is the only one that this version writes; it runs everywhere",
        )


def parsed_frame_px(text: str) -> int | tuple[int, int]:
    """The side of a square, or (height, width), px, of `448` or `896x504` (width first).

    Raises:
        UsageError: it is neither.
    """
    sides = [int(side) for side in text.split("x")] if _SIZE.fullmatch(text) else []
    if not sides or 0 in sides:
        raise UsageError(
            f"got --frame-px {text}, expected a side or a width and a height, px",
            hint="--frame-px 448 is a square, --frame-px 896x504 a wide picture",
        )
    return sides[0] if len(set(sides)) == 1 else (sides[1], sides[0])


def check_places(out: Path, report: Path | None, *, force: bool) -> None:
    """Raise OutputError at once, and not after everything was proven."""
    from .contact_sheet import check_writable

    check_place(out, replaces=MANIFEST_FILE if force else None)
    if report is not None:
        check_writable(report)
