"""HTTP: what clients of OpenAI know. A question is asked of a camera now, or about pictures."""

# No postponed annotations here: FastAPI reads those of the inner functions where they are made.

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from ...runtime.errors import EdgeStreamError, ModelUnknown
from ...runtime.values import Response
from .answers import Answer
from .api_values import OpenAiErrorBody
from .chat import AskedChat, Reply, asked_from, fault_of
from .chat_values import ChatRequest, Completion, Model, ModelList
from .faults import fault_body, status_of
from .images import image_from_url

if TYPE_CHECKING:
    from fastapi import APIRouter, Request

    from .app import Service

ERRORS: dict[int | str, dict[str, Any]] = {
    "4XX": {"model": OpenAiErrorBody, "description": "The request is at fault."},
    "5XX": {"model": OpenAiErrorBody, "description": "The service cannot do it now."},
}
GONE_EVERY_S = 0.25
"""How often it is looked whether the client still waits."""
CHUNKS = {"text/event-stream": {"schema": {"type": "string"}}}


def router(service: "Service") -> "APIRouter":
    """/v1/models and /v1/chat/completions."""
    from fastapi import APIRouter, Request
    from fastapi.responses import StreamingResponse

    routes = APIRouter(tags=["openai"], responses=ERRORS)
    model = Model(id=service.model, created=service.created)

    @routes.get("/v1/models")
    def models() -> ModelList:
        """The model that runs."""
        return ModelList(data=[model])

    @routes.get("/v1/models/{name}")
    def one_model(name: str) -> Model:
        """The model that runs, by its name."""
        check_model(name, service.model)
        return model

    @routes.post(
        "/v1/chat/completions",
        response_model=Completion,
        responses={200: {"content": CHUNKS}},
    )
    async def chat_completions(body: ChatRequest, request: Request) -> Any:
        """Answer the last message of the user, whole or, with `stream`, as it is said."""
        check_model(body.model, service.model)
        asked = asked_from(body)
        service.check_adapter(body.adapter, is_of_camera=not asked.images)
        reply, saying = await _asked(service, asked, body.camera)
        if not body.stream:
            final = await _final(reply, saying, request)
            return reply.whole(final)
        with_usage = body.stream_options is not None and body.stream_options.include_usage
        return StreamingResponse(_chunks(reply, saying, with_usage), media_type="text/event-stream")

    return routes


def check_model(name: str, own: str) -> None:
    """Raises ModelUnknown where the service runs another one."""
    if name != own:
        raise ModelUnknown(
            f"got the model {name!r}, expected {own!r}", hint="GET /v1/models lists it"
        )


async def _asked(
    service: "Service", asked: AskedChat, camera: str | None
) -> tuple[Reply, "asyncio.Task[None] | None"]:
    """The question on its way, and the work that answers it where no camera does."""
    answer = Answer(asked.wishes)
    if not asked.images:
        one = service.camera_of(camera)
        one.ask(asked.question, answer)
        return Reply(service.model, one.name, answer), None
    service.guest.enter()
    saying = asyncio.create_task(_about_images(service, asked, answer))
    return Reply(service.model, None, answer), saying


async def _about_images(service: "Service", asked: AskedChat, answer: Answer) -> None:
    """Have the guest answer; every fault reaches who waits."""
    from starlette.concurrency import run_in_threadpool

    try:
        await run_in_threadpool(_say_about_images, service, asked, answer)
    except EdgeStreamError as fault:
        answer.fail(fault)
    except Exception as fault:
        answer.fail(EdgeStreamError(f"a fault of EdgeStream itself: {type(fault).__name__}"))
        raise
    finally:
        service.guest.leave()


def _say_about_images(service: "Service", asked: AskedChat, answer: Answer) -> None:
    side = service.board.shared.settings.source.max_side_px
    most_px = service.limits.image_px
    images = [image_from_url(url, most_px=most_px, max_side_px=side) for url in asked.images]
    service.guest.answer(images, asked.question, answer)


async def _final(reply: Reply, saying: "asyncio.Task[None] | None", request: "Request") -> Response:
    """The whole answer; cut where the client has gone.

    Raises:
        EdgeStreamError: there is none.
    """
    waiting = asyncio.create_task(_last(reply.answer))
    try:
        while not waiting.done():
            await asyncio.wait({waiting}, timeout=GONE_EVERY_S)
            if not waiting.done() and await request.is_disconnected():
                reply.answer.cancel()
        return waiting.result()
    finally:
        waiting.cancel()
        await _let_go(reply, saying)


async def _last(answer: Answer) -> Response:
    final: Response | None = None
    async for response in answer.responses():
        final = response
    assert final is not None, "responses() ends with a final or raises"
    if (fault := fault_of(answer, final)) is not None:
        raise fault
    return final


async def _chunks(
    reply: Reply, saying: "asyncio.Task[None] | None", with_usage: bool
) -> AsyncIterator[str]:
    """Events of a stream; a fault after the first one is an event too."""
    try:
        yield reply.chunk({"role": "assistant", "content": ""})
        async for response in reply.answer.responses():
            if (fault := fault_of(reply.answer, response)) is not None:
                raise fault
            if delta := reply.delta(response.text):
                yield reply.chunk({"content": delta})
            if response.is_final:
                yield reply.last_chunk(response)
        if with_usage:
            yield reply.usage_chunk()
    except EdgeStreamError as fault:
        body = fault_body(fault, "/v1/chat/", status_of(fault))
        yield f"data: {body.decode()}\n\n"
    finally:
        await _let_go(reply, saying)
    yield "data: [DONE]\n\n"


async def _let_go(reply: Reply, saying: "asyncio.Task[None] | None") -> None:
    """Nobody waits any more: what is still being said stops."""
    reply.answer.cancel()
    if saying is not None and saying.done():
        with suppress(Exception):  # it was told to who waited
            saying.result()
