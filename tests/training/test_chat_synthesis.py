"""Dialogues that a language model writes, over a socket of this machine."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from edgestream.runtime.errors import EndpointFailed, UsageError
from edgestream.training.captions import Caption, Captioned
from edgestream.training.chat_endpoint import ChatEndpoint, KeptAnswers
from edgestream.training.chat_synthesis import by_language_model, words_of

from .chat_server import chat_server

THREE = Captioned(
    "a",
    (Caption(2.0, 4.0, "A man comes in."), Caption(5.0, 5.0, "The lamp goes on."),
     Caption(6.0, 9.0, "He sits down.")),
)  # fmt: skip
GIVEN = [(Path("a.mp4"), THREE)]


def lines(body):
    """(number, time, role) of each line that the model has to write."""
    found = re.findall(r"^(\d+)\. ([\d.]+) (user|assistant)", body["messages"][1]["content"], re.M)
    return [(number, float(time_s), role) for number, time_s, role in found]


def fluent(body):
    """A model that answers every line, in a block of Markdown, as many do."""
    words = {number: f"The {role} speaks in line {number}." for number, _, role in lines(body)}
    return f"Sure!\n```json\n{json.dumps(words)}\n```"


def endpoint(server, **how):
    return ChatEndpoint(server.url, "small", **how)


def made(server, left=None, **how):
    leave_out = (lambda why: None) if left is None else left.append
    return list(by_language_model(GIVEN, endpoint(server).text, leave_out=leave_out, **how))


def test_the_model_writes_words_for_lines_whose_times_are_ours():
    with chat_server(fluent) as server:
        (dialogue,) = made(server)
    ((path, _, body),) = server.asked
    assert path == "/v1/chat/completions" and body["model"] == "small"
    assert "2.0 to 4.0: A man comes in." in body["messages"][1]["content"]
    assert "\n5.0: The lamp goes on." in body["messages"][1]["content"]
    wanted = [(time_s, role) for _, time_s, role in lines(body)]
    assert [(round(turn.time_s, 1), turn.role) for turn in dialogue.turns] == wanted
    assert dialogue.turns[0].role == "user" and dialogue.id == "a:chat-0"
    for before, turn in zip(dialogue.turns, dialogue.turns[1:], strict=False):
        assert before.role == "assistant" or (turn.role, turn.time_s) == (
            "assistant",
            before.time_s,
        )


def test_lines_of_the_assistant_stand_at_the_moments_of_captions():
    with chat_server(fluent) as server:
        dialogues = made(server, each=6)
        starts = made(server, each=6, at_start=True)
    for found, moments in ((dialogues, {4.0, 5.0, 9.0}), (starts, {2.0, 5.0, 6.0})):
        for one in found:
            asked = {turn.time_s for turn in one.turns if turn.role == "user"}
            said = {turn.time_s for turn in one.turns if turn.role == "assistant"}
            assert said - asked == {at for at in moments if at > min(asked)}
    assert len({str(one.turns) for one in dialogues}) == 6


def test_empty_words_are_silence_and_a_question_without_words_has_no_answer():
    def shy(body):
        (number, *_), *others = lines(body)
        return json.dumps({number: " ", **{other[0]: "Something." for other in others}})

    with chat_server(shy) as server:
        found = made(server, each=8)
    for one in found:
        assert one.turns[0].role == "user" or one.turns[0].time_s in (4.0, 5.0, 9.0)

    def silent(body):
        return json.dumps(
            {number: "Hm?" if role == "user" else "" for number, _, role in lines(body)}
        )

    left = []
    with chat_server(silent) as server:
        assert made(server, left) == [] and len(server.asked) == 3
    assert left == ["a:chat-0: the language model wrote no dialogue that can be used"]


@pytest.mark.parametrize(
    "words", ["He sits down at 9.0 s.", "After 5 seconds it went on.", "It was 0:05.", None]
)
def test_times_in_words_and_other_forms_are_asked_for_again(words):
    def clumsy(body):
        if len(server.asked) < 3:
            said = {number: words for number, _, _ in lines(body)}
            return json.dumps(said) if words else "I cannot do that."
        return fluent(body)

    with chat_server(clumsy) as server:
        (dialogue,) = made(server)
    assert len({body["seed"] for _, _, body in server.asked}) == 3
    assert all("line" in turn.text for turn in dialogue.turns)


def test_what_was_answered_is_not_asked_again(tmp_path):
    path = tmp_path / "answers.jsonl"
    with chat_server(fluent) as server:
        first = list(by_language_model(GIVEN, KeptAnswers(path, endpoint(server)).text, each=3))
        path.write_bytes(path.read_bytes()[:-20])  # as a kill leaves it
        again = list(by_language_model(GIVEN, KeptAnswers(path, endpoint(server)).text, each=3))
        assert again == first and len(server.asked) == 4
        more = list(by_language_model(GIVEN, KeptAnswers(path, endpoint(server)).text, each=3))
        assert more == first


def test_a_busy_server_is_asked_again_and_then_no_more():
    waits = []
    with chat_server(lambda body: 503 if len(server.asked) < 3 else "Yes.") as server:
        assert endpoint(server, sleep=waits.append).text([], 0) == "Yes."
    assert len(waits) == 2 and all(2.0 <= wait <= 30.0 for wait in waits)  # Retry-After: 2
    with chat_server(lambda body: 429) as server:
        with pytest.raises(EndpointFailed, match="HTTP 429"):
            endpoint(server, sleep=waits.append).text([], 0)
        assert len(server.asked) == 5


@pytest.mark.parametrize(
    ("answer", "words"),
    [(401, "HTTP 401"), (307, "HTTP 307"), (b"<html>", "answered b'<html>'"),
     (b"{\"choices\": []}", "choices"),
     (b"{\"choices\": [{\"message\": {\"content\": null}}]}", "choices")],
)  # fmt: skip
def test_a_refusal_or_another_form_is_one_sentence_at_once(answer, words):
    with chat_server(lambda body: answer) as server:
        with pytest.raises(EndpointFailed) as caught:
            endpoint(server).text([], 0)
        assert len(server.asked) == 1
    assert words in caught.value.message and caught.value.exit_code == 7


def test_a_key_is_sent_and_never_shown(tmp_path):
    with chat_server(lambda body: "Yes.") as server:
        endpoint(server, key="s3cret").text([], 0)
        assert server.asked[0][1]["Authorization"] == "Bearer s3cret"
        plain = endpoint(server)
    with pytest.raises(UsageError, match="expected http") as caught:  # a key goes into a file
        ChatEndpoint(plain.url.replace("//", "//me:s3cret@"), "small")
    assert "s3cret" not in caught.value.message
    assert "s3cret" not in repr(endpoint(server, key="s3cret"))


@pytest.mark.parametrize(
    "url", ["file:///etc/passwd", "127.0.0.1:8000/v1", "ftp://host/v1", "http://"]
)
def test_only_addresses_of_the_web_are_asked(url):
    with pytest.raises(UsageError, match="expected http"):
        ChatEndpoint(url, "small")


@pytest.mark.parametrize(
    ("answer", "words"),
    [('{"1": "a", "2": ""}', {1: "a", 2: ""}), ('x {"1": "a  b"} y', {1: "a b"}), ("none", {}),
     ('{"one": "a"}', {}), ('{"1": 3}', {}), ("{", {})],
)  # fmt: skip
def test_words_are_found_in_what_a_model_says(answer, words):
    assert words_of(answer) == words
