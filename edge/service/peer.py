"""A WebRTC peer that sends the camera of a page: from its offer to the last of its pictures.

Nobody else is asked for anything: no STUN or TURN server, no name is looked up. The service offers
the one address at which the page reached it, sends nothing to the addresses that an offer names,
and answers whoever comes with the secrets of this connection.
"""

from __future__ import annotations

import asyncio
import functools
import importlib.util
import ipaddress
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

from ...runtime.errors import (
    EdgeStreamError,
    RequestInvalid,
    ServiceFull,
    SourceUnreadable,
    WebRtcMissing,
)

if TYPE_CHECKING:
    import av
    from aiortc import MediaStreamTrack, RTCPeerConnection

log = logging.getLogger(__name__)

CONNECT_WITHIN_S = 5.0
"""From the answer to the connection; then the page may come over a WebSocket."""
LOOK_EVERY_S = 0.1


@functools.cache
def has_webrtc() -> bool:
    """Whether the package that speaks WebRTC is installed."""
    return importlib.util.find_spec("aiortc") is not None


def check_webrtc() -> None:
    """Refuse where WebRTC cannot be spoken.

    Raises:
        WebRtcMissing: the package is not installed, or a library of it is not.
    """
    try:
        import aiortc  # noqa: F401
    except ImportError as error:
        raise WebRtcMissing(
            f"WebRTC needs the package aiortc, which cannot be loaded: {error}",
            hint="pip install 'edgestream[webrtc]'; a WebSocket does without",
        ) from error


class Peer:
    """One connection, for one offer. For the loop in which it was made.

    State: the connection; when it was answered.

    Args:
        host: address of this machine at which the offer came in.
        monotonic: seconds.
    """

    def __init__(self, host: str, monotonic: Callable[[], float]) -> None:
        from aiortc import RTCConfiguration, RTCPeerConnection

        self._host, self._monotonic = plain_address(host), monotonic
        self._connection: RTCPeerConnection = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        self._track: MediaStreamTrack | None = None
        self._connect_by_s = 0.0

    async def answer(self, sdp: str) -> str:
        """The answer to an offer, which must be of one video.

        Raises:
            RequestInvalid: it is malformed, or of something else.
            ServiceFull: no socket can be opened.
        """
        from aiortc import RTCSessionDescription

        offer = RTCSessionDescription(without_candidates(sdp), "offer")
        try:
            check_offer(offer.sdp)
            await self._connection.setRemoteDescription(offer)
            answer = await self._connection.createAnswer()
        except EdgeStreamError:
            raise
        except Exception as error:  # whatever its parser stumbles over
            raise _malformed(f"{type(error).__name__}") from error
        (transceiver,) = self._connection.getTransceivers()
        self._track = transceiver.receiver.track
        if self._track is None:
            raise _malformed("its video is not sent")
        gatherer = transceiver.receiver.transport.transport.iceGatherer
        # aioice would open a socket on every address of this machine but loopback.
        connection = gatherer._connection
        gather = connection.get_component_candidates
        connection.get_component_candidates = (  # type: ignore[method-assign]
            lambda component, addresses, timeout=5: gather(component, [self._host], timeout)
        )
        await self._connection.setLocalDescription(answer)
        if not gatherer.getLocalCandidates():
            raise ServiceFull(f"no socket can be opened at {self._host}", hint="ask again")
        self._connect_by_s = self._monotonic() + CONNECT_WITHIN_S
        return str(self._connection.localDescription.sdp)

    async def feed(
        self, push: Callable[[av.VideoFrame], None], is_over: Callable[[], bool]
    ) -> None:
        """Hand on every picture as it comes, until the peer has gone or `is_over`; then close it.

        Args:
            push: takes pictures; from what it raises on, no more are taken.
            is_over: looked at some times a second.
        """
        pump = asyncio.create_task(self._pump(push))
        try:
            while not (pump.done() or self._has_failed() or is_over()):
                await asyncio.wait([pump], timeout=LOOK_EVERY_S)
        finally:
            pump.cancel()
            await asyncio.gather(pump, return_exceptions=True)
            await self.close()

    async def _pump(self, push: Callable[[av.VideoFrame], None]) -> None:
        import av
        from aiortc.mediastreams import MediaStreamError

        assert self._track is not None, "it was answered"
        try:
            while True:
                picture = await self._track.recv()
                assert isinstance(picture, av.VideoFrame), "check_offer takes video alone"
                push(picture)
        except MediaStreamError:
            pass  # the peer has gone
        except SourceUnreadable as fault:
            log.warning("a peer is let go: %s", fault.message)
        except Exception:
            log.exception("a peer is let go")

    def _has_failed(self) -> bool:
        state = self._connection.connectionState
        is_late = state != "connected" and self._monotonic() > self._connect_by_s
        return is_late or state in ("failed", "closed")

    async def close(self) -> None:
        """Let go of its sockets, tasks and its thread."""
        await self._connection.close()


def check_offer(sdp: str) -> None:
    """Take an offer of one video alone: nothing else is opened, decoded or kept.

    Raises:
        RequestInvalid: it is of something else.
        Exception: of any kind: it cannot be read.
    """
    from aiortc.sdp import SessionDescription

    parts = SessionDescription.parse(sdp).media
    kinds = [part.kind for part in parts]
    if kinds != ["video"]:
        raise _malformed(f"it is of {', '.join(kinds)[:100] or 'nothing'}")
    if not (parts[0].dtls and parts[0].dtls.fingerprints):
        raise _malformed("it has no fingerprint of a certificate")


def without_candidates(sdp: str) -> str:
    """An offer without the addresses that it names: the peer comes to us, we go to nobody."""
    lines = sdp.replace("\r\n", "\n").split("\n")
    kept = [one for one in lines if not one.startswith(("a=candidate:", "a=end-of-candidates"))]
    return "\r\n".join(kept)


def plain_address(host: str) -> str:
    """An address of this machine as a candidate says it: no IPv4 inside of IPv6, no zone."""
    address = ipaddress.ip_address(host.partition("%")[0])
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return str(mapped or address)


def _malformed(what: str) -> RequestInvalid:
    return RequestInvalid(
        f"sdp: {what}; expected the offer of a peer that sends one video",
        hint="a browser makes one with RTCPeerConnection, addTransceiver and setLocalDescription",
    )
