"""Holding a rate: what the settings of the governor mean for a run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..runtime.governor import Governor, GovernorRules
from ..runtime.records import Record, warning
from ..runtime.sources import Source
from ..runtime.stages import Stages

if TYPE_CHECKING:
    from .settings_tables import Settings


def with_target(settings: Settings) -> Settings:
    """The settings with the rate to hold as the rate at which frames are taken."""
    if not settings.governor.target_fps:
        return settings
    source = settings.source.model_copy(update={"fps": settings.governor.target_fps})
    return settings.model_copy(update={"source": source})


def governed(stages: Stages, settings: Settings, source: Source) -> list[Record]:
    """Give the stages a governor, where the settings name a rate to hold.

    Args:
        stages: of a run that has not begun.
        settings: of it.
        source: of it; a file waits for its frames, so there is no rate to hold.

    Returns:
        What the user should know of it.
    """
    chosen = settings.governor
    if not chosen.target_fps:
        return []
    if not source.is_live:
        return [
            warning(
                "governor-off",
                f"{source.name} waits for its frames, so there is no rate to hold: "
                "governor.target_fps is for cameras, and for files with source.realtime",
            )
        ]
    rules = GovernorRules(chosen.held, chosen.down_after_s, chosen.room, chosen.up_after_s)
    stages.governor = governor = Governor(chosen.target_fps, rules)
    stages.metrics.add_gauge("governor", lambda: as_json(governor))
    return []


def as_json(governor: Governor) -> dict[str, Any]:
    """The field `governor` of a `stats` record."""
    load = governor.load
    return {
        "target_fps": governor.target_fps,
        "achieved_fps": round(governor.achieved_fps, 2),
        "level": load.level,
        "encode_every": load.encode_every,
        "token_share": load.token_share,
        "recall_share": load.recall_share,
    }
