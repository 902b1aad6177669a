"""What an answer means: every status has one verdict, every Retry-After a bounded pause."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgestream.edge.service.outward.answers import MOST_RETRY_AFTER_S, Answer, Verdict

NOW = datetime(2026, 11, 20, 10, tzinfo=timezone.utc)


@pytest.mark.parametrize(
    ("verdict", "statuses"),
    [
        (Verdict.TAKEN, [200, 201, 202, 204, 299]),
        (Verdict.AGAIN, [408, 425, 429, 500, 502, 503, 504, 599]),
        (Verdict.REFUSED, [301, 302, 307, 308, 400, 401, 403, 404, 409, 410, 413, 422, 600]),
    ],
)
def test_a_status_has_its_verdict(verdict, statuses):
    assert [Answer(status).verdict for status in statuses] == [verdict] * len(statuses)


@pytest.mark.parametrize(
    ("text", "wait_s"),
    [
        ("", 0),
        ("0", 0),
        ("2", 2),
        (" 120 ", 120),
        ("99999", MOST_RETRY_AFTER_S),
        ("9" * 50, 0),
        ("-5", 0),
        ("soon", 0),
        ("２", 0),
        (format_datetime(NOW + timedelta(seconds=90), usegmt=True), 90),
        (format_datetime(NOW - timedelta(days=1), usegmt=True), 0),
        (format_datetime(NOW + timedelta(days=365), usegmt=True), MOST_RETRY_AFTER_S),
        ("Fri, 20 Nov 2026 10:00:30 -0000", 30),
        ("Fri, 20 Nov 2026 10:00:30 +" + "9" * 30, 0),
    ],
)
def test_retry_after_is_seconds_or_a_date(text, wait_s):
    assert Answer(503, text).asked_wait_s(NOW) == wait_s


@given(st.text())
def test_any_retry_after_is_a_bounded_pause(text):
    assert 0 <= Answer(503, text).asked_wait_s(NOW) <= MOST_RETRY_AFTER_S
