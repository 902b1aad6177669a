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
