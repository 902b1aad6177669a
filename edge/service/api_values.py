"""What goes in and out of the HTTP API, as values that check themselves and describe themselves."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

CameraName = Annotated[
    str,
    Field(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$",
        description="Name of a camera: letters, digits, - and _, at most 64.",
    ),
]
Width = Annotated[int, Field(ge=16, le=4096, description="Widest, px; smaller pictures stay.")]
MOST_LETTERS = 8192
"""Of a question: more than any bundle's prompt has room for."""
MOST_OFFERED = 32_768
"""Letters of an offer of WebRTC; a browser's for one video has about 6000."""


class Value(BaseModel):
    """What the service sends."""

    model_config = ConfigDict(frozen=True)


class Asked(BaseModel):
    """What the service takes: it knows no other fields."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class ErrorFacts(Value):
    """What was wrong: got, expected, where; and what to try."""

    code: str
    message: str
    hint: str | None


class ErrorBody(Value):
    """Every error of the service (docs/FORMATS.md, section 6)."""

    error: ErrorFacts


class OpenAiErrorFacts(ErrorFacts):
    """The same with the fields that clients of OpenAI look at."""

    type: str
    param: str | None


class OpenAiErrorBody(Value):
    """Every error below /v1/chat and /v1/models."""

    error: OpenAiErrorFacts


class Health(Value):
    """The process runs."""

    status: Literal["ok"] = "ok"
    uptime_s: float


class Ready(Value):
    """Whether no camera is starting or has failed; each camera's state."""

    ready: bool
    cameras: dict[str, str]


class SessionKey(Asked):
    """The key of the service, once, for a cookie."""

    key: str = Field(max_length=1024)


class SessionState(Value):
    """Whether the service asks for a key, and whether this request had one."""

    needs_key: bool
    is_open: bool


class NewCamera(Asked):
    """A camera to be watched. `browser:` as address makes one that a page feeds."""

    name: CameraName
    address: str = Field(min_length=1, max_length=2048, pattern=r"^[^\x00-\x1f\x7f]+$")


class CameraRow(Value):
    """A camera and how it is. The address comes without user name and password."""

    name: str
    address: str
    kind: str
    state: str = Field(
        description="starting, connecting, open, lost, paused, ended, failed or stopped."
    )
    reason: str
    is_paused: bool
    time_s: float = Field(description="Stream time now, seconds.")
    fps: float = Field(description="Frames watched a second, over the last 10 s.")
    fps_target: float
    can_answer: bool
    has_zones: bool


class CameraRows(Value):
    """All cameras, and how many there may be."""

    cameras: list[CameraRow]
    most: int
    takes_webrtc: bool = Field(description="POST /v1/cameras/{name}/offer can be answered.")


class Offer(Asked):
    """What a WebRTC peer that sends one video offers."""

    sdp: str = Field(min_length=1, max_length=MOST_OFFERED)
    type: Literal["offer"]


class OfferAnswer(Value):
    """What the service takes of an offer."""

    sdp: str
    type: Literal["answer"] = "answer"


class UsedIn(Value):
    """An answer for which a key frame was shown."""

    turn_id: str
    question: str | None
    text: str
    score: float


class KeyFrameRow(Value):
    """A frame that stands for others."""

    id: str
    time_s: float
    wall: str | None
    reason: str
    said: str
    covers: int
    has_picture: bool
    used_by: list[UsedIn]


class DialogueRow(Value):
    """A question that was answered."""

    time_s: float
    question: str
    answer: str


class MemoryRows(Value):
    """What a camera remembers."""

    key_frames: list[KeyFrameRow]
    dialogue: list[DialogueRow]
    bytes_kept: int
    bytes_budget: int


class TraceFrame(Value):
    """Scores of one frame, in the order of `names`."""

    time_s: float
    scores: list[float]
    is_still: bool
    is_fresh: bool


class TraceRows(Value):
    """What the gate scored in the last two minutes."""

    names: list[str]
    thresholds: dict[str, float]
    query: str
    frames: list[TraceFrame]


class RecordRows(Value):
    """Records as docs/FORMATS.md, section 4 has them, each with its number as `id`."""

    records: list[dict[str, Any]]
