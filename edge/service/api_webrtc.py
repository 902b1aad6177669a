"""HTTP: the offer of a page that sends its camera over WebRTC, and the peers that came of such."""

# No postponed annotations here: FastAPI reads those of the inner functions where they are made.

import asyncio
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

from ...runtime.errors import CameraNotWatching
from .api_pushed import fed_by_pages
from .api_values import CameraName, Offer, OfferAnswer
from .peer import Peer, check_webrtc

if TYPE_CHECKING:
    from fastapi import APIRouter

    from .app import Service


def router(service: "Service") -> "APIRouter":
    """/v1/cameras/{name}/offer."""
    from fastapi import APIRouter
    from starlette.requests import Request

    routes = APIRouter(tags=["cameras"])
    peers = Peers(service)

    @routes.post("/v1/cameras/{name}/offer")
    async def offer(name: CameraName, body: Offer, request: Request) -> OfferAnswer:
        """Take the video of a browser camera over WebRTC, at the address of this request."""
        host, _ = request.scope["server"]
        return OfferAnswer(sdp=await peers.taken(name, body.sdp, host))

    return routes


class Peers:
    """The peers that send pictures; one for each camera, each with a place among the listeners.

    State: their tasks, which hold all that they use.
    """

    def __init__(self, service: "Service") -> None:
        self._service = service
        self._tasks: set[asyncio.Task[None]] = set()

    async def taken(self, name: str, sdp: str, host: str) -> str:
        """The answer to an offer, whose peer is watched from now on.

        Raises:
            CameraUnknown, CameraNotWatching: there is no such camera, or it takes no pictures now.
            CameraTaken: somebody else sends its pictures.
            RequestInvalid: the offer is malformed.
            ServiceFull: too many listen, or no socket can be opened.
            WebRtcMissing: it is not installed.
        """
        service = self._service
        pushed = await fed_by_pages(service, name)
        camera = service.board.camera(name)
        if camera.is_paused:
            raise CameraNotWatching(
                f"camera {name} is paused", hint=f"POST /v1/cameras/{name}/resume first"
            )
        check_webrtc()
        async with AsyncExitStack() as held:
            seat = service.hub.sit()
            held.callback(service.hub.leave, seat)
            has_place = held.enter_context(pushed.connected())
            peer = Peer(host, service.monotonic)
            held.push_async_callback(peer.close)
            answer = await peer.answer(sdp)

            def is_over() -> bool:
                is_watched = camera.run is not None and camera.run.pushed is pushed
                return seat.is_closed or camera.is_paused or not (is_watched and has_place())

            async def fed(held: AsyncExitStack) -> None:
                async with held:
                    await peer.feed(pushed.push_decoded, is_over)

            task = asyncio.create_task(fed(held.pop_all()))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return answer
