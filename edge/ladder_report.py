"""Climb the ladder of a bundle: what would run each part on this device, and what would not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ..runtime.bundle import open_bundle
from ..runtime.engine import Backend, backend_for
from ..runtime.engines.ladder import proven_engine
from ..runtime.errors import EngineError
from ..runtime.part_rungs import RungsInUse


def climbed(
    folder: Path, backends: Callable[[str], Backend] = backend_for
) -> tuple[RungsInUse, dict[str, str]]:
    """What a run with the settings as they are would choose, by doing it.

    Args:
        folder: of the bundle.
        backends: provider → backend.

    Returns:
        what runs each part and what is refused; and role → why nothing runs it.

    Raises:
        BundleError: a leaf of it, as `open_bundle` and `read_golden` say.

    Cost: hashes the bundle, opens every variant down to the first that passes and runs its golden
        calls; engines that are not compiled yet are compiled.
    """
    bundle, found, without = open_bundle(folder), RungsInUse(), {}
    for part in bundle.manifest.parts:
        try:
            rung = proven_engine(bundle, part.role, backends)
        except EngineError as fault:
            without[part.role] = fault.message
            continue
        rung.engine.__exit__(None, None, None)
        found.variants[part.role] = rung.variant
        for refusal in rung.refusals:
            found.refuse(refusal)
    return found, without
