"""What a benchmark says at its end: a table for people, one JSON line for programs.

The line is that of docs/FORMATS.md, section 5; each figure says whether it was to reach something.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from edgestream.edge.machine import this_machine


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured number.

    Attributes:
        name: of the metric.
        value: as measured.
        unit: `1` for a share or a ratio.
        n: how many things were measured.
        at_least, at_most: what it must reach; None where it is only told.
    """

    name: str
    value: float
    unit: str
    n: int
    at_least: float | None = None
    at_most: float | None = None

    @property
    def passed(self) -> bool:
        """It reached what it must; true where nothing was asked."""
        above = self.at_least is None or self.value >= self.at_least
        return above and (self.at_most is None or self.value <= self.at_most)

    @property
    def must(self) -> str:
        """What it must reach, in words; empty where nothing was asked."""
        if self.at_least is not None:
            return f"at least {self.at_least:.4g}"
        return "" if self.at_most is None else f"at most {self.at_most:.4g}"

    def as_json(self) -> dict[str, Any]:
        """One entry of `metrics`."""
        told = {"name": self.name, "value": rounded(self.value), "unit": self.unit, "n": self.n}
        must = self.at_least if self.at_least is not None else self.at_most
        return told if must is None else {**told, "must": must, "passed": self.passed}


class BusyTime:
    """Wall and CPU time of this process since it was made."""

    def __init__(self) -> None:
        self._wall_s, self._cpu_s = time.perf_counter(), time.process_time()

    def wall_s(self) -> float:
        """Seconds since then."""
        return time.perf_counter() - self._wall_s

    def cpu_share(self) -> float:
        """CPU seconds per wall second; 1.0 is one thread that nobody disturbed."""
        return (time.process_time() - self._cpu_s) / max(self.wall_s(), 1e-9)


def rounded(value: float) -> float:
    """Four digits that say something."""
    return float(f"{value:.4g}")


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows as text, columns aligned; a cell without a value is a dash."""
    heads = list(dict.fromkeys(head for row in rows for head in row))
    lines = [heads, *[[_cell(row.get(head)) for head in heads] for row in rows]]
    widths = [max(len(line[column]) for line in lines) for column in range(len(heads))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def report(
    command: str,
    rows: Sequence[Mapping[str, Any]],
    figures: Sequence[Figure],
    *,
    bundle_sha256: str | None,
    threads: int,
    cpu_share: float,
    **more: Any,
) -> bool:
    """Print both; the JSON line is the last one. True where every figure is as it must be."""
    machine = this_machine()
    print(table(rows))
    for figure in figures:
        if figure.must:
            verdict = "passed" if figure.passed else "FAILED"
            value = f"{figure.value:.4g} {figure.unit}"
            print(f"{verdict}  {figure.name}: {value} (must be {figure.must})")
    print(f"{machine.cpu}, {machine.cores} cores, {threads} thread(s), CPU share {cpu_share:.2f}")
    passed = all(figure.passed for figure in figures)
    line = {
        "schema": "edgestream.bench/1",
        "command": command,
        "bundle_sha256": bundle_sha256,
        "machine": {"cpu": machine.cpu, "cores": machine.cores, "ram_bytes": machine.ram_bytes,
                    "gpu": machine.gpu},
        "threads": threads,
        "cpu_share": round(cpu_share, 3),
        "metrics": [figure.as_json() for figure in figures],
        "passed": passed,
        **more,
    }  # fmt: skip
    print(json.dumps(line))
    return passed
