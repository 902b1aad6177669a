"""One chat request: the question and pictures in it, the answer to it, and how both are written."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from ...runtime.errors import AnswerLost, EdgeStreamError, PromptTooLong, RequestInvalid
from ...runtime.values import Response
from .answers import Answer, Wishes
from .api_values import MOST_LETTERS
from .chat_values import (
    About,
    ChatRequest,
    Choice,
    Completion,
    ImagePart,
    Said,
    Usage,
    Used,
)
from .shares import IMAGES_MOST


@dataclass(frozen=True, slots=True)
class AskedChat:
    """What a client asks.

    Attributes:
        question: the words of the last message of the user.
        images: URLs of the pictures in it.
        wishes: how words are to be chosen.
    """

    question: str
    images: tuple[str, ...]
    wishes: Wishes


def asked_from(request: ChatRequest) -> AskedChat:
    """What a request asks.

    Raises:
        RequestInvalid: nothing, too much, or of a camera and of pictures at once.
    """
    users = [message for message in request.messages if message.role == "user"]
    if not users:
        raise RequestInvalid("messages: got none of the user", hint='send one with role "user"')
    content = users[-1].content or ""
    parts = [] if isinstance(content, str) else content
    images = tuple(part.image_url.url for part in parts if isinstance(part, ImagePart))
    words = [part.text for part in parts if not isinstance(part, ImagePart)]
    question = (content if isinstance(content, str) else "\n".join(words)).strip()
    _check(question, images, request.camera)
    most = request.max_completion_tokens or request.max_tokens
    # A seed of ours is 32 bits; any whole number of the client names one of them.
    seed = None if request.seed is None else request.seed % 2**32
    wishes = Wishes(most, request.temperature, request.top_p, seed, request.adapter)
    return AskedChat(question, images, wishes)


def _check(question: str, images: Sequence[str], camera: str | None) -> None:
    if not question:
        raise RequestInvalid("messages: the last one of the user has no words")
    if len(question) > MOST_LETTERS:
        raise RequestInvalid(
            f"messages: the question has {len(question)} letters, expected at most {MOST_LETTERS}"
        )
    if len(images) > IMAGES_MOST:
        raise RequestInvalid(
            f"messages: got {len(images)} pictures, expected at most {IMAGES_MOST}"
        )
    if images and camera is not None:
        raise RequestInvalid(
            "got a camera and pictures, expected one of them", hint="leave one of them out"
        )


@dataclass(slots=True)
class Reply:
    """How one answer is written. State: what was said of it so far.

    Attributes:
        model: name of the bundle.
        camera: that was asked; None for pictures.
        answer: where it comes from.
    """

    model: str
    camera: str | None
    answer: Answer
    name: str = field(default_factory=lambda: f"chatcmpl-{secrets.token_hex(12)}")
    created: int = field(default_factory=lambda: int(time.time()))
    _told: str = ""

    def delta(self, text: str) -> str:
        """The words that are new in a text.

        An engine that broke off says it again from the beginning; what was told stays told.
        """
        told, self._told = self._told, text
        return text.removeprefix(told) if text.startswith(told) else f"\n{text}"

    def whole(self, final: Response) -> Completion:
        """The answer as one object."""
        return Completion(
            id=self.name,
            created=self.created,
            model=self.model,
            choices=[Choice(message=Said(content=final.text), finish_reason=_reason(final))],
            usage=self.usage(),
            edgestream=self.about(final),
        )

    def chunk(self, delta: dict[str, Any], **further: Any) -> str:
        """One event of a stream of chunks."""
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": None}
        return _event({**self._head(), "choices": [choice], **further})

    def last_chunk(self, final: Response) -> str:
        """The event that ends the words."""
        choice = {"index": 0, "delta": {}, "logprobs": None, "finish_reason": _reason(final)}
        about = self.about(final).model_dump()
        return _event({**self._head(), "choices": [choice], "edgestream": about})

    def usage_chunk(self) -> str:
        """The event that counts the tokens."""
        return _event({**self._head(), "choices": [], "usage": self.usage().model_dump()})

    def _head(self) -> dict[str, Any]:
        kind = "chat.completion.chunk"
        return {"id": self.name, "object": kind, "created": self.created, "model": self.model}

    def usage(self) -> Usage:
        """Tokens that were read and said."""
        used = self.answer.usage
        return Usage(
            prompt_tokens=used.prompt,
            completion_tokens=used.completion,
            total_tokens=used.prompt + used.completion,
        )

    def about(self, final: Response) -> About:
        """What the answer is about."""
        return About(
            camera=self.camera,
            turn_id=final.turn_id,
            about_s=final.about_s,
            used=[Used(id=name, score=score) for name, score in final.used],
            context=final.context,
        )


def fault_of(answer: Answer, final: Response) -> EdgeStreamError | None:
    """Why a final is no answer; None where it is one."""
    if final.ended_by != "fault":
        return None
    code, message = answer.warning or ("answer-lost", "the answer broke off")
    if code == PromptTooLong.code:
        return PromptTooLong(message, hint="ask a shorter question")
    return AnswerLost(f"{code}: {message}", hint="ask again")


def _reason(final: Response) -> Any:
    return "length" if final.ended_by == "limit" else "stop"


def _event(value: dict[str, Any]) -> str:
    return f"data: {json.dumps(value, ensure_ascii=False)}\n\n"
