"""What `edgestream export` refuses before it begins."""

from __future__ import annotations

import re
from pathlib import Path

from ..runtime.errors import UsageError
from ..runtime.file_names import MANIFEST_FILE

TARGETS = ("cpu", "cuda", "tensorrt-rtx", "tensorrt")
_SIZE = re.compile(r"\d{1,5}(x\d{1,5})?", re.ASCII)


def refuse_other_targets(
    target: str, *, is_searched: bool = False, has_adapters: bool = False
) -> None:
    """Raise UsageError for a target that this version does not write, or cannot measure."""
    if target not in TARGETS:
        raise UsageError(
            f"got --target {target}, expected one of {', '.join(TARGETS)}",
            hint="the CPU variant runs everywhere, and is always there",
        )
    if target != "cpu" and is_searched:
        raise UsageError(
            f"got --search with --target {target}, which measures the CPU of this machine alone",
            hint="search first, then export with the --vision and --llm that it chose",
        )
    if target != "cpu" and has_adapters:
        raise UsageError(
            f"got --adapters with --target {target}, whose decoder takes none",
            hint="merge one with --adapter, or keep them beside a bundle for cpu",
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


def refuse_other_sources(vision: str, *, search: bool) -> None:
    """Raise UsageError for a search that was handed a part: it writes its parts itself."""
    if search and vision.endswith(".onnx"):
        raise UsageError(
            f"got --search with --vision {vision}, expected one of both",
            hint="--search compares schemes of our own; without it the file is taken",
        )


def check_places(out: Path, report: Path | None, *, force: bool) -> None:
    """Raise OutputError at once, and not after everything was proven."""
    from ..runtime.whole_folder import check_place  # not at the top: `--help` answers sooner
    from .contact_sheet import check_writable

    check_place(out, replaces=MANIFEST_FILE if force else None)
    if report is not None:
        check_writable(report)


def check_engines(target: str, engines: Path | None) -> None:
    """Raise at once where nothing here compiles engines for this target.

    Raises:
        UsageError, BackendMissing: as `check_builder` says.
    """
    if engines is not None:
        from ..export.engine_from_onnx import check_builder

        check_builder(target)
