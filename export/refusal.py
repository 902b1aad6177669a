"""What an export says of a proof that failed, and what to try."""

from __future__ import annotations

from pathlib import Path

from ..calibration.parity import ParityReport
from ..runtime.errors import ParityFailed
from .swappable_adapters import OF_ADAPTER


def refused(report: ParityReport, page: Path | None) -> ParityFailed:
    """The error of a proof that failed.

    Args:
        report: of it.
        page: where every check was written down.
    """
    worst, *others = report.failures
    more = f" (and {len(others)} more)" if others else ""
    return ParityFailed(
        f"{worst.sentence()}{more}; no bundle was written",
        hint=_hint([one.name for one in report.failures], page),
    )


def _hint(failed: list[str], page: Path | None) -> str:
    adapters = [name.partition(OF_ADAPTER)[2] for name in failed]
    if all(adapters):
        return (
            f"the model alone is sound, {adapters[0]} moves it too far: lower lora_alpha in its "
            "adapter_config.json, train it at a lower rate, or merge it with --adapter"
        )
    if page is not None:
        return f"{page} shows every check"
    return "--report FILE.html writes every check down; --llm int8 or fp32 loses less"
