"""The error of an export whose proof refused: the worst check, and what to try."""

from __future__ import annotations

from pathlib import Path

from ..calibration.parity import ParityReport
from ..runtime.errors import ParityFailed


def refusal(report: ParityReport, page: Path | None) -> ParityFailed:
    """What to raise for a report that did not pass.

    Args:
        report: of the proof.
        page: where the user has it as a page; None for nowhere.
    """
    worst, *others = report.failures
    more = f" (and {len(others)} more)" if others else ""
    hint = "--report FILE.html writes every check down; --llm int8 or fp32 loses less"
    if page is not None:
        hint = f"{page} shows every check"
    return ParityFailed(f"{worst.sentence()}{more}; no bundle was written", hint=hint)
