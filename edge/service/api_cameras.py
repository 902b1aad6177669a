"""HTTP: the cameras, what they see now, and what their gate says of it."""

# No postponed annotations here: FastAPI reads those of the inner functions where they are made.

import asyncio
import time
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from ...runtime.errors import PictureMissing
from .addresses import check_address
from .api_values import (
    CameraName,
    CameraRow,
    CameraRows,
    NewCamera,
    TraceFrame,
    TraceRows,
    Width,
)
from .camera import Camera
from .listener import Listener
from .peer import has_webrtc

if TYPE_CHECKING:
    from fastapi import APIRouter

    from .app import Service

FrameRate = Annotated[float, Field(ge=0.1, le=30, description="Pictures a second, at most.")]
BOUNDARY = "edgestream-picture"
LOOK_EVERY_S = 0.02
JPEG_CONTENT = {"image/jpeg": {"schema": {"type": "string", "format": "binary"}}}
LIVE_CONTENT = {"multipart/x-mixed-replace": {"schema": {"type": "string", "format": "binary"}}}


def camera_row(camera: Camera, fps_target: float) -> CameraRow:
    """A camera and how it is."""
    opened, state = camera.run, camera.state
    return CameraRow(
        name=camera.name,
        address=camera.shown_address,
        kind=camera.kind,
        state=state.state,
        reason=state.reason,
        is_paused=camera.is_paused,
        time_s=0.0 if opened is None else round(opened.inbox.clock(), 3),
        fps=0.0 if opened is None else camera.trace.fps(),
        fps_target=fps_target,
        can_answer=opened is not None,
        has_zones=camera.has_zones,
    )


def router(service: "Service") -> "APIRouter":
    """Every path below /v1/cameras that is not about memory."""
    from fastapi import APIRouter

    routes = APIRouter(tags=["cameras"])
    _add_list(routes, service)
    _add_changes(routes, service)
    _add_pictures(routes, service)
    _add_figures(routes, service)
    return routes


def _add_list(routes: "APIRouter", service: "Service") -> None:
    board, target = service.board, service.board.shared.settings.source.fps

    @routes.get("/v1/cameras")
    def cameras() -> CameraRows:
        """All cameras."""
        rows = [camera_row(camera, target) for camera in board.all()]
        return CameraRows(cameras=rows, most=board.most, takes_webrtc=has_webrtc())

    @routes.post("/v1/cameras", status_code=201)
    def add_camera(body: NewCamera) -> CameraRow:
        """Begin to watch a camera, also after a restart; `service.allow_addresses` says which."""
        check_address(body.address, board.shared.settings.service.allow_addresses)
        return camera_row(board.add(body.name, body.address, keeps=True), target)


def _add_changes(routes: "APIRouter", service: "Service") -> None:
    board, target = service.board, service.board.shared.settings.source.fps

    @routes.delete("/v1/cameras/{name}", status_code=204)
    def remove_camera(name: CameraName) -> None:
        """Stop a camera and forget it; what it saved stays on disk."""
        board.remove(name)

    @routes.post("/v1/cameras/{name}/pause")
    def pause_camera(name: CameraName) -> CameraRow:
        """Take no frames for now; questions are still answered."""
        camera = board.camera(name)
        camera.pause()
        return camera_row(camera, target)

    @routes.post("/v1/cameras/{name}/resume")
    def resume_camera(name: CameraName) -> CameraRow:
        """Take frames again; a camera that has failed or ended begins anew."""
        camera = board.camera(name)
        camera.resume()
        return camera_row(camera, target)


def _add_pictures(routes: "APIRouter", service: "Service") -> None:
    from fastapi.responses import Response, StreamingResponse

    @routes.get(
        "/v1/cameras/{name}/picture.jpg",
        response_class=Response,
        responses={200: {"content": JPEG_CONTENT, "description": "A JPEG."}},
    )
    def picture(name: CameraName, width: Width = 640) -> Any:
        """The newest frame, with its zones blackened."""
        return Response(service.board.camera(name).pictures.jpeg(width), media_type="image/jpeg")

    @routes.get(
        "/v1/cameras/{name}/live.mjpg",
        response_class=StreamingResponse,
        responses={200: {"content": LIVE_CONTENT, "description": "JPEGs without an end."}},
    )
    async def live(name: CameraName, width: Width = 640, fps: FrameRate = 4.0) -> Any:
        """The newest frames as they come, until the client leaves or the camera is deleted."""
        camera = service.board.camera(name)
        seat = service.hub.sit()
        return StreamingResponse(
            _live_parts(service, camera, seat, width, fps),
            media_type=f"multipart/x-mixed-replace; boundary={BOUNDARY}",
        )


async def _live_parts(
    service: "Service", camera: Camera, seat: Listener, width: int, fps: float
) -> AsyncIterator[bytes]:
    """Parts of a multipart response; a frame that nobody had time for is left out."""
    from starlette.concurrency import run_in_threadpool

    told = 0
    try:
        while not seat.is_closed and camera in service.board.all():
            begun_s = time.monotonic()
            if camera.pictures.number == told:
                await asyncio.sleep(LOOK_EVERY_S)
                continue
            told = camera.pictures.number
            try:
                jpeg = await run_in_threadpool(camera.pictures.jpeg, width)
            except PictureMissing:  # it was wiped a moment ago
                continue
            head = f"--{BOUNDARY}\r\nContent-Type: image/jpeg\r\nContent-Length: {len(jpeg)}\r\n"
            yield head.encode() + b"\r\n" + jpeg + b"\r\n"
            await asyncio.sleep(max(0.0, 1 / fps - (time.monotonic() - begun_s)))
    finally:
        service.hub.leave(seat)


def _add_figures(routes: "APIRouter", service: "Service") -> None:
    @routes.get("/v1/cameras/{name}/trace")
    def trace(
        name: CameraName, since_s: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    ) -> TraceRows:
        """What the gate scored of each frame in the last two minutes, later than `since_s`."""
        camera = service.board.camera(name)
        names, frames = camera.trace.since(since_s if since_s else -1.0)
        rows = [
            TraceFrame(
                time_s=one.time_s,
                scores=list(one.scores),
                is_still=one.is_still,
                is_fresh=one.is_fresh,
            )
            for one in frames
        ]
        run = camera.run
        return TraceRows(
            names=list(names),
            thresholds={} if run is None else run.thresholds,
            query="" if run is None else run.query,
            frames=rows,
        )

    @routes.get("/v1/cameras/{name}/stats")
    def stats(name: CameraName) -> dict[str, Any]:
        """Counters and stage times as a `stats` record has them, of this moment."""
        body = service.board.camera(name).watching().stages.metrics.stats().body
        return {"governor": None, **body}
