"""What the user may choose of live sources: when a camera counts as lost, how it is tried again."""

from __future__ import annotations

from .settings_field import Table, setting


class LiveSettings(Table):
    """Cameras, streams and screens, which can fall silent, go away and come back."""

    stall_s: float = setting(
        20.0,
        "s",
        "A connection that gives nothing for so long is lost, and made anew. 20 s, because some "
        "cameras pause for some seconds when they change between day and night.",
        gt=0,
        le=3600,
    )
    backoff_s: float = setting(
        1.0,
        "s",
        "Wait before the first new try, at most; half of each wait is random, and each further one "
        "is twice as long. 1 s is soon, and does not keep a camera busy that starts up.",
        gt=0,
        le=3600,
    )
    backoff_most_s: float = setting(
        30.0,
        "s",
        "Longest wait between two tries; not less than backoff_s. 30 s, so that a camera which "
        "comes back after a night is seen within half a minute.",
        gt=0,
        le=3600,
    )
    open_timeout_s: float = setting(
        10.0,
        "s",
        "How long opening a connection may take. 10 s is enough for a camera behind a slow "
        "network, which answers and then sends its first pictures.",
        gt=0,
        le=3600,
    )
    max_lag_s: float = setting(
        1.5,
        "s",
        "How much later than at best a picture may come; beyond it, packets up to the next key "
        "frame are left out, so that what is said is about now. 1.5 s is more than a network's "
        "hiccups and less than a person notices in an answer.",
        gt=0,
        le=3600,
    )
