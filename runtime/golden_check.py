"""Running a bundle's golden calls on this device and saying how far each output is off."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .adapters import adapters_of
from .bundle import Bundle
from .engine import NOTHING, Arrays, Backend, Engine
from .errors import BackendMissing, EngineError, EngineUnusable
from .golden import GoldenCall, Tolerance, golden_of


@dataclass(frozen=True, slots=True)
class OutputCheck:
    """One output of one call against what is expected.

    Attributes:
        call: its name.
        output: its name.
        max_abs: largest difference; infinite where shapes or types differ or a number is lost.
        cosine: smallest between rows of the last axis.
        argmax: share of rows whose largest element is at the same place.
        tolerance: what was asked.
        passed: all bounds hold.
    """

    call: str
    output: str
    max_abs: float
    cosine: float
    argmax: float
    tolerance: Tolerance
    passed: bool


@dataclass(frozen=True, slots=True)
class GoldenResult:
    """What a variant did with its golden calls, without an adapter or with one.

    Attributes:
        role: of the part.
        variant: its id.
        provider: that ran it.
        proof: what the manifest says of it.
        outputs: one check per output of each call.
        run_ms: time of all its calls together, milliseconds.
        fault: why it could not be run; None where it ran.
        is_skipped: nothing here runs its provider.
        adapter: that these calls were run with; None for none.
    """

    role: str
    variant: str
    provider: str
    proof: str
    outputs: tuple[OutputCheck, ...] = ()
    run_ms: float = 0.0
    fault: EngineError | None = None
    is_skipped: bool = False
    adapter: str | None = None

    @property
    def passed(self) -> bool:
        """It ran, there was something to compare, and everything was within its bounds."""
        return self.fault is None and bool(self.outputs) and all(one.passed for one in self.outputs)

    @property
    def failures(self) -> tuple[OutputCheck, ...]:
        """The outputs that are out of their bounds."""
        return tuple(one for one in self.outputs if not one.passed)


def check_golden(
    bundle: Bundle,
    backends: Callable[[str], Backend],
    *,
    clock_s: Callable[[], float] = time.perf_counter,
) -> Iterator[GoldenResult]:
    """Run the golden calls of every variant, and tell of each as soon as it is done.

    A decoder with adapters is told of once without, and once with each. A variant whose provider is
    not installed is skipped; every other fault of an engine is told in its result, so that one
    broken part does not hide the others.

    Args:
        bundle: opened with check="all".
        backends: provider → backend, as `backend_for`.
        clock_s: seconds, for run_ms.

    Raises:
        GoldenInvalid, FormatTooNew: as `read_golden` says.
        BundleFileRefused: as `adapters_of` says.

    Cost: every variant is opened and run once for each of its calls.
    """
    calls = golden_of(bundle.folder)
    for role, variant in bundle.manifest.variants():
        about = (role, variant.id, variant.provider, variant.proof)
        own = [call for call in calls if (call.role, call.variant) == (role, variant.id)]
        try:
            backend = backends(variant.provider)
        except BackendMissing as fault:
            yield GoldenResult(*about, fault=fault, is_skipped=True)
            continue
        begun_s = clock_s()
        try:
            engine = backend.open(bundle.path(variant.file), variant)
        except EngineError as fault:
            yield GoldenResult(*about, fault=fault)
            continue
        with engine:
            for name, tensors in _chosen(bundle, role):
                plain = GoldenResult(*about, adapter=name)
                its = [call for call in own if call.adapter == name]
                try:
                    outputs = [one for call in its for one in check_call(engine, call, tensors)]
                except EngineError as fault:
                    yield replace(plain, fault=fault)
                else:
                    ran_ms = (clock_s() - begun_s) * 1000
                    yield replace(plain, outputs=tuple(outputs), run_ms=ran_ms)
                begun_s = clock_s()


def _chosen(bundle: Bundle, role: str) -> Iterator[tuple[str | None, Arrays]]:
    """No adapter, then each that a part of this role can run with."""
    yield None, NOTHING
    if role == "decoder":
        yield from adapters_of(bundle).tensors.items()


def check_call(
    engine: Engine, call: GoldenCall, adapter: Arrays = NOTHING
) -> Iterator[OutputCheck]:
    """Run one call, with what an adapter adds, and compare its outputs.

    Raises:
        EngineUnusable: the graph has no output of an expected name.
        InputMismatch, EngineFailed, DeviceMemoryExhausted: as `Engine.run` says.
    """
    got = engine.run({**call.inputs, **adapter})
    for name, expected in call.outputs.items():
        if name not in got:
            raise EngineUnusable(f"golden call {call.name!r}: got no output {name}, expected one")
        yield compare(call.name, name, got[name], expected, call.tolerances[name])


def compare(
    call: str, output: str, got: NDArray[Any], expected: NDArray[Any], tolerance: Tolerance
) -> OutputCheck:
    """How far an output is from what is expected.

    An infinity is equal to itself alone; a NaN is never as expected.
    """
    if got.shape != expected.shape or got.dtype != expected.dtype:
        return OutputCheck(call, output, np.inf, 0.0, 0.0, tolerance, passed=False)
    one, other = (np.atleast_1d(array).astype(np.float64) for array in (got, expected))
    max_abs, cosine, argmax = _largest_difference(one, other), _cosine(one, other), 1.0
    if one.size:
        argmax = float(np.mean(one.argmax(-1) == other.argmax(-1)))
    passed = not np.isnan(one).any() and all(
        (
            tolerance.max_abs is None or max_abs <= tolerance.max_abs,
            tolerance.min_cosine is None or cosine >= tolerance.min_cosine,
            tolerance.min_argmax is None or argmax >= tolerance.min_argmax,
        )
    )
    return OutputCheck(call, output, max_abs, cosine, argmax, tolerance, bool(passed))


def _largest_difference(one: NDArray[Any], other: NDArray[Any]) -> float:
    differs = one != other  # equal infinities differ by nothing, yet their difference is no number
    if not differs.any():
        return 0.0
    largest = float(np.max(np.abs(one[differs] - other[differs])))
    return np.inf if np.isnan(largest) else largest


def _cosine(one: NDArray[Any], other: NDArray[Any]) -> float:
    """The smallest over all rows; rows that are equal, zeros and infinities included, have 1."""
    if not one.size:
        return 1.0
    rows, expected = (array.reshape(-1, array.shape[-1]) for array in (one, other))
    unequal = (rows != expected).any(axis=1)
    if not unequal.any():
        return 1.0
    rows, expected = rows[unequal], expected[unequal]
    if not (np.isfinite(rows).all() and np.isfinite(expected).all()):
        return 0.0
    lengths = np.linalg.norm(rows, axis=1) * np.linalg.norm(expected, axis=1)
    products = np.sum(rows * expected, axis=1)
    return float(
        np.min(np.divide(products, lengths, out=np.zeros_like(products), where=lengths > 0))
    )
