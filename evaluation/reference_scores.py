"""Scores of an assistant on the rendered world, with confidence intervals over clips.

How to think about it: everything is counted clip by clip (`Tally`); a figure is a ratio of two
weighted sums of counts, so that drawing clips anew gives its interval, and drawing the same clips
for two systems gives that of their difference. Pure functions of truth and predictions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 1000
LEVEL = 0.95
"""Of the confidence interval, two-sided."""


@dataclass(frozen=True, slots=True)
class Ratio:
    """How a figure comes from counts: sum of `above` over sum of `below`, times `scale`.

    Attributes:
        above, below: weights of the counts by name; minus the ratio `less`, where there is one.
        scale: factor.
        unit: of the value.
        less: a ratio that is taken off.
    """

    above: Mapping[str, float]
    below: Mapping[str, float]
    scale: float = 1.0
    unit: str = "1"
    less: Ratio | None = None


@dataclass(frozen=True, slots=True)
class Figure:
    """One line of a table, as FORMATS section 5 has it.

    Attributes:
        name: of the metric.
        value: None where there was nothing to measure.
        unit: "1" of a share.
        n: what was counted below the line; of an F1, true and found things.
        ci95: bootstrap interval over clips; None with the value.
    """

    name: str
    value: float | None
    unit: str
    n: int
    ci95: tuple[float, float] | None

    def as_json(self) -> dict[str, object]:
        """A metric of the one-line JSON."""
        return {
            "name": self.name,
            "value": self.value,
            "unit": self.unit,
            "n": self.n,
            "ci95": list(self.ci95) if self.ci95 else None,
        }


@dataclass(frozen=True, slots=True, eq=False)
class Tally:
    """Counts of every clip.

    Attributes:
        names: of the counts.
        counts: (clips, names) float64.
        ratios: the figures that can be had from them.
    """

    names: tuple[str, ...]
    counts: NDArray[np.float64]
    ratios: Mapping[str, Ratio]

    def figures(self, seed: int = 0) -> tuple[Figure, ...]:
        """Every figure with its interval; the same seed gives the same interval."""
        draws = _draws(len(self.counts), seed)
        return tuple(self._figure(name, draws) for name in self.ratios)

    def figure(self, name: str, seed: int = 0) -> Figure:
        """One figure by name."""
        return self._figure(name, _draws(len(self.counts), seed))

    def minus(self, other: Tally, name: str, seed: int = 0) -> Figure:
        """This one's figure minus the other's, on the same clips; drawn in pairs.

        Raises:
            ValueError: they were not counted on the same number of clips.
        """
        if len(self.counts) != len(other.counts):
            raise ValueError(
                f"got {len(self.counts)} and {len(other.counts)} clips, expected the same ones"
            )
        draws = _draws(len(self.counts), seed)
        mine, theirs = self._values(name, draws), other._values(name, draws)
        one, two = self._figure(name, draws), other._figure(name, draws)
        if one.value is None or two.value is None:
            return Figure(name, None, one.unit, 0, None)
        return Figure(
            name, one.value - two.value, one.unit, min(one.n, two.n), _interval(mine - theirs)
        )

    def _values(self, name: str, draws: NDArray[np.float64]) -> NDArray[np.float64]:
        """(draws,) values; NaN where there was nothing to measure."""
        return _values(self.ratios[name], draws @ self.counts, self.names)

    def _figure(self, name: str, draws: NDArray[np.float64]) -> Figure:
        ratio = self.ratios[name]
        whole = self.counts.sum(axis=0, keepdims=True)
        value = float(_values(ratio, whole, self.names)[0])
        if np.isnan(value):
            return Figure(name, None, ratio.unit, 0, None)
        n = round(float(_weighted(ratio.below, whole, self.names)[0]))
        return Figure(name, value, ratio.unit, n, _interval(self._values(name, draws)))


def further_apart(
    pair: tuple[Tally, Tally], other: tuple[Tally, Tally], name: str, seed: int = 0
) -> Figure:
    """How much more the first of a pair is ahead of its second than in another pair.

    Raises:
        ValueError: they were not counted on the same number of clips.
    """
    ahead, behind = pair[0].minus(pair[1], name, seed), other[0].minus(other[1], name, seed)
    if len(pair[0].counts) != len(other[0].counts):
        raise ValueError("got two pairs over different clips, expected the same ones")
    if ahead.value is None or behind.value is None:
        return Figure(name, None, ahead.unit, 0, None)
    draws = _draws(len(pair[0].counts), seed)
    spread = [one._values(name, draws) for one in (*pair, *other)]
    values = spread[0] - spread[1] - (spread[2] - spread[3])
    n = min(ahead.n, behind.n)
    return Figure(name, ahead.value - behind.value, ahead.unit, n, _interval(values))


def _draws(clips: int, seed: int) -> NDArray[np.float64]:
    """(RESAMPLES, clips): how often each clip is drawn."""
    rng = np.random.default_rng(seed)
    return rng.multinomial(clips, np.full(clips, 1 / clips), RESAMPLES).astype(np.float64)


def _weighted(
    weights: Mapping[str, float], sums: NDArray[np.float64], names: Sequence[str]
) -> NDArray[np.float64]:
    total = np.zeros(len(sums))
    for name, weight in weights.items():
        total += weight * sums[:, names.index(name)]
    return total


def _values(ratio: Ratio, sums: NDArray[np.float64], names: Sequence[str]) -> NDArray[np.float64]:
    above, below = (_weighted(weights, sums, names) for weights in (ratio.above, ratio.below))
    with np.errstate(divide="ignore", invalid="ignore"):
        values = np.where(below > 0, ratio.scale * above / below, np.nan)
    if ratio.less is not None:
        values = values - _values(ratio.less, sums, names)
    return np.asarray(values, np.float64)


def _interval(values: NDArray[np.float64]) -> tuple[float, float] | None:
    known = values[~np.isnan(values)]
    if not known.size:
        return None
    low, high = np.quantile(known, ((1 - LEVEL) / 2, (1 + LEVEL) / 2))
    return float(low), float(high)


def tally_of(rows: Sequence[Mapping[str, float]], ratios: Mapping[str, Ratio]) -> Tally:
    """Counts of clips, one mapping each; what is missing in one is 0.

    Raises:
        ValueError: there is no clip.
    """
    if not rows:
        raise ValueError("got no clip to score, expected one or more")
    names = set().union(*rows)
    for ratio in ratios.values():
        for part in (ratio, ratio.less):
            names |= set(part.above) | set(part.below) if part else set()
    ordered = tuple(sorted(names))
    counts = np.array([[row.get(name, 0.0) for name in ordered] for row in rows], np.float64)
    return Tally(ordered, counts, dict(ratios))
