"""What the user may choose of standing requests: how often they are checked, when they fire."""

from __future__ import annotations

from .settings_field import Table, setting


class StandingSettings(Table):
    """Requests such as "tell me when it gets dark"; what is asked needs a bundle."""

    check_s: float = setting(
        10.0,
        "s",
        "Stream time between two checks of a request that says nothing else; events that open have "
        "it checked as well. A check costs as much as a question: every 10 s leaves a small device "
        "time for others (a guess, to be measured per device).",
        ge=0.25,
        le=604800,
    )
    refractory_s: float = setting(
        60.0,
        "s",
        "A request that fired does not fire again for so long, stream time. A minute, so that what "
        "comes and goes is one message and not twenty.",
        ge=0,
        le=604800,
    )
    most: int = setting(
        16,
        "requests",
        "Standing requests that are held at a time; a further one is refused. 16, because each is "
        "one question more every check_s.",
        ge=0,
        le=1024,
    )
    met_after: int = setting(
        1,
        "answers",
        "Answers of yes in a row after which a condition has come true. 1 tells it soonest; 2 "
        "forgives the model one mistake, and costs one check_s.",
        ge=1,
        le=100,
    )
    unmet_after: int = setting(
        2,
        "answers",
        "Answers of no in a row after which a condition is no longer true, and may come true "
        "again. 2, so that one mistake of the model is no second message.",
        ge=1,
        le=100,
    )
