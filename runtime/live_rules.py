"""What the user chooses about live sources: when one counts as lost, and how often it is tried."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

from .errors import SettingsInvalid

LONGEST_S = 3600.0


@dataclass(frozen=True, slots=True)
class LiveRules:
    """How patient a live source is; each more than 0 and at most an hour.

    Attributes:
        stall_s: a connection that gives nothing for so long is lost, seconds.
        backoff_s: the wait before the first new try, at most, seconds; each further one doubles.
        backoff_most_s: the longest wait between two tries, seconds; not less than `backoff_s`.
        open_timeout_s: how long opening may take, seconds.
        max_lag_s: pictures that come later than this after the best case are skipped up to the
            next key frame, seconds.

    Raises:
        SettingsInvalid: out of range.
    """

    stall_s: float = 20.0
    backoff_s: float = 1.0
    backoff_most_s: float = 30.0
    open_timeout_s: float = 10.0
    max_lag_s: float = 1.5

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if not (math.isfinite(value) and 0 < value <= LONGEST_S):
                raise SettingsInvalid(
                    f"live.{field.name} is {value}, expected more than 0 and at most {LONGEST_S:g}"
                )
        if self.backoff_most_s < self.backoff_s:
            raise SettingsInvalid(
                f"live.backoff_most_s is {self.backoff_most_s:g}, "
                f"expected at least live.backoff_s, which is {self.backoff_s:g}"
            )
