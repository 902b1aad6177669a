"""HTTP: the part that clients of OpenAI know, tried with the official client, unchanged."""

from __future__ import annotations

import base64
import json
import socket
import threading
import time
from fractions import Fraction

import numpy as np
import pytest

from edgestream.edge.service.pictures import jpeg_from_rgb

from .serving import events, until

openai = pytest.importorskip("openai", reason="the official client is not installed")

ASK = [{"role": "user", "content": "What do you see?"}]


@pytest.fixture
def client(service):
    with openai.OpenAI(
        base_url=f"{service.url}/v1", api_key="none", max_retries=0, timeout=60
    ) as made:
        yield made


def picture(height=90, width=160):
    pixels = np.full((height, width, 3), 200, np.uint8)
    pixels[height // 3 : height // 2, width // 3 : width // 2] = (220, 20, 20)
    return pixels


def data_url(data, kind="jpeg"):
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


def about(*urls, question="What do you see?"):
    images = [{"type": "image_url", "image_url": {"url": url}} for url in urls]
    return [{"role": "user", "content": [{"type": "text", "text": question}, *images]}]


def test_the_model_is_the_bundle(client):
    (model,) = client.models.list().data
    assert (model.id, model.owned_by) == ("reference", "edgestream")
    assert client.models.retrieve("reference").id == "reference"


def test_an_answer_as_a_whole(client, service):
    told = client.chat.completions.create(model="reference", messages=ASK)
    (choice,) = told.choices
    assert choice.message.content and choice.finish_reason == "stop"
    usage = told.usage
    assert usage.prompt_tokens > 0 and usage.completion_tokens > 0
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens
    found = told.edgestream
    assert found["camera"] == "door" and found["context"] == "recent"
    turn = found["turn_id"]
    (record,) = until(lambda: [one for one in finals_of(service) if one["turn_id"] == turn])
    assert record["text"] == choice.message.content
    assert record["question"] == "What do you see?"


def finals_of(service):
    """Answers as records; each comes a moment after whoever asked has it."""
    return service.get("/v1/records?types=final&limit=1000")["records"]


def test_a_stream_of_chunks_says_the_same_as_the_record(client, service):
    stream = client.chat.completions.create(
        model="reference", messages=ASK, stream=True, stream_options={"include_usage": True}
    )
    chunks = list(stream)
    text = "".join(one.choices[0].delta.content or "" for one in chunks if one.choices)
    assert len({one.id for one in chunks}) == 1
    last, usage = chunks[-2], chunks[-1].usage
    assert last.choices[0].finish_reason == "stop"
    assert usage.completion_tokens > 0 and chunks[-1].choices == []
    turn = last.edgestream["turn_id"]
    (record,) = until(lambda: [one for one in finals_of(service) if one["turn_id"] == turn])
    assert record["text"] == text


def test_fewer_tokens_are_said_where_fewer_are_wanted(client):
    told = client.chat.completions.create(model="reference", messages=ASK, max_tokens=1)
    assert told.choices[0].finish_reason == "length"
    assert told.usage.completion_tokens == 1
    assert (
        client.chat.completions.create(model="reference", messages=ASK).usage.completion_tokens > 1
    )


def test_each_of_many_askers_gets_the_answer_to_its_own_question(service):
    questions = [f"What do you see, number {number}?" for number in range(8)]
    found = {}

    def ask(question):
        status, value = service.chat(question)
        found[question] = value["edgestream"]["turn_id"] if status == 200 else value

    threads = [threading.Thread(target=ask, args=[question]) for question in questions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    until(lambda: {one["turn_id"] for one in finals_of(service)} >= set(found.values()))
    asked = {one["turn_id"]: one["question"] for one in finals_of(service)}
    assert {question: asked[turn] for question, turn in found.items()} == {
        question: question for question in questions
    }


@pytest.mark.parametrize("kind", ["jpeg", "png"])
def test_a_picture_is_answered_about(client, kind):
    data = jpeg_from_rgb(picture()) if kind == "jpeg" else png(picture())
    told = client.chat.completions.create(model="reference", messages=about(data_url(data, kind)))
    assert told.choices[0].message.content
    assert told.edgestream["camera"] is None
    # Ten tokens a picture: two of them are a longer prompt.
    two = client.chat.completions.create(
        model="reference", messages=about(*[data_url(data, kind)] * 2)
    )
    assert two.usage.prompt_tokens >= told.usage.prompt_tokens + 10


def test_a_picture_leaves_nothing_behind(client):
    data = data_url(jpeg_from_rgb(picture()))
    first, second = (
        client.chat.completions.create(model="reference", messages=about(data)) for _ in range(2)
    )
    assert first.choices[0].message.content == second.choices[0].message.content
    assert first.usage == second.usage
    assert (first.edgestream["turn_id"], second.edgestream["turn_id"]) == ("t1", "t1")


def png(pixels):
    import av

    encoder = av.CodecContext.create("png", "w")
    encoder.height, encoder.width = pixels.shape[:2]
    encoder.pix_fmt, encoder.time_base = "rgb24", Fraction(1, 25)
    frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
    return b"".join(bytes(one) for one in (*encoder.encode(frame), *encoder.encode(None)))


def huge_png():
    """A head that states 60000 x 60000 px, and nothing behind it."""
    return b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + (60000).to_bytes(4, "big") * 2 + b"\x08\x02\0\0\0"


@pytest.mark.parametrize(
    ("url", "status"),
    [
        ("http://127.0.0.1/x.jpg", 400),
        ("file:///etc/passwd", 400),
        ("data:text/plain;base64,eA==", 400),
        ("data:image/jpeg;base64,!!!", 400),
        (data_url(b"GIF89a"), 400),
        (data_url(jpeg_from_rgb(picture())[:20]), 400),
        (data_url(jpeg_from_rgb(picture())[:2] + b"\xff" * 4000), 400),
        (data_url(huge_png(), "png"), 413),
    ],
    ids=lambda value: str(value)[:30],
)
def test_what_is_no_picture_is_refused(service, url, status):
    got, value = service.json(
        "POST", "/v1/chat/completions", {"model": "reference", "messages": about(url)}
    )
    assert got == status, value
    assert value["error"]["type"] == "invalid_request_error"


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"model": "gpt-4o"}, openai.NotFoundError),
        ({"messages": []}, openai.BadRequestError),
        ({"messages": [{"role": "system", "content": "x"}]}, openai.BadRequestError),
        ({"messages": [{"role": "user", "content": " "}]}, openai.BadRequestError),
        ({"messages": [{"role": "user", "content": "x" * 10_000}]}, openai.BadRequestError),
        ({"messages": [{"role": "user", "content": "why " * 500}]}, openai.BadRequestError),
        ({"messages": [{"role": "who", "content": "x"}]}, openai.BadRequestError),
        ({"n": 2}, openai.BadRequestError),
        ({"temperature": 9}, openai.BadRequestError),
        ({"tools": [{"type": "function", "function": {"name": "f"}}]}, openai.BadRequestError),
        ({"extra_body": {"camera": "nobody"}}, openai.NotFoundError),
        ({"extra_body": {"camera": "../etc"}}, openai.BadRequestError),
        ({"messages": about(*["data:image/png;base64,eA=="] * 5)}, openai.BadRequestError),
    ],
    ids=str,
)
def test_faults_are_those_that_the_client_knows(client, change, fault):
    with pytest.raises(fault) as caught:
        client.chat.completions.create(**{"model": "reference", "messages": ASK, **change})
    body = caught.value.body
    assert body["code"] and body["message"] and body["type"]


def test_fields_that_mean_nothing_here_are_left_alone(client):
    told = client.chat.completions.create(
        model="reference",
        messages=[{"role": "system", "content": "Be brief."}, *ASK],
        user="somebody",
        presence_penalty=0.5,
        extra_body={"top_k": 3},
    )
    assert told.choices[0].message.content


def test_who_leaves_cuts_the_answer(service):
    """A client that closes its connection has the model stop: the record says that it was cut."""
    until(lambda: service.state("door") == "open")
    stream = events(service, "/v1/events?types=final")
    assert next(stream)[0] == "comment"
    body = json.dumps({"model": "reference", "messages": ASK, "stream": True}).encode()
    head = (
        "POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\n"
        f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    # An answer of the reference assistant takes some ms: of many, some are left in the middle.
    for _ in range(30):
        with socket.create_connection(("127.0.0.1", service.port), 60) as connection:
            connection.sendall(head.encode() + body)
            time.sleep(0.002)
    ends = set()
    for kind, fields in stream:
        if kind == "event":
            record = json.loads(fields["data"])
            ends.add(record["ended_by"])
            if "cut" in ends:
                break
    stream.close()
    assert "cut" in ends
    assert service.chat("What do you see?")[0] == 200
