"""What a receiver's answer means: taken, to be tried again and when, or refused."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from enum import Enum

MOST_RETRY_AFTER_S = 3600.0
"""A receiver may ask for a pause of an hour at most; one that asks for years is mistaken."""
AGAIN = (408, 425, 429)


class Verdict(Enum):
    """What to do with a record after an answer."""

    TAKEN = "taken"
    AGAIN = "again"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Answer:
    """What a receiver said.

    Attributes:
        status: of HTTP.
        retry_after: as the header has it; empty without one.
    """

    status: int
    retry_after: str = ""

    @property
    def verdict(self) -> Verdict:
        """2xx took it; 408, 425, 429 and 5xx may take it later; all else never will.

        A redirect is not followed: records would go where no setting sends them.
        """
        if 200 <= self.status < 300:
            return Verdict.TAKEN
        is_later = self.status in AGAIN or 500 <= self.status < 600
        return Verdict.AGAIN if is_later else Verdict.REFUSED

    def asked_wait_s(self, now: datetime) -> float:
        """The pause that the receiver asks for, seconds; 0 where it asks for none we can read."""
        text = self.retry_after.strip()
        if text.isascii() and text.isdecimal() and len(text) < 10:
            return min(float(text), MOST_RETRY_AFTER_S)
        try:
            until = parsedate_to_datetime(text)
        except (ValueError, OverflowError):
            return 0.0
        if until.tzinfo is None:
            until = until.replace(tzinfo=timezone.utc)
        return min(max(0.0, (until - now).total_seconds()), MOST_RETRY_AFTER_S)
