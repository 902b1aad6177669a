"""What `edgestream export` refuses before it begins."""

from __future__ import annotations

from pathlib import Path

from ..runtime.errors import UsageError
from ..runtime.file_names import MANIFEST_FILE
from ..runtime.whole_folder import check_place


def refuse_other_targets(target: str) -> None:
    """Raise UsageError for a target that this version does not write."""
    if target != "cpu":
        raise UsageError(
            f"got --target {target}, expected cpu",
            hint="the CPU variant is the only one that this version writes; it runs everywhere",
        )


def refuse_other_sources(vision: str, *, search: bool) -> None:
    """Raise UsageError for a search that was handed a part: it writes its parts itself."""
    if search and vision.endswith(".onnx"):
        raise UsageError(
            f"got --search with --vision {vision}, expected one of both",
            hint="--search compares schemes of our own; without it the file is taken",
        )


def check_places(out: Path, report: Path | None, *, force: bool) -> None:
    """Raise OutputError at once, and not after everything was proven."""
    from .contact_sheet import check_writable

    check_place(out, replaces=MANIFEST_FILE if force else None)
    if report is not None:
        check_writable(report)
