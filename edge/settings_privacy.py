"""What the user may choose of privacy: what is never seen, and how long anything is kept."""

from __future__ import annotations

from .settings_field import Table, Text, setting


class PrivacySettings(Table):
    """What is hidden, and what is forgotten."""

    zones: dict[str, Text] = setting(
        {},
        "",
        "Parts of the picture that nobody ever sees, per camera: {door = '0,0 0.5,0.3'} blackens "
        "them before anything else reads the frame; '*' is every camera that is not named. Points "
        "are x,y in shares of width and height; two are a rectangle, more a polygon; ; stands "
        "between zones. None, since only you know what must not be seen.",
        entries="cameras",
    )
    retention_s: float = setting(
        0.0,
        "s",
        "Nothing older is kept: frames, pictures, what was said and asked, and what --state saved. "
        "0 keeps as long as there is room, which is what a question about the past needs.",
        ge=0,
        le=31_536_000,
    )
    keep_pictures: bool = setting(
        True,
        "",
        "Pictures of key frames may be kept (memory.thumbnails). false keeps none, whatever that "
        "says, and takes those out that an earlier run has saved.",
    )
