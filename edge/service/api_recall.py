"""HTTP: what a camera remembers, and forgetting it."""

# No postponed annotations here: FastAPI reads those of the inner functions where they are made.

import json
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from ...runtime.errors import PictureMissing
from .api_cameras import JPEG_CONTENT
from .api_values import CameraName, DialogueRow, KeyFrameRow, MemoryRows, UsedIn
from .camera import Camera
from .hub import Hub
from .listener import Wanted
from .pictures import jpeg_from_rgb

if TYPE_CHECKING:
    from fastapi import APIRouter

    from .app import Service

FINALS_READ = 512
"""Answers that are looked through for the key frames they were shown."""
FrameId = Annotated[str, Field(pattern=r"^k[0-9]{1,18}$", description="Of a key frame.")]


def router(service: "Service") -> "APIRouter":
    """Every path below /v1/cameras/{name}/memory."""
    from fastapi import APIRouter
    from fastapi.responses import Response

    routes = APIRouter(tags=["memory"])

    @routes.get("/v1/cameras/{name}/memory")
    def memory(name: CameraName) -> MemoryRows:
        """Key frames of the whole stream, what was said of them, and the talk."""
        return memory_rows(service.board.camera(name), service.hub)

    @routes.get(
        "/v1/cameras/{name}/memory/{frame_id}.jpg",
        response_class=Response,
        responses={200: {"content": JPEG_CONTENT, "description": "A JPEG."}},
    )
    def thumbnail(name: CameraName, frame_id: FrameId) -> Any:
        """The small picture of a key frame."""
        for frame in service.board.camera(name).watching().view().key_frames:
            if frame.frame_id == frame_id and frame.thumbnail is not None:
                return Response(jpeg_from_rgb(frame.thumbnail), media_type="image/jpeg")
        raise PictureMissing(
            f"no picture is kept of the key frame {frame_id}",
            hint="GET /v1/cameras/{name}/memory says which have one",
        )

    @routes.delete("/v1/cameras/{name}/memory", status_code=204)
    def wipe(name: CameraName) -> None:
        """Forget all that was seen and said: memory, dialogue, what was saved, kept records."""
        service.board.wipe(name)

    return routes


def memory_rows(camera: Camera, hub: Hub) -> MemoryRows:
    """What a camera remembers, and for which answers it was used.

    Raises:
        CameraNotWatching: it remembers nothing now.
    """
    opened = camera.watching()
    view, used = opened.view(), _used_by(camera.name, hub)
    begun = _begun(camera.name, hub)
    rows = [
        KeyFrameRow(
            id=frame.frame_id,
            time_s=frame.time_s,
            wall=None if begun is None else _wall(begun, frame.time_s),
            reason=frame.reason,
            said=frame.said,
            covers=frame.covers,
            has_picture=frame.thumbnail is not None,
            used_by=used.get(frame.frame_id, []),
        )
        for frame in view.key_frames
    ]
    talk = [
        DialogueRow(time_s=one.time_s, question=one.question, answer=one.answer)
        for one in view.dialogue
    ]
    return MemoryRows(
        key_frames=rows,
        dialogue=talk,
        bytes_kept=opened.kept_bytes(),
        bytes_budget=opened.budget_bytes,
    )


def _used_by(name: str, hub: Hub) -> dict[str, list[UsedIn]]:
    """Key frame → the kept answers for which it was shown."""
    used: dict[str, list[UsedIn]] = {}
    for record in hub.kept(Wanted(name, frozenset({"final"})), FINALS_READ):
        body = json.loads(record.text)
        for one in body["used"]:
            row = UsedIn(
                turn_id=body["turn_id"],
                question=body["question"],
                text=body["text"],
                score=one["score"],
            )
            used.setdefault(one["id"], []).append(row)
    return used


def _begun(name: str, hub: Hub) -> datetime | None:
    """When stream time 0 was on the wall clock, by the newest record; None where none is kept."""
    for record in hub.kept(Wanted(name), 1):
        body = json.loads(record.text)
        wall = datetime.fromisoformat(body["wall"].replace("Z", "+00:00"))
        return wall - timedelta(seconds=body["time_s"])
    return None


def _wall(begun: datetime, time_s: float) -> str:
    wall = begun + timedelta(seconds=time_s)
    return wall.isoformat(timespec="milliseconds").replace("+00:00", "Z")
