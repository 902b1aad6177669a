"""The three gates that a bundle must pass, as values: what was compared, the figure, the bound.

(a) engine: the engine against PyTorch over the weights that *we* dequantize from the original, and
    the codes and scales in the file against those that `quant/numerics` makes of the original.
(b) snr_db: what quantization costs each weight, against the floor of its scheme.
(c) agreement: teacher-forced and greedy agreement with the full-precision model. Where that model
    itself predicts no better than chance (random weights) this gate can only advise.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ..quant.numerics import snr_db
from ..quant.stored import unequal

Gate = Literal["engine", "snr_db", "agreement"]
Float = NDArray[np.floating[Any]]

# Bounds of gate (a), and why. int8 activations alone (weights exact) leave a mean cosine of 0.9986
# on random weights; a wrong scale or row costs far more. Float paths differ by rounding only.
COSINE_MEAN = {"vision": 0.999, "connector": 0.999, "decoder": 0.998}
COSINE_MIN = 0.99
TOP5_SHARE = 0.99
FLOAT_ERROR = 1e-4
# Bounds of gate (c): share of positions at which the most likely token is the same.
TEACHER_FORCED = {"float32": 0.999, "int8": 0.98, "int4": 0.90, "nf4": 0.90}
# A model whose loss is this near to that of blind guessing has not been trained.
CHANCE_SHARE = 0.9


@dataclass(frozen=True, slots=True)
class Check:
    """One comparison.

    Attributes:
        gate: which of the three.
        part: vision, connector, decoder, …
        name: what was compared: a tensor, or a figure over the calibration data.
        value: the figure; exact comparisons count differing elements.
        must: the bound.
        at_least: the figure must be at least the bound; otherwise at most.
        unit: of both.
        is_advisory: shown and never refused.
        note: one sentence for a person, or empty.
    """

    gate: Gate
    part: str
    name: str
    value: float
    must: float
    at_least: bool
    unit: str = "1"
    is_advisory: bool = False
    note: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "value", float(self.value))  # numpy's own is no JSON

    @property
    def passed(self) -> bool:
        """Whether the figure keeps the bound. NaN never does."""
        return self.value >= self.must if self.at_least else self.value <= self.must

    @property
    def margin(self) -> float:
        """How far inside the bound, as a share of it; negative outside. For sorting."""
        if not math.isfinite(self.value):
            return math.inf if self.passed else -math.inf
        if self.must == 0 and self.passed:
            return math.inf  # an exact match has no distance to its bound
        distance = self.value - self.must if self.at_least else self.must - self.value
        return distance / (abs(self.must) or 1.0)

    def sentence(self) -> str:
        """Part, gate, figure and bound in one sentence."""
        word = "at least" if self.at_least else "at most"
        unit = "" if self.unit == "1" else f" {self.unit}"
        return (
            f"{self.part}: gate {self.gate}: {self.name} is {self.value:.5g}{unit}, "
            f"expected {word} {self.must:.5g}{unit}"
        )

    def as_json(self) -> dict[str, Any]:
        """One entry of parity.json."""
        return {
            "gate": self.gate,
            "part": self.part,
            "name": self.name,
            "value": self.value if math.isfinite(self.value) else None,
            "must": self.must,
            "at_least": self.at_least,
            "unit": self.unit,
            "passed": self.passed,
            "advisory": self.is_advisory,
            "note": self.note,
        }


@dataclass(frozen=True, slots=True)
class ParityReport:
    """All checks of one export.

    Attributes:
        checks: in the order in which they were made.
        facts: what they were made on, for a person (counts, seconds, seeds).
    """

    checks: tuple[Check, ...]
    facts: Mapping[str, Any]

    @property
    def failures(self) -> tuple[Check, ...]:
        """Checks that refuse the bundle, worst first."""
        failed = [check for check in self.checks if not (check.passed or check.is_advisory)]
        return tuple(sorted(failed, key=lambda check: check.margin))

    @property
    def passed(self) -> bool:
        """Whether nothing refuses the bundle."""
        return not self.failures

    def as_json(self) -> dict[str, Any]:
        """parity.json."""
        gates = {
            gate: {
                "passed": all(
                    check.passed or check.is_advisory for check in self.checks if check.gate == gate
                ),
                "checks": [check.as_json() for check in self.checks if check.gate == gate],
            }
            for gate in ("engine", "snr_db", "agreement")
        }
        return {"format": 1, "passed": self.passed, "facts": dict(self.facts), "gates": gates}

    def summary(self) -> dict[str, Any]:
        """The manifest's `parity`: per gate, whether it passed and its worst figure per part.

        `weights_look_random` where the checkpoint predicts no better than chance: what such a model
        says is no answer.
        """
        gates: dict[str, dict[str, Any]] = {}
        for gate in ("engine", "snr_db", "agreement"):
            checks = [check for check in self.checks if check.gate == gate]
            checks = [check for check in checks if check.must != 0 or not check.is_advisory]
            worst = {
                part: min(
                    (check for check in checks if check.part == part),
                    key=lambda check: check.margin,
                )
                for part in dict.fromkeys(check.part for check in checks)
            }
            gates[gate] = {
                part: {"worst": check.name, "value": check.as_json()["value"], "must": check.must}
                for part, check in worst.items()
            }
        is_random = any(check.note for check in self.checks if check.gate == "agreement")
        return {"passed": self.passed, "weights_look_random": is_random, "gates": gates}


def cosines(reference: Float, found: Float) -> NDArray[np.float64]:
    """Cosine of each pair of rows.

    Args:
        reference: (…, dim).
        found: the same shape.

    Returns:
        (…,) float64; 0 where either row is all zero or not finite.
    """
    left, right = reference.astype(np.float64), found.astype(np.float64)
    lengths = np.linalg.norm(left, axis=-1) * np.linalg.norm(right, axis=-1)
    with np.errstate(invalid="ignore", divide="ignore"):
        cosine = (left * right).sum(-1) / lengths
    return np.asarray(np.nan_to_num(cosine, nan=0.0, posinf=0.0, neginf=0.0), np.float64)


def stored_weight_check(
    part: str, name: str, stored: Sequence[NDArray[Any]], ours: Sequence[NDArray[Any]]
) -> Check:
    """Codes and scales in the file against those made of the original: not one may differ."""
    differing = sum(unequal(one, other) for one, other in zip(stored, ours, strict=True))
    return stored_count_check(part, name, differing)


def stored_count_check(part: str, name: str, differing: int) -> Check:
    """So many stored numbers differ from those made of the original: not one may."""
    return Check("engine", part, f"stored {name}", differing, 0, False, "differing elements")


def gain_check(part: str, name: str, gain: float) -> Check:
    """A data-aware matrix loses no more of its outputs than rounding to the nearest would, dB."""
    return Check("snr_db", part, f"{name} against rounding", gain, 0.0, True, "dB")


def float_check(part: str, name: str, reference: Float, found: Float) -> Check:
    """A float graph against PyTorch: largest difference, in units of the reference's spread."""
    spread = max(float(reference.std()), 1e-6)
    error = float(np.abs(reference - found).max()) / max(1.0, spread)
    return Check("engine", part, f"largest error of {name}", error, FLOAT_ERROR, False)


def token_checks(part: str, reference: Float, found: Float) -> tuple[Check, ...]:
    """Quantized tokens against PyTorch over dequantized weights.

    Args:
        part: vision or connector.
        reference: (frames, tokens, dim).
        found: the same shape.
    """
    cosine = cosines(reference, found)
    return (
        Check("engine", part, "mean cosine per token", cosine.mean(), COSINE_MEAN[part], True),
        Check("engine", part, "smallest cosine per token", cosine.min(), COSINE_MIN, True),
    )


def logit_checks(reference: Float, found: Float) -> tuple[Check, ...]:
    """Quantized next-token logits against PyTorch over dequantized weights.

    Args:
        reference: (prefixes, vocabulary).
        found: the same shape.
    """
    cosine = cosines(reference, found)
    best_five = np.argpartition(-found, 5, axis=-1)[:, :5]
    in_five = np.mean((best_five == reference.argmax(-1)[:, None]).any(-1))
    mean, must = cosine.mean(), COSINE_MEAN["decoder"]
    return (
        Check("engine", "decoder", "mean cosine of logits", mean, must, True),
        Check("engine", "decoder", "smallest cosine of logits", cosine.min(), COSINE_MIN, True),
        Check("engine", "decoder", "PyTorch's token in the top 5", in_five, TOP5_SHARE, True),
    )


def snr_check(part: str, name: str, original: Float, approximation: Float, floor: float) -> Check:
    """Signal to quantization noise of one weight against its scheme's floor, dB."""
    return noise_check(part, name, snr_db(original, approximation), floor)


def noise_check(part: str, name: str, value_db: float, floor: float) -> Check:
    """The same of a figure in dB."""
    return Check("snr_db", part, name, value_db, floor, True, "dB")


def is_chance(loss: float, vocabulary: int) -> bool:
    """Whether a loss (nats per token) is about that of guessing blindly."""
    return loss >= CHANCE_SHARE * math.log(vocabulary)


def agreement_checks(
    weights: str,
    same_token: Iterable[bool],
    greedy_match: float,
    loss: Mapping[str, float],
    text_loss: float | None,
    vocabulary: int,
) -> tuple[Check, ...]:
    """Agreement of the quantized model with the full-precision one.

    Args:
        weights: float32, int8 or int4.
        same_token: per position, under teacher forcing, whether the most likely token is the same.
        greedy_match: share of greedily decoded tokens before the first that differs.
        loss: nats per token of `reference` (full precision) and `quantized`, on the answers that
            full precision gives.
        text_loss: nats per token of full precision on the calibration texts: whether it has
            learned anything. (Its own answers would not tell: even noise agrees with itself.)
            None where that is known otherwise.
        vocabulary: size, for what chance is.
    """
    share = float(np.mean(list(same_token)))
    untrained = text_loss is not None and is_chance(text_loss, vocabulary)
    note = "the checkpoint predicts no better than chance: weights look random" if untrained else ""
    must = TEACHER_FORCED[weights]
    rise = loss["quantized"] - loss["reference"]
    return (
        Check(
            "agreement",
            "decoder",
            "teacher-forced agreement",
            share,
            must,
            True,
            "1",
            untrained,
            note,
        ),
        Check("agreement", "decoder", "greedy match", greedy_match, 0.0, True, "1", True, note),
        Check("agreement", "decoder", "rise of the loss", rise, 0.0, False, "nats", True, note),
    )
