"""Which tensor gets which scheme, decided by rules and printable before anything is written.

Rules are tried in order, the first one that matches decides. What it decides may not be possible
(a bias has no rows); then the tensor stays float32, and the plan says why.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, Literal, TypeAlias, get_args

from ..runtime.errors import SchemeUnknown
from .schemes import FP32, INT4_64, INT8, PART_NAMES, PartName, Scheme

Role: TypeAlias = Literal["linear", "head", "embedding", "conv", "norm", "bias", "other"]


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """A tensor of a checkpoint, without its numbers.

    Attributes:
        name: as in the checkpoint.
        shape: as PyTorch keeps it, (out, in) for a linear layer.
        role: what it is for; `head` is the linear layer to the vocabulary.
        stored_bits: of one number in the checkpoint, 16 for bfloat16.
    """

    name: str
    shape: tuple[int, ...]
    role: Role
    stored_bits: int = 32

    def __post_init__(self) -> None:
        if self.role not in get_args(Role):
            raise ValueError(f"TensorInfo.role must be in {get_args(Role)}: {self.role!r}")
        if any(side < 1 for side in self.shape):
            raise ValueError(f"TensorInfo.shape of {self.name}: {self.shape}")

    @property
    def weights(self) -> int:
        """How many numbers it holds."""
        return math.prod(self.shape)


@dataclass(frozen=True, slots=True)
class Rule:
    """A scheme for all tensors that match.

    Attributes:
        pattern: of ROLE/NAME, with the shell's * and ?: `linear/*`, `*/model.layers.0.*`.
        scheme: what they get.
        because: why, where it is not plain; shown in the plan.
    """

    pattern: str
    scheme: Scheme
    because: str = ""

    def matches(self, tensor: TensorInfo) -> bool:
        """Whether this rule speaks of that tensor; upper and lower case differ."""
        return fnmatchcase(f"{tensor.role}/{tensor.name}", self.pattern)


@dataclass(frozen=True, slots=True)
class Decision:
    """What one tensor gets.

    Attributes:
        tensor: which.
        scheme: how it is stored.
        rule: which rule decided.
        reason: why it is not as the rule says, or why the rule says so; may be empty.
        bytes_after: with scales and zero points, bytes.
    """

    tensor: TensorInfo
    scheme: Scheme
    rule: Rule
    reason: str
    bytes_after: int

    @property
    def bytes_before(self) -> int:
        """In the checkpoint, bytes."""
        return self.tensor.weights * self.tensor.stored_bits // 8

    @property
    def bits_per_weight(self) -> float:
        """Scales and zero points included."""
        return 8 * self.bytes_after / self.tensor.weights

    def as_json(self) -> dict[str, Any]:
        """One row of the plan."""
        return {
            "tensor": self.tensor.name,
            "role": self.tensor.role,
            "shape": list(self.tensor.shape),
            "scheme": self.scheme.name,
            "rule": self.rule.pattern,
            "reason": self.reason,
            "bytes_before": self.bytes_before,
            "bytes_after": self.bytes_after,
            "bits_per_weight": round(self.bits_per_weight, 4),
        }


@dataclass(frozen=True, slots=True)
class Plan:
    """A scheme for each tensor, in the order of the checkpoint.

    Attributes:
        decisions: one per tensor.
        idle_rules: rules that decided nothing: mistyped, or not needed.
    """

    decisions: tuple[Decision, ...]
    idle_rules: tuple[Rule, ...] = ()

    @property
    def bytes_before(self) -> int:
        """Of all tensors in the checkpoint, bytes."""
        return sum(each.bytes_before for each in self.decisions)

    @property
    def bytes_after(self) -> int:
        """Of all tensors in the bundle, bytes."""
        return sum(each.bytes_after for each in self.decisions)

    @property
    def bits_per_weight(self) -> float:
        """Over all tensors; 0 for a plan of none."""
        weights = sum(each.tensor.weights for each in self.decisions)
        return 8 * self.bytes_after / weights if weights else 0.0

    def scheme_of(self, name: str) -> Scheme:
        """The scheme of the tensor of this name; KeyError where there is none."""
        return {each.tensor.name: each.scheme for each in self.decisions}[name]

    def as_json(self) -> dict[str, Any]:
        """Rows, rules that decided nothing, and sums."""
        return {
            "tensors": [each.as_json() for each in self.decisions],
            "idle_rules": [rule.pattern for rule in self.idle_rules],
            "bytes_before": self.bytes_before,
            "bytes_after": self.bytes_after,
            "bits_per_weight": round(self.bits_per_weight, 4),
        }

    def as_text(self, largest_first: bool = False) -> str:
        """An aligned table with a line of sums, for people.

        Args:
            largest_first: sorted by bytes in the bundle; otherwise as in the checkpoint.
        """
        decisions = self.decisions
        if largest_first:
            decisions = tuple(
                sorted(decisions, key=lambda each: (-each.bytes_after, each.tensor.name))
            )
        rows: list[tuple[str, ...]] = [
            ("tensor", "role", "shape", "scheme", "bits", "MB", "rule", "")
        ]
        rows += [_row(each) for each in decisions]
        rows.append(
            (
                f"{len(decisions)} tensors",
                "",
                "",
                "",
                f"{self.bits_per_weight:.2f}",
                f"{self.bytes_after / 1e6:.3f}",
                f"was {self.bytes_before / 1e6:.3f} MB",
                "",
            )
        )
        widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
        lines = [
            "  ".join(
                cell.rjust(width) if column in (4, 5) else cell.ljust(width)
                for column, (cell, width) in enumerate(zip(row, widths, strict=True))
            ).rstrip()
            for row in rows
        ]
        return "\n".join(lines + [f"rule decided nothing: {r.pattern}" for r in self.idle_rules])


def plan_for(tensors: Sequence[TensorInfo], rules: Sequence[Rule]) -> Plan:
    """The plan that these rules make for these tensors; the first rule that matches decides.

    Raises:
        ValueError: two tensors of one name, or a tensor that no rule matches (end with `*`).
    """
    names = [tensor.name for tensor in tensors]
    if len(set(names)) != len(names):
        twice = sorted({name for name in names if names.count(name) > 1})
        raise ValueError(f"a plan needs each tensor once, got twice: {', '.join(twice)}")
    decisions = tuple(_decision(tensor, rules) for tensor in tensors)
    used = {each.rule for each in decisions}
    return Plan(decisions, tuple(rule for rule in rules if rule not in used))


def default_rules(part: PartName, scheme: Scheme | None = None) -> tuple[Rule, ...]:
    """What a part gets when nobody says more: its linear layers the scheme, all else float32.

    Args:
        part: vision and connector take a scale per row, the decoder a scale per block.
        scheme: for the linear layers; None for int8, and int4-64 for the decoder.

    Raises:
        SchemeUnknown: this part's engine cannot run the scheme.
    """
    scheme = scheme or (INT4_64 if part == "decoder" else INT8)
    possible = sorted(set(PART_NAMES[part].values()))
    if scheme.name not in possible:
        raise SchemeUnknown(f"got {scheme.name!r} for {part}; it takes {', '.join(possible)}")
    rules = [Rule("linear/*", scheme)]
    if part == "decoder":
        rules.append(Rule("head/*", scheme))
        rules.append(Rule("embedding/*", FP32, "rows are looked up, in a file of their own"))
    return (*rules, Rule("*", FP32))


def stored_bytes(shape: tuple[int, ...], scheme: Scheme) -> int:
    """What a tensor takes in an ONNX file: codes, float32 scales and zero points, bytes.

    A scale per row comes with an int8 zero point; the blocks of MatMulNBits, symmetric, with none.
    """
    if scheme.weights == "float32":
        return 4 * math.prod(shape)
    out_dim, in_dim = shape
    if scheme.block is None:
        return out_dim * (in_dim + 4 + 1)
    blocks = -(-in_dim // scheme.block)
    return out_dim * blocks * (scheme.block * (8 if scheme.weights == "int8" else 4) // 8 + 4)


def _decision(tensor: TensorInfo, rules: Sequence[Rule]) -> Decision:
    rule = next((rule for rule in rules if rule.matches(tensor)), None)
    if rule is None:
        raise ValueError(f"no rule for {tensor.role}/{tensor.name}; the last one should be *")
    hindrance = _hindrance(tensor.shape, rule.scheme)
    scheme = FP32 if hindrance else rule.scheme
    reason = hindrance or rule.because
    return Decision(tensor, scheme, rule, reason, stored_bytes(tensor.shape, scheme))


def _hindrance(shape: tuple[int, ...], scheme: Scheme) -> str:
    """Why a tensor of this shape cannot have the scheme; empty where it can."""
    if scheme.weights == "float32":
        return ""
    if len(shape) != 2:
        return f"{len(shape)}-D, {scheme.name} needs a matrix"
    if scheme.block is not None and shape[1] < scheme.block:
        return f"rows of {shape[1]}, narrower than a block of {scheme.block}"
    if scheme.weights == "nf4" and shape[1] % (scheme.block or 1):
        return f"rows of {shape[1]}, no whole number of blocks of {scheme.block}"
    if stored_bytes(shape, scheme) >= 4 * math.prod(shape):
        return f"rows of {shape[1]}, too narrow: the scales outweigh what is saved"
    return ""


def _row(decision: Decision) -> tuple[str, ...]:
    tensor = decision.tensor
    return (
        tensor.name,
        tensor.role,
        "×".join(map(str, tensor.shape)) or "scalar",
        decision.scheme.name,
        f"{decision.bits_per_weight:.2f}",
        f"{decision.bytes_after / 1e6:.3f}",
        decision.rule.pattern,
        decision.reason,
    )
