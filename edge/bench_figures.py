"""What a benchmark keeps of its measurements: samples by name and round, and figures of them."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from ..runtime.metrics import percentile


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured number; see `metrics` in docs/FORMATS.md, section 5.

    Attributes:
        name: in snake case.
        value: as measured.
        unit: of the value; `1` for a share or a count.
        n: how many samples it was taken of.
        more: what else is told of it: percentiles, range of rounds, warm-up.
    """

    name: str
    value: float
    unit: str
    n: int
    more: Mapping[str, Any] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """One entry of `metrics`."""
        told = {"name": self.name, "value": rounded(self.value), "unit": self.unit, "n": self.n}
        more = {key: _told(value) for key, value in self.more.items()}
        return {**told, **more}


class Samples:
    """Times in ms by name and round. Grows with the rounds, which are few.

    Args:
        budget_s: what one figure may take in one round, seconds; the first sample it always has.
        monotonic: seconds; handed in so that a test can step it.
    """

    def __init__(
        self, *, budget_s: float, monotonic: Callable[[], float] = time.perf_counter
    ) -> None:
        self._budget_s, self.monotonic = budget_s, monotonic
        self._rounds: dict[str, list[list[float]]] = {}
        self._warm_ups: Counter[str] = Counter()
        self._engine_s = self._engine_cpu_s = 0.0

    def measure(self, name: str, measure: Callable[[], float], *, times: int) -> None:
        """A round of a figure: one run to warm up, which is not kept, then at most `times`.

        Args:
            measure: gives what it measured, ms.
        """
        begun_s = self.monotonic()
        measure()
        self._warm_ups[name] += 1
        taken = [measure()]
        while len(taken) < times and self.monotonic() - begun_s < self._budget_s:
            taken.append(measure())
        self.keep(name, taken)

    def keep(self, name: str, taken: list[float]) -> None:
        """A round of a figure that somebody else measured, ms; nothing where it has no sample."""
        if taken:
            self._rounds.setdefault(name, []).append(taken)

    def ms(self, call: Callable[[], object]) -> float:
        """How long the call takes, ms."""
        begun_s = self.monotonic()
        call()
        return 1e3 * (self.monotonic() - begun_s)

    def engine_ms(self, call: Callable[[], object]) -> float:
        """The same; its CPU time counts for `cpu_share`: nothing but an engine runs in it."""
        cpu_s = time.process_time()
        took_ms = self.ms(call)
        self._engine_cpu_s += time.process_time() - cpu_s
        self._engine_s += took_ms / 1e3
        return took_ms

    @property
    def cpu_share(self) -> float:
        """CPU time by wall time while engines ran alone; 1 a thread is undisturbed."""
        return self._engine_cpu_s / self._engine_s if self._engine_s else 0.0

    def latency(self, name: str, **more: Any) -> Figure:
        """Percentiles of all samples, ms; the value is their p50."""
        every = sorted(ms for taken in self._rounds[name] for ms in taken)
        spread = {f"p{share}": percentile(every, share / 100) for share in (50, 90, 99)}
        known = {**spread, "worst": every[-1], "warm_up": self._warm_ups[name], **more}
        return Figure(name, spread["p50"], "ms", len(every), known)

    def rate(self, name: str, of: str, tokens: int) -> Figure:
        """Tokens a second out of the p50 of a latency, from the slowest round to the fastest.

        Args:
            of: name of the latency.
            tokens: that one sample of it took.
        """
        latency, rounds = self.latency(of), [_p50(taken) for taken in self._rounds[of]]
        low, high = (1e3 * tokens / edge(rounds) for edge in (max, min))
        more = {"low": low, "high": high, "tokens": tokens, "rounds": len(rounds)}
        return Figure(name, 1e3 * tokens / latency.value, "tokens/s", latency.n, more)


def over_rounds(name: str, values: list[float], unit: str, **more: Any) -> Figure:
    """The median of what each round found, one sample a round, from the lowest to the highest."""
    spread = {"low": min(values), "high": max(values), "rounds": len(values)}
    return Figure(name, median(values), unit, len(values), {**spread, **more})


def _p50(taken: list[float]) -> float:
    return percentile(sorted(taken), 0.5)


def rounded(value: float) -> float:
    """Six digits; counts of bytes and frames as they are."""
    return value if isinstance(value, int) else float(f"{value:.6g}")


def _told(value: Any) -> Any:
    return rounded(value) if isinstance(value, float) else value
