"""The one line of `eval`: docs/FORMATS.md, section 5."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from .. import __version__
from ..runtime.bundle import Bundle
from .machine import this_machine

if TYPE_CHECKING:
    from ..evaluation.reference_table import Line

SCHEMA = "edgestream.bench/1"


def result_line(
    bundle: Bundle,
    cpu_share: float,
    facts: Mapping[str, Any],
    lines: Sequence[Line],
    passed: bool,
) -> dict[str, Any]:
    """What was measured of a bundle, and where.

    Args:
        bundle: that was measured.
        cpu_share: CPU time by wall time, of each process of one thread.
        facts: of the measurement itself.
        lines: of its table.
        passed: every bound is kept.
    """
    return {
        "schema": SCHEMA,
        "command": "eval",
        "bundle_sha256": bundle.sha256,
        "machine": {**asdict(this_machine()), "providers": {"cpu": "proven"}},
        "edgestream": __version__,
        "threads": 1,
        "cpu_share": round(cpu_share, 3),
        **facts,
        "metrics": [line.as_json() for line in lines],
        "passed": passed,
    }
