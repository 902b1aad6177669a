"""A WebRTC peer: which offers are taken, and what is left out of them."""

from __future__ import annotations

import asyncio
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgestream.edge.service.peer import Peer, check_offer, plain_address, without_candidates
from edgestream.runtime.errors import RequestInvalid

LINES = st.lists(
    st.sampled_from(
        [
            "v=0",
            "m=video 9 UDP/TLS/RTP/SAVPF 96",
            "a=candidate:1 1 udp 2130706431 10.0.0.7 5000 typ host",
            "a=candidate:2 1 udp 1 4c1b.local 5000 typ host",
            "a=end-of-candidates",
            "a=ice-ufrag:abcd",
        ]
    )
)


@given(LINES, st.sampled_from(["\n", "\r\n"]))
def test_the_addresses_of_an_offer_are_left_out_and_nothing_else(lines, end):
    kept = without_candidates(end.join(lines)).split("\r\n")
    wanted = [one for one in lines if "candidate" not in one]
    assert [one for one in kept if one] == wanted


@pytest.mark.parametrize(
    ("given", "plain"),
    [
        ("127.0.0.1", "127.0.0.1"),
        ("::1", "::1"),
        ("::ffff:192.168.1.5", "192.168.1.5"),
        ("fe80::1%eth0", "fe80::1"),
    ],
)
def test_an_address_is_one_that_a_browser_takes(given, plain):
    assert plain_address(given) == plain


def made_offer():
    """The lines of a real offer of one video."""
    aiortc = pytest.importorskip("aiortc", reason="the service needs the extra `webrtc`")

    async def made():
        peer = aiortc.RTCPeerConnection(aiortc.RTCConfiguration(iceServers=[]))
        peer.addTransceiver("video", direction="sendrecv")
        await peer.setLocalDescription(await peer.createOffer())
        lines = peer.localDescription.sdp.splitlines()
        await peer.close()
        return lines

    return asyncio.run(made())


async def answered(sdp):
    """Whether an offer is taken; anything but RequestInvalid fails."""
    peer = Peer("127.0.0.1", time.monotonic)
    try:
        return "m=video" in await peer.answer(sdp)
    except RequestInvalid:
        return False
    finally:
        await peer.close()


@pytest.mark.medium
def test_an_offer_that_is_damaged_anywhere_is_taken_or_refused_and_nothing_else():
    lines = made_offer()
    assert asyncio.run(answered("\r\n".join(lines)))

    @settings(max_examples=120, deadline=None, derandomize=True, database=None)
    @given(
        st.integers(0, len(lines) - 1),
        st.one_of(st.none(), st.text(max_size=30), st.sampled_from(lines)),
        st.integers(0, 60),
    )
    def one(at, put, cut):
        line = lines[at][:cut] if put is None else put
        asyncio.run(answered("\r\n".join([*lines[:at], line, *lines[at + 1 :]])))

    one()


@pytest.mark.parametrize("kinds", [[], ["audio"], ["video", "video"], ["video", "audio"]])
def test_an_offer_of_anything_but_one_video_is_refused(kinds):
    pytest.importorskip("aiortc", reason="the service needs the extra `webrtc`")
    media = "".join(f"m={kind} 9 UDP/TLS/RTP/SAVPF 96\r\n" for kind in kinds)
    with pytest.raises(RequestInvalid, match="expected the offer of a peer that sends one video"):
        check_offer(f"v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\n{media}")
