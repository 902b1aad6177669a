"""What the runtime is told of standing requests: the settings, and what a model can be asked."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import TYPE_CHECKING

from ..runtime.records import Record, warning
from ..runtime.standing import StandingRequests, StandingRules
from ..runtime.standing_question import question_of, taught_question_of

if TYPE_CHECKING:
    from ..runtime.manifest_values import Manifest
    from .settings_tables import Settings

REFERENCE = "reference"
"""The family of models that answer what they were taught, and nothing else."""


def standing_of(
    tells: Iterable[str], settings: Settings, manifest: Manifest | None
) -> StandingRequests:
    """What holds the standing requests of a run.

    Args:
        tells: those that are known before it, in the user's words.
        settings: of the run.
        manifest: of its bundle; None without one: a request then waits for event types alone.

    Raises:
        StandingInvalid, StandingRefused: one of them cannot be held.
    """
    chosen = settings.standing
    rules = StandingRules(
        chosen.most, chosen.check_s, chosen.refractory_s, chosen.met_after, chosen.unmet_after
    )
    asking = question_of if manifest is None else partial(_asked_of, manifest)
    standing = StandingRequests(rules, can_answer=manifest is not None, asking=asking)
    for text in tells:
        standing.add(text)
    return standing


def _asked_of(manifest: Manifest, text: str) -> str:
    """The question for a request: as the bundle's model was taught to be asked, where it was."""
    return _taught(manifest, text) or question_of(text)


def _taught(manifest: Manifest, text: str) -> str | None:
    if manifest.source.family != REFERENCE:
        return None
    attributes = manifest.gate.attributes if manifest.gate is not None else None
    return taught_question_of(text, (attributes or {}).get("colour", ()))


def untaught(texts: Iterable[str], manifest: Manifest) -> list[Record]:
    """A warning for each request whose words the reference assistant cannot be asked about."""
    if manifest.source.family != REFERENCE:
        return []
    return [
        warning(
            "standing-untaught",
            f"{text!r} is asked as {question_of(text)!r}, which this model was not taught to "
            "answer; it knows dark, moving, and a thing of a colour being there",
        )
        for text in texts
        if _taught(manifest, text) is None
    ]
