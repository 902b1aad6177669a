"""Verify a bundle on this device: every hash, then every golden call of every variant."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from .. import __version__
from ..runtime.bundle import Bundle, Progress, open_bundle
from ..runtime.engine import Backend, backend_for
from ..runtime.errors import EngineError, QualityError
from ..runtime.golden_check import GoldenResult, OutputCheck, check_golden
from .machine import this_machine

SCHEMA = "edgestream.bench/1"
THREADS = 1


@dataclass(frozen=True, slots=True)
class Verification:
    """What verify found.

    Attributes:
        bundle: its hashes were right.
        hash_s: how long hashing took, seconds.
        results: one per variant, in the order of the manifest; of a decoder also per adapter.
    """

    bundle: Bundle
    hash_s: float
    results: tuple[GoldenResult, ...]

    @property
    def exit_code(self) -> int:
        """0; 4 where an engine failed or a part has nothing that runs; 6 for a wrong output."""
        if self.unrunnable or any(one.fault and not one.is_skipped for one in self.results):
            return EngineError.exit_code
        if not all(one.passed or one.is_skipped for one in self.results):
            return QualityError.exit_code
        return 0

    @property
    def unrunnable(self) -> tuple[str, ...]:
        """Roles of which no variant could be run."""
        roles = dict.fromkeys(one.role for one in self.results)
        ran = {one.role for one in self.results if not one.is_skipped}
        return tuple(role for role in roles if role not in ran)

    def as_json(self) -> dict[str, Any]:
        """The one line of `edgestream.bench/1` (docs/FORMATS.md, section 5)."""
        passed = self.exit_code == 0
        return {
            "schema": SCHEMA,
            "command": "verify",
            "bundle_sha256": self.bundle.sha256,
            "machine": {**asdict(this_machine()), "providers": self._providers()},
            "edgestream": __version__,
            "threads": THREADS,
            "cpu_share": None,
            "metrics": [_metric(one) for one in self.results],
            "variants": [_variant_as_json(one) for one in self.results],
            "passed": passed,
        }

    def _providers(self) -> dict[str, str]:
        verdicts: dict[str, str] = {}
        for one in self.results:
            if one.outputs:
                verdicts[one.provider] = "proven"
            elif one.fault is not None:
                verdicts.setdefault(one.provider, f"refused: {one.fault.message}")
        return verdicts


def verify_bundle(
    folder: Path,
    *,
    on_bytes: Progress | None = None,
    on_hashed: Callable[[Bundle, float], None] | None = None,
    on_result: Callable[[GoldenResult], None] | None = None,
    backends: Callable[[str], Backend] | None = None,
) -> Verification:
    """Hash every file and run every golden call.

    Args:
        folder: of the bundle.
        on_bytes: told (bytes hashed, bytes in all).
        on_hashed: told the bundle and how long its hashing took, seconds.
        on_result: told of each variant when it is done.
        backends: provider → backend; None for those of this device, one thread each.

    Raises:
        BundleError: a leaf of it, as `open_bundle` and `read_golden` say.
    """
    begun_s = time.perf_counter()
    bundle = open_bundle(folder, on_bytes=on_bytes)
    hash_s = time.perf_counter() - begun_s
    if on_hashed is not None:
        on_hashed(bundle, hash_s)
    results = []
    for result in check_golden(bundle, backends or _one_thread):
        results.append(result)
        if on_result is not None:
            on_result(result)
    return Verification(bundle, hash_s, tuple(results))


def _one_thread(provider: str) -> Backend:
    return backend_for(provider, threads=THREADS)


def _metric(result: GoldenResult) -> dict[str, Any]:
    words = (result.role, result.variant, result.adapter or "")
    name = re.sub(r"[^a-z0-9]+", "_", "_".join(words).lower()).strip("_")
    right = sum(one.passed for one in result.outputs)
    value = None if result.fault is not None else right
    metric = {"name": f"{name}_outputs_right", "value": value, "unit": "1"}
    passed = None if result.is_skipped else result.passed
    return {**metric, "n": len(result.outputs), "must": len(result.outputs), "passed": passed}


def _variant_as_json(result: GoldenResult) -> dict[str, Any]:
    return {
        "role": result.role,
        "variant": result.variant,
        **({} if result.adapter is None else {"adapter": result.adapter}),
        "provider": result.provider,
        "proof": result.proof,
        "passed": None if result.is_skipped else result.passed,
        "run_ms": round(result.run_ms, 3),
        "fault": result.fault.as_json()["error"] if result.fault is not None else None,
        "outputs": [_output_as_json(one) for one in result.outputs],
    }


def _output_as_json(check: OutputCheck) -> dict[str, Any]:
    return {
        "call": check.call,
        "output": check.output,
        "max_abs": check.max_abs if math.isfinite(check.max_abs) else None,
        "cosine": check.cosine,
        "argmax": check.argmax,
        "must": asdict(check.tolerance),
        "passed": check.passed,
    }
