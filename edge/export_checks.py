"""What `edgestream export` refuses before it begins."""

from __future__ import annotations

from pathlib import Path

from ..runtime.errors import UsageError
from ..runtime.file_names import MANIFEST_FILE
from ..runtime.whole_folder import check_place

TARGETS = ("cpu", "cuda")


def refuse_other_targets(
    target: str, *, is_searched: bool = False, has_adapters: bool = False
) -> None:
    """Raise UsageError for a target that this version does not write, or cannot measure."""
    if target not in TARGETS:
        raise UsageError(
            f"got --target {target}, expected {' or '.join(TARGETS)}",
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


def check_places(out: Path, report: Path | None, *, force: bool) -> None:
    """Raise OutputError at once, and not after everything was proven."""
    from .contact_sheet import check_writable

    check_place(out, replaces=MANIFEST_FILE if force else None)
    if report is not None:
        check_writable(report)
