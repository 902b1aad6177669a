"""What a search for a plan found: as a file, in the manifest, and as a table in the report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from statistics import median
from typing import Any

from .plan_choice import ANSWER_TOKENS, FORMULA, PROMPT_POSITIONS, Choice, PlanRow, Workload

SEARCH_FILE = "search.json"
HEADER = ("vision", "llm", "ms/s", "ms/frame", "tok/s", "prompt ms", "MB", "")


@dataclass(frozen=True, slots=True)
class Searched:
    """What was tried, and what was chosen.

    Attributes:
        rows: every plan, those that passed first and the fastest of them first.
        choice: of them.
        workload: that they are compared by.
        threads: of each engine.
        rounds: in which each part was measured once.
        cpu_share: CPU time by wall time and thread while engines ran; 1 where nobody disturbed.
        clock: what was measured: `cpu` time of one thread, or `wall` time of several.
    """

    rows: tuple[PlanRow, ...]
    choice: Choice
    workload: Workload
    threads: int
    rounds: int
    cpu_share: float
    clock: str

    def as_json(self) -> dict[str, Any]:
        """The file `search.json` of the bundle."""
        return {
            **self.summary(),
            "formula": FORMULA,
            "prompt_positions": PROMPT_POSITIONS,
            "rounds": self.rounds,
            "threads": self.threads,
            "cpu_share": round(self.cpu_share, 3),
            "clock": self.clock,
            "tied": [{"vision": row.vision, "llm": row.llm} for row in self.choice.tied],
            "candidates": [row.as_json() for row in self.rows],
        }

    def summary(self) -> dict[str, Any]:
        """`search` of the manifest."""
        chosen = self.choice.chosen
        return {
            "vision": chosen.vision,
            "llm": chosen.llm,
            "because": self.choice.because,
            "workload": {
                "frames_per_s": self.workload.frames_per_s,
                "tokens_per_s": self.workload.tokens_per_s,
            },
            "file": SEARCH_FILE,
        }

    def table(self) -> list[tuple[str, ...]]:
        """A row for each plan below HEADER, as people read it."""
        return [_cells(row, self.choice) for row in self.rows]

    def as_html(self) -> str:
        """A section of the report."""
        work = self.workload
        head = "".join(f"<th>{escape(cell)}</th>" for cell in HEADER)
        rows = "".join(_html_row(cells) for cells in self.table())
        return (
            f"<h2>Search: the plans, measured on the machine of the export</h2>"
            f"<p>{escape(self.choice.because)}.</p><p class='soft'>"
            f"{work.frames_per_s:g} frames and {work.tokens_per_s:g} tokens in each second of the "
            f"stream; an answer reads {PROMPT_POSITIONS} positions and says {ANSWER_TOKENS} tokens."
            f" <code>{escape(FORMULA)}</code>. Medians of {self.rounds} interleaved rounds, "
            f"{self.threads} thread(s), {self.clock} time, CPU share {self.cpu_share:.2f}; a frame "
            f"is vision and connector.</p>"
            f"<div class='wide'><table><tr>{head}</tr>{rows}</table></div>"
        )


def _cells(row: PlanRow, choice: Choice) -> tuple[str, ...]:
    if not row.passed:
        return (row.vision, row.llm, "", "", "", "", f"{row.n_bytes / 1e6:.1f}", row.why_not)
    note = "chosen" if row is choice.chosen else "as fast" if row in choice.tied else ""
    return (
        row.vision,
        row.llm,
        f"{median(row.busy_ms):.1f}",
        f"{row.frame_ms:.2f}",
        f"{1e3 / row.token_ms:.1f}",
        f"{row.prompt_ms:.1f}",
        f"{row.n_bytes / 1e6:.1f}",
        note,
    )


def _html_row(cells: Sequence[str]) -> str:
    words, numbers, note = cells[:2], cells[2:-1], cells[-1]
    told = [f"<td>{escape(cell)}</td>" for cell in words]
    told += [f"<td class='number'>{escape(cell)}</td>" for cell in numbers]
    return f"<tr>{''.join(told)}<td>{escape(note)}</td></tr>"
