"""The ladder of providers: the first variant of a part that does here what it did at export."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from ..adapters import Adapters, adapters_of
from ..bundle import Bundle
from ..engine import Backend, Engine
from ..errors import EngineError, EngineUnusable
from ..golden import GoldenCall, golden_of
from ..golden_check import OutputCheck, check_call
from ..manifest import Variant

PROVIDERS = ("tensorrt", "tensorrt-rtx", "cuda", "cpu")
"""Fastest first; the last one runs everywhere."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """A variant of a part that is not used here, and why, in one sentence."""

    role: str
    variant: str
    provider: str
    why: str


@dataclass(frozen=True, slots=True, eq=False)
class Rung:
    """An engine that has just passed the golden calls of its variant.

    Attributes:
        engine: opened; whoever asked for it closes it.
        variant: that it runs.
        refusals: variants above it on the ladder.
    """

    engine: Engine
    variant: Variant
    refusals: tuple[Refusal, ...]


def proven_engine(
    bundle: Bundle,
    role: str,
    backends: Callable[[str], Backend],
    *,
    providers: Sequence[str] = PROVIDERS,
    failed: Collection[str] = (),
) -> Rung:
    """The highest rung that stands.

    A golden run on this very device is the proof, so a variant that is `pending-device` may be
    used once it has passed here.

    Args:
        bundle: opened with check="all".
        role: of the part.
        backends: provider → backend, as `backend_for`.
        providers: in the order in which they are tried; others are not.
        failed: ids of variants that are passed over, since they broke off in use: asked again with
            these, this is the next rung.

    Raises:
        EngineUnusable: none is left; the message says why of each.
        GoldenInvalid, FormatTooNew: as `read_golden` says.
        BundleFileRefused, AdapterUnknown: an adapter that it is to be proven with is not there.

    Cost: opens each variant that it tries, and runs its golden calls once, of adapters as well.
    """
    part = bundle.manifest.part(role)
    variants = () if part is None else part.variants
    calls = [call for call in golden_of(bundle.folder) if call.role == role]
    refusals: list[Refusal] = []
    for provider in providers:
        for variant in (one for one in variants if one.provider == provider):
            if variant.id in failed:
                refusals.append(Refusal(role, variant.id, provider, "it broke off before"))
                continue
            own = [call for call in calls if call.variant == variant.id]
            try:
                engine = _proven(bundle, variant, backends, own)
            except EngineError as error:
                refusals.append(Refusal(role, variant.id, provider, error.message))
                continue
            return Rung(engine, variant, tuple(refusals))
    told = "; ".join(f"{one.variant} ({one.provider}): {one.why}" for one in refusals)
    raise EngineUnusable(
        f"{bundle.folder.name}: got no variant of the part {role} that runs here, expected one for "
        f"{', '.join(providers)}: {told or 'there is none'}",
        hint="`edgestream verify` shows how far each is off; `edgestream doctor` what is installed",
    )


def _proven(
    bundle: Bundle,
    variant: Variant,
    backends: Callable[[str], Backend],
    calls: Sequence[GoldenCall],
) -> Engine:
    """An engine that passed, left open; one that did not is closed before the error goes on."""
    backend = backends(variant.provider)
    if not calls:
        raise EngineUnusable("it has no golden calls to be proven by")
    engine = backend.open(bundle.path(variant.file), variant)
    is_proven = False
    try:
        adapters = adapters_of(bundle) if any(call.adapter for call in calls) else Adapters()
        for call in calls:
            for check in check_call(engine, call, adapters.of(call.adapter)):
                if not check.passed:
                    raise EngineUnusable(_off(check))
        is_proven = True
    finally:
        if not is_proven:
            engine.__exit__(None, None, None)
    return engine


def _off(check: OutputCheck) -> str:
    return (
        f"golden call {check.call!r}: got {check.output} off by {check.max_abs:.3g} "
        f"(cosine {check.cosine:.6f}, argmax {check.argmax:.3f}), expected within its tolerance"
    )
