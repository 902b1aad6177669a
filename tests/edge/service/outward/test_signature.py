"""Signatures of posts: whoever changes a byte, a time or the secret is refused."""

from __future__ import annotations

import hashlib
import hmac

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgestream.edge.service.outward.signature import signature_of, verified

SECRET, BODY, NOW_S = b"a secret of the two", b'{"type": "final"}', 1_800_000_000


def test_the_header_is_what_the_page_says():
    expected = hmac.new(SECRET, b"1800000000." + BODY, hashlib.sha256).hexdigest()
    assert signature_of(BODY, SECRET, NOW_S) == f"t=1800000000,v1={expected}"


@given(st.binary(), st.binary(min_size=1), st.integers(0, 10**11), st.floats(-300, 300))
def test_what_was_signed_is_verified_within_the_window(body, secret, time_s, late_s):
    header = signature_of(body, secret, time_s)
    assert verified(body, header, secret, now_s=time_s + late_s, window_s=301)
    assert not verified(body + b"x", header, secret, now_s=time_s)
    assert not verified(body, header, secret + b"x", now_s=time_s)
    assert not verified(body, header, secret, now_s=time_s + 302, window_s=301)
    assert not verified(body, header, secret, now_s=time_s - 302, window_s=301)


@given(st.integers(0, 200), st.integers(0, 7))
def test_a_header_with_one_other_bit_is_refused(place, bit):
    header = bytearray(signature_of(BODY, SECRET, NOW_S), "ascii")
    header[place % len(header)] ^= 1 << bit
    assert not verified(BODY, header.decode("latin-1"), SECRET, now_s=NOW_S)


@given(st.text())
def test_any_text_is_a_header_that_is_refused(text):
    assert not verified(BODY, text, SECRET, now_s=NOW_S)


def test_one_of_several_signatures_is_enough_and_many_are_not_read():
    good = signature_of(BODY, SECRET, NOW_S)
    mac = good.partition("v1=")[2]
    assert verified(BODY, f"t={NOW_S},v1={'0' * 64},v1={mac}", SECRET, now_s=NOW_S)
    assert verified(BODY, f"t={NOW_S}, v0=x, v1={mac}", SECRET, now_s=NOW_S)
    many = ",v1=".join(["", *["0" * 64] * 8, mac])
    assert not verified(BODY, f"t={NOW_S}{many}", SECRET, now_s=NOW_S)


@pytest.mark.parametrize(
    "times", ["", "t=,", "t=1,t=2,", f"t={NOW_S},t={NOW_S},", "t=１,", "t=-1,"]
)
def test_a_header_without_one_time_is_refused(times):
    mac = signature_of(BODY, SECRET, NOW_S).partition("v1=")[2]
    assert not verified(BODY, f"{times}v1={mac}", SECRET, now_s=NOW_S)
