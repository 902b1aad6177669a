"""What the user may choose of the governor: the rate to hold, and when to give way for it."""

from __future__ import annotations

from .settings_field import Table, setting


class GovernorSettings(Table):
    """Holding a rate of frames on a device that is too slow for everything."""

    target_fps: float = setting(
        0.0,
        "1/s",
        "Frames a second of a live source to look at, and to hold: first the encoder runs on fewer "
        "of them, then the model reads fewer tokens of each, then less of memory. 0: source.fps is "
        "looked at, and what is too slow drops frames.",
        ge=0,
        le=120,
    )
    held: float = setting(
        0.95,
        "",
        "Share of the target under which it is not held. 0.95, because one frame in twenty may be "
        "late on a device that does other things too.",
        gt=0,
        le=1,
    )
    down_after_s: float = setting(
        2.0,
        "s",
        "So long the target is not held before less is done. 2 s, so that one slow frame is no "
        "reason.",
        gt=0,
        le=3600,
    )
    room: float = setting(
        0.7,
        "",
        "More is done only where it is predicted to take less than this share of the time between "
        "two frames. 0.7 leaves room for what was not measured.",
        gt=0,
        le=0.95,
    )
    up_after_s: float = setting(
        10.0,
        "s",
        "So long there is room before more is done; twice as long after each time that it did not "
        "hold, up to an hour. 10 s, because scenes are calm for some seconds and then not.",
        gt=0,
        le=3600,
    )
