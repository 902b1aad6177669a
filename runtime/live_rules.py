"""What the user chooses about live sources: when one is lost, how it is tried again, its TLS."""

from __future__ import annotations

import math
from dataclasses import dataclass

from .errors import SettingsInvalid

LONGEST_S = 3600.0
TIMES = ("stall_s", "backoff_s", "backoff_most_s", "open_timeout_s", "max_lag_s")


@dataclass(frozen=True, slots=True)
class LiveRules:
    """How patient a live source is, and whom it trusts; each time more than 0 and at most an hour.

    Attributes:
        stall_s: a connection that gives nothing for so long is lost, seconds.
        backoff_s: the wait before the first new try, at most, seconds; each further one doubles.
        backoff_most_s: the longest wait between two tries, seconds; not less than `backoff_s`.
        open_timeout_s: how long opening may take, seconds.
        max_lag_s: pictures that come later than this after the best case are skipped up to the
            next key frame, seconds.
        tls_verify: of rtsps:// and https:// only a certificate that is trusted is good enough.
        tls_ca_file: the certificates that are trusted, PEM; empty for those of the system.

    Raises:
        SettingsInvalid: out of range.
    """

    stall_s: float = 20.0
    backoff_s: float = 1.0
    backoff_most_s: float = 30.0
    open_timeout_s: float = 10.0
    max_lag_s: float = 1.5
    tls_verify: bool = True
    tls_ca_file: str = ""

    def __post_init__(self) -> None:
        for name in TIMES:
            value = getattr(self, name)
            if not (math.isfinite(value) and 0 < value <= LONGEST_S):
                raise SettingsInvalid(
                    f"live.{name} is {value}, expected more than 0 and at most {LONGEST_S:g}"
                )
        if self.backoff_most_s < self.backoff_s:
            raise SettingsInvalid(
                f"live.backoff_most_s is {self.backoff_most_s:g}, "
                f"expected at least live.backoff_s, which is {self.backoff_s:g}"
            )
