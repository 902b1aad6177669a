"""HTTP: standing requests ("tell me when …") of one camera or of all."""

# No postponed annotations here: FastAPI reads those of the inner functions where they are made.

from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from ...runtime.errors import RequestInvalid
from ...runtime.standing import Standing
from ...runtime.standing_request import LONGEST_S, LONGEST_TEXT, MOST_NAMES, SHORTEST_CHECK_S
from .api_values import Asked, CameraName, Value
from .standing_board import NewStanding

if TYPE_CHECKING:
    from fastapi import APIRouter

    from .app import Service

Words = Annotated[str, Field(min_length=1, max_length=LONGEST_TEXT)]
Name = Annotated[str, Field(min_length=1, max_length=64)]
RequestId = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")]


class NewRequest(Asked):
    """What is to be told whenever it comes true."""

    text: Words = Field(description="In the user's words: Tell me when it gets dark.")
    camera: CameraName | None = Field(None, description="Of this one alone; left out: of all.")
    question: Words | None = Field(
        None, description="Asked of the model, yes or no; left out: made of the words."
    )
    events: Annotated[list[Name], Field(min_length=1, max_length=MOST_NAMES)] | None = Field(
        None, description="Types at which it is asked; without a question, types that it is about."
    )
    check_s: float | None = Field(
        None, ge=SHORTEST_CHECK_S, le=LONGEST_S, description="Between two checks, seconds."
    )
    refractory_s: float | None = Field(
        None, ge=0, le=LONGEST_S, description="It is told at most once in so long, seconds."
    )
    sinks: Annotated[list[Name], Field(max_length=MOST_NAMES)] = Field(
        [], description="Outward sinks that are told, such as webhook and mqtt; none: all."
    )


class RequestRow(Value):
    """A standing request as it stands now."""

    request_id: str
    text: str
    question: str | None
    events: list[str] | None
    camera: str | None
    check_s: float
    refractory_s: float
    sinks: list[str]
    last_fired_s: float | None
    is_met: bool


class RequestRows(Value):
    """All standing requests."""

    requests: list[RequestRow]


def router(service: "Service") -> "APIRouter":
    """Every path below /v1/standing."""
    from fastapi import APIRouter

    routes, standing = APIRouter(tags=["standing"]), service.standing

    @routes.get("/v1/standing")
    def requests() -> RequestRows:
        """All requests, and whether each is met now."""
        return RequestRows(requests=[row_of(one) for one in standing.all()])

    @routes.post("/v1/standing", status_code=201)
    def add_request(body: NewRequest) -> RequestRow:
        """Tell when it comes true, as a `standing` record, from the next frame on."""
        if body.camera is not None:
            service.board.camera(body.camera)  # it must be there
        _check_sinks(body.sinks, service)
        wanted = NewStanding(
            body.text,
            body.question,
            None if body.events is None else tuple(body.events),
            body.check_s,
            body.refractory_s,
            tuple(body.sinks),
            None if body.camera is None else (body.camera,),
        )
        return row_of(Standing(standing.add(wanted)))

    @routes.delete("/v1/standing/{request_id}", status_code=204)
    def cancel_request(request_id: RequestId) -> None:
        """Tell it no more."""
        standing.cancel(request_id)

    return routes


def row_of(one: Standing) -> RequestRow:
    """A request as the API tells it."""
    request = one.request
    return RequestRow(
        request_id=request.request_id,
        text=request.text,
        question=request.question,
        events=None if request.events is None else list(request.events),
        camera=None if request.cameras is None else request.cameras[0],
        check_s=request.check_s,
        refractory_s=request.refractory_s,
        sinks=list(request.sinks),
        last_fired_s=one.last_fired_s,
        is_met=one.is_met,
    )


def _check_sinks(names: list[Name], service: "Service") -> None:
    """Raises RequestInvalid where somebody is named whom the settings do not."""
    known = list(service.board.shared.outward.stats())
    for name in names:
        if name not in known:
            raise RequestInvalid(
                f"got the sink {name}, expected {' or '.join(known) or 'none: there is none'}",
                hint="leave sinks out, or set webhook.url or mqtt.host",
            )
