"""Signatures of webhook posts: made by the sender, checked by any receiver.

This file needs nothing but the standard library, so that a receiver may copy it. A receiver

1. reads the body as bytes, before it parses anything;
2. refuses it with 401 where `verified(body, request.headers["X-EdgeStream-Signature"], secret,
   now_s=time.time())` is false;
3. drops what it has already seen, by `X-EdgeStream-Delivery`: the same record comes again where
   its answer got lost. The signature covers time and body, so who replays a post within the
   window may give it another delivery id; the text after `v1=` stays the same and tells.
"""

from __future__ import annotations

import hashlib
import hmac

SIGNATURE_HEADER = "X-EdgeStream-Signature"
DELIVERY_HEADER = "X-EdgeStream-Delivery"
WINDOW_S = 300.0
"""How far the clocks of sender and receiver may be apart; five minutes is what others allow."""
MOST_SIGNATURES = 8


def signature_of(body: bytes, secret: bytes, time_s: int) -> str:
    """The header that signs a body at a time: `t=<unix>,v1=<hex HMAC-SHA256 of "t.body">`.

    Args:
        body: as it is sent.
        secret: shared with the receiver.
        time_s: now, seconds since 1970.
    """
    return f"t={time_s},v1={_hmac(body, secret, str(time_s))}"


def verified(
    body: bytes, header: str, secret: bytes, *, now_s: float, window_s: float = WINDOW_S
) -> bool:
    """Whether this body was signed with this secret, not long ago.

    Takes the same time wherever a wrong signature differs. Several `v1` may be given, as while a
    secret is being changed; one that fits is enough.

    Args:
        body: as it came, byte for byte.
        header: of `X-EdgeStream-Signature`.
        secret: shared with the sender.
        now_s: now, seconds since 1970.
        window_s: how old, or how far ahead, the signature's time may be.
    """
    pairs = [part.strip().partition("=") for part in header.split(",")]
    times = [value for name, _, value in pairs if name == "t"]
    signatures = [value for name, _, value in pairs if name == "v1"][:MOST_SIGNATURES]
    if len(times) != 1 or not (times[0].isascii() and times[0].isdecimal() and len(times[0]) < 13):
        return False
    wanted = _hmac(body, secret, times[0]).encode()
    matches = [hmac.compare_digest(wanted, one.encode("utf-8")) for one in signatures]
    return any(matches) and abs(now_s - int(times[0])) <= window_s


def _hmac(body: bytes, secret: bytes, time_text: str) -> str:
    return hmac.new(secret, time_text.encode() + b"." + body, hashlib.sha256).hexdigest()
