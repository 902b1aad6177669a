"""HTTP: offers of WebRTC, with aiortc itself as the peer that sends a numbered video."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from contextlib import asynccontextmanager
from fractions import Fraction
from pathlib import Path

import pytest

from .serving import Serving, in_thread, serving, until

aiortc = pytest.importorskip("aiortc", reason="the service needs the extra `webrtc`")

SIZE_PX, FPS = (320, 240), 15
pytestmark = pytest.mark.timeout(180)


class Painted(aiortc.VideoStreamTrack):
    """A video that changes all the time."""

    def __init__(self, size_px=SIZE_PX):
        super().__init__()
        self.size_px, self.index = size_px, 0

    async def recv(self):
        import av

        await asyncio.sleep(1 / FPS)
        picture = av.VideoFrame(*self.size_px, "yuv420p")
        for plane in picture.planes:
            plane.update(bytes([self.index * 7 % 256]) * plane.buffer_size)
        picture.pts, picture.time_base = self.index * 90000 // FPS, Fraction(1, 90000)
        self.index += 1
        return picture


@pytest.fixture(scope="module")
def service():
    """A service without cameras."""
    with serving("--set", "service.requests_per_minute=100000") as running:
        yield running
        assert "Traceback" not in "".join(running.errors)


@pytest.fixture
def page(service):
    """A camera that a page feeds."""
    assert added(service) == 201
    until(lambda: service.state("page") == "connecting")
    yield service
    service.json("DELETE", "/v1/cameras/page")


def added(service):
    return service.json("POST", "/v1/cameras", {"name": "page", "address": "browser:"})[0]


async def offered(peer, service, name="page"):
    """Make the offer of a peer; (status, answer) of the service."""
    await peer.setLocalDescription(await peer.createOffer())
    body = {"sdp": peer.localDescription.sdp, "type": "offer"}
    path = f"/v1/cameras/{name}/offer"
    return await asyncio.to_thread(service.json, "POST", path, body)


def new_peer(*tracks):
    peer = aiortc.RTCPeerConnection(aiortc.RTCConfiguration(iceServers=[]))
    for track in tracks or (Painted(),):
        peer.addTrack(track)
    return peer


@asynccontextmanager
async def sending(service):
    """A peer that is connected; gives it and the answer that it got."""
    peer = new_peer()
    try:
        status, answer = await offered(peer, service)
        assert status == 200, answer
        assert answer["type"] == "answer"
        await peer.setRemoteDescription(aiortc.RTCSessionDescription(**answer))
        yield peer, answer["sdp"]
    finally:
        await peer.close()


async def until_state(service, state):
    await asyncio.to_thread(until, lambda: service.state("page") == state)


def row(service):
    (one,) = service.get("/v1/cameras")["cameras"]
    return one


@pytest.mark.medium
def test_the_page_hears_that_there_is_webrtc(service):
    assert service.get("/v1/cameras")["takes_webrtc"] is True


@pytest.mark.medium
def test_a_video_is_watched_and_its_end_is_a_state(page):
    async def scene():
        for _ in range(2):
            async with sending(page) as (_, sdp):
                candidates = [one for one in sdp.splitlines() if one.startswith("a=candidate")]
                assert len(candidates) == 1 and " 127.0.0.1 " in candidates[0], candidates
                await until_state(page, "open")
                await asyncio.to_thread(until, lambda: row(page)["fps"] >= 2)
                assert row(page)["reason"] == "watching browser, 320x240"
            await until_state(page, "lost")
        assert row(page)["reason"] == "browser is lost: the page has gone"

    asyncio.run(scene())


@pytest.mark.medium
def test_a_second_one_is_refused_while_the_first_sends(page):
    from websockets.sync.client import connect

    async def scene():
        async with sending(page):
            await until_state(page, "open")
            second = new_peer()
            status, value = await offered(second, page)
            await second.close()
            assert (status, value["error"]["code"]) == (409, "camera-taken")

            def pushed():
                url = f"ws://127.0.0.1:{page.port}/v1/cameras/page/frames"
                with connect(url) as socket, pytest.raises(Exception, match="camera-taken"):
                    socket.recv(timeout=30)

            await asyncio.to_thread(pushed)
            assert page.state("page") == "open"

    asyncio.run(scene())


@pytest.mark.medium
@pytest.mark.parametrize("end", ["DELETE", "pause"])
def test_the_service_says_goodbye_when_the_camera_goes_or_pauses(page, end):
    async def scene():
        async with sending(page) as (peer, _):
            await until_state(page, "open")
            method, path = ("DELETE", "") if end == "DELETE" else ("POST", "/pause")
            await asyncio.to_thread(page.json, method, f"/v1/cameras/page{path}")
            until_closed = asyncio.Event()
            peer.on("connectionstatechange", until_closed.set)
            while peer.connectionState == "connected":
                await asyncio.wait_for(until_closed.wait(), 60)
        if end == "pause":
            other = new_peer()
            status, value = await offered(other, page)
            await other.close()
            assert (status, value["error"]["code"]) == (409, "camera-not-watching")
            assert "is paused" in value["error"]["message"]
            page.json("POST", "/v1/cameras/page/resume")
            async with sending(page):
                await until_state(page, "open")

    asyncio.run(scene())


def offer_of(*tracks):
    """The text of a real offer."""

    async def made():
        peer = new_peer(*tracks)
        await peer.setLocalDescription(await peer.createOffer())
        sdp = peer.localDescription.sdp
        await peer.close()
        return sdp

    return asyncio.run(made())


def changed(old, new):
    return lambda sdp: sdp.replace(old, new)


@pytest.mark.parametrize(
    "change",
    [
        lambda sdp: "hello",
        lambda sdp: "v=0\r\n",
        lambda sdp: sdp[: len(sdp) // 3],
        lambda sdp: "\r\n".join(one for one in sdp.splitlines() if "fingerprint" not in one),
        lambda sdp: "\r\n".join(one for one in sdp.splitlines() if "ice-pwd" not in one),
        changed("a=sendrecv", "a=inactive"),
        changed("VP8", "VP7"),
        changed("m=video", "m=application"),
        changed("UDP/TLS", "\x00"),
    ],
)
def test_a_malformed_offer_is_refused_and_the_place_is_free(page, change):
    sdp = offer_of()
    bad = change(sdp)
    if "VP7" in bad:
        bad = bad.replace("H264", "H000")
    assert bad != sdp
    status, value = page.json("POST", "/v1/cameras/page/offer", {"sdp": bad, "type": "offer"})
    assert status == 400, value
    assert value["error"]["code"] == "request-invalid" and value["error"]["hint"]
    good = {"sdp": sdp, "type": "offer"}
    assert page.json("POST", "/v1/cameras/page/offer", good)[0] == 200


@pytest.mark.parametrize(
    "body",
    [
        {"sdp": "v" * 32_769, "type": "offer"},
        {"sdp": "", "type": "offer"},
        {"sdp": "v=0", "type": "answer"},
        {"sdp": 1, "type": "offer"},
        {"sdp": "v=0", "type": "offer", "more": 1},
    ],
)
def test_what_is_no_offer_is_refused_unread(page, body):
    status, value = page.json("POST", "/v1/cameras/page/offer", body)
    assert (status, value["error"]["code"]) == (422, "request-invalid")


def test_an_offer_from_the_page_of_another_site_is_refused(page):
    offer = {"sdp": offer_of(), "type": "offer"}
    status, value = page.json("POST", "/v1/cameras/page/offer", offer, origin="http://evil.example")
    assert (status, value["error"]["code"]) == (403, "origin-refused")


def test_a_camera_that_is_none_of_a_page_or_not_there_takes_no_offer(service):
    offer = {"sdp": "v=0", "type": "offer"}
    assert service.json("POST", "/v1/cameras/nobody/offer", offer)[0] == 404


@pytest.mark.medium
def test_an_offer_that_nobody_follows_up_lets_go(page):
    """The place is free some seconds later, and so is what was opened for it."""
    offer = {"sdp": offer_of(), "type": "offer"}
    before = sockets_of(page)
    assert page.json("POST", "/v1/cameras/page/offer", offer)[0] == 200
    assert page.json("POST", "/v1/cameras/page/offer", offer)[0] == 409
    until(lambda: sockets_of(page) <= before)


def sockets_of(service):
    """How many sockets the service has open, beside those of requests that are being answered."""
    if not Path("/proc/self/fd").exists():
        pytest.skip("needs /proc to count sockets")
    found = 0
    folder = Path(f"/proc/{service.process.pid}/fd")
    for one in folder.iterdir():
        try:
            found += os.readlink(one).startswith("socket:")
        except OSError:
            continue
    return found


def threads_of(service):
    return len(list(Path(f"/proc/{service.process.pid}/task").iterdir()))


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="counts threads and sockets in /proc")
def test_nothing_is_left_of_peers_that_have_gone(page):
    async def once():
        async with sending(page):
            await until_state(page, "open")
        await until_state(page, "lost")

    asyncio.run(once())
    sockets, threads = sockets_of(page), threads_of(page)
    for _ in range(6):
        asyncio.run(once())
    until(lambda: sockets_of(page) <= sockets and threads_of(page) <= threads)


@pytest.mark.medium
def test_the_end_of_the_service_lets_go_of_a_peer():
    """In this very process: no thread, no task and no socket outlives it, or a warning fails."""
    with in_thread() as (service, port):
        board = service.board

        here = object.__new__(Serving)
        here.port = port
        board.add("page", "browser:")

        async def scene():
            async with sending(here):
                await asyncio.to_thread(until, lambda: board.camera("page").state.state == "open")
                service.hub.close()
                await asyncio.to_thread(until, lambda: not decoders())

        asyncio.run(scene())
    assert decoders() == []


def decoders():
    return [one.name for one in threading.enumerate() if one.name == "video-decoder"]


@pytest.mark.medium
def test_without_the_package_the_page_is_told_what_to_install(tmp_path):
    """A package of this name that cannot be loaded, as a half of an installation."""
    (tmp_path / "aiortc.py").write_text("raise ImportError('libsrtp.so is missing')\n")
    search = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    with serving(environ={"PYTHONPATH": search}) as running:
        assert added(running) == 201
        offer = {"sdp": "v=0", "type": "offer"}
        status, value = running.json("POST", "/v1/cameras/page/offer", offer)
        assert (status, value["error"]["code"]) == (501, "webrtc-missing")
        assert "pip install 'edgestream[webrtc]'" in value["error"]["hint"]
