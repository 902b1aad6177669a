"""What goes in and out of the part of the API that clients of OpenAI use."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from .api_values import MOST_LETTERS, CameraName, Value


class Given(BaseModel):
    """What a client sends: fields that mean nothing here are left alone, as OpenAI does."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class ImageUrl(Given):
    """A picture as a data: URL."""

    url: str = Field(min_length=1)


class TextPart(Given):
    """Words of a message."""

    type: Literal["text"]
    text: str


class ImagePart(Given):
    """A picture in a message."""

    type: Literal["image_url"]
    image_url: ImageUrl


Part = Annotated[TextPart | ImagePart, Field(discriminator="type")]


class Message(Given):
    """One message of a talk; the last one of the user is the question."""

    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: str | list[Part] | None = None


class StreamOptions(Given):
    """What a stream says beside the words."""

    include_usage: bool = False


class ResponseFormat(Given):
    """Only text can be had."""

    type: Literal["text"] = "text"


class ChatRequest(Given):
    """A question, asked of a camera now, or about pictures that come with it."""

    model: str = Field(max_length=256)
    messages: list[Message] = Field(min_length=1, max_length=1024)
    camera: CameraName | None = Field(
        None, description="May be left out where there is exactly one camera and no picture."
    )
    adapter: str | None = Field(
        None,
        max_length=64,
        description="Adapter of the bundle that answers this request; base is the model without "
        "one. Left out: as the settings say.",
    )
    stream: bool | None = False
    stream_options: StreamOptions | None = None
    max_tokens: int | None = Field(None, ge=1)
    max_completion_tokens: int | None = Field(None, ge=1)
    temperature: float | None = Field(None, ge=0, le=2, allow_inf_nan=False)
    top_p: float | None = Field(None, gt=0, le=1, allow_inf_nan=False)
    seed: int | None = Field(None, ge=-(2**63), le=2**63 - 1)
    n: Literal[1] | None = 1
    response_format: ResponseFormat | None = None
    tools: list[Any] | None = Field(None, max_length=0)
    functions: list[Any] | None = Field(None, max_length=0)
    logprobs: Literal[False] | None = None
    stop: list[Any] | None = Field(None, max_length=0)


class Model(Value):
    """The model of the service."""

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: Literal["edgestream"] = "edgestream"


class ModelList(Value):
    """All models: the one that runs."""

    object: Literal["list"] = "list"
    data: list[Model]


class Used(Value):
    """A key frame that the answer was shown."""

    id: str
    score: float


class About(Value):
    """What the answer is about."""

    camera: str | None
    turn_id: str
    about_s: tuple[float, float]
    used: list[Used]
    context: str | None


class Usage(Value):
    """Tokens that the model read and said."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class Said(Value):
    """The words of an answer."""

    role: Literal["assistant"] = "assistant"
    content: str
    refusal: None = None


class Choice(Value):
    """The one answer."""

    index: Literal[0] = 0
    message: Said
    finish_reason: Literal["stop", "length"]
    logprobs: None = None


class Completion(Value):
    """An answer as a whole."""

    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    model: str
    choices: list[Choice]
    usage: Usage
    edgestream: About


WORDS_TOO_MANY = f"the question has more than {MOST_LETTERS} letters"
