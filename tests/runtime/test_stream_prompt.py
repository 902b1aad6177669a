"""The text of a stream, against ids tokenised from the published template, and a chat template."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgestream.models.live_layout import LivePrompt, live_layout
from edgestream.runtime.prompt_layout import Ids, PromptLayout, Slot, Text, with_text_ids
from edgestream.runtime.stream_prompt import StreamText

from ..small_tokenizer import SYSTEM, TEXT, trained_tokenizer

TOKENIZER = trained_tokenizer(TEXT)
BOS, STOP = TOKENIZER.token_to_id("<s>"), TOKENIZER.token_to_id("</s>")
LIVE = live_layout(LivePrompt(SYSTEM, "</s>", "<s>"), TOKENIZER)
ONE_TOKEN = live_layout(LivePrompt(SYSTEM, "</s>", "<s>", join=None), TOKENIZER)


def ids(text: str) -> tuple[int, ...]:
    return tuple(TOKENIZER.encode(text, add_special_tokens=False).ids)


class Stream:
    """Everything that was written, as pieces: ids, and "frame" for the embeds of one."""

    def __init__(self, layout: PromptLayout = LIVE) -> None:
        self.text = StreamText(layout, ids)
        self.written: list[tuple[int, ...] | str] = []

    def frame(self) -> Stream:
        self.written += [self.text.frame_prefix(), "frame"]
        return self

    def ask(self, question: str) -> Stream:
        self.written.append(self.text.ask(question))
        return self

    def speak(self) -> Stream:
        self.written.append(self.text.describe())
        return self

    def say(self, words: str, stop: bool = True) -> Stream:
        """An answer; its last token is told to the text, the others are written by the model."""
        said = (*ids(words), STOP) if stop else ids(words)
        self.written.append(said[:-1])
        self.text.answered(said[-1])
        return self

    @property
    def flat(self) -> list[int | str]:
        return [one for part in self.written for one in ([part] if part == "frame" else part)]


def flat(*parts: str | int) -> list[int | str]:
    """Ids of strings and tokens as they stand; "frame" is a frame."""
    found: list[int | str] = []
    for part in parts:
        found += [part] if isinstance(part, int) or part == "frame" else ids(part)
    return found


# The template's own strings; what stands between two generated tokens is tokenised as one.
START = SYSTEM + "\n" + "\n["


def test_it_begins_with_the_system_text_and_opens_the_frames():
    assert Stream().frame().flat == flat(BOS, START, "frame")


def test_between_silent_frames_stands_the_one_silent_token():
    (silent,) = LIVE.silent_ids
    assert Stream().frame().frame().frame().flat == flat(
        BOS, START, "frame", silent, "frame", silent, "frame"
    )


def test_speaking_closes_the_frames_and_opens_them_again():
    stream = Stream().frame().frame().speak().say(" A dog runs.").frame()
    assert stream.flat == flat(
        BOS, START, "frame", ",", "frame", "]\nAssistant:", " A dog runs.", STOP, "\n[", "frame"
    )
    assert ids("]\nAssistant:")[:1] == LIVE.speak_ids


def test_a_question_between_frames():
    stream = Stream().frame().ask("What do you see?").say(" A dog.").frame().frame()
    assert stream.flat == flat(
        BOS, START, "frame", "]\nUser: What do you see?\nAssistant:", " A dog.", STOP, "\n[",
        "frame", ",", "frame",
    )  # fmt: skip


def test_a_question_before_any_frame_follows_the_system_text():
    stream = Stream().ask("Are you there?").say(" Yes.").frame()
    question = SYSTEM + "\n" + "\nUser: Are you there?" + "\nAssistant:"
    assert stream.flat == flat(BOS, question, " Yes.", STOP, "\n[", "frame")


def test_two_questions_in_a_row_close_the_frames_once():
    stream = Stream().frame().ask("Who?").say(" Two people.").ask("Where?").say(" There.").frame()
    assert stream.flat == flat(
        BOS, START, "frame", "]\nUser: Who?\nAssistant:", " Two people.", STOP,
        "\nUser: Where?\nAssistant:", " There.", STOP, "\n[", "frame",
    )  # fmt: skip


def test_speaking_without_open_frames_begins_as_the_template_does():
    stream = Stream().frame().ask("Who?").say(" You.").speak().say(" A dog.").frame()
    assert stream.flat == flat(
        BOS, START, "frame", "]\nUser: Who?\nAssistant:", " You.", STOP,
        "\nAssistant:", " A dog.", STOP, "\n[", "frame",
    )  # fmt: skip


def test_a_cut_answer_is_ended_before_frames_open_again():
    stream = Stream().frame().speak().say(" A dog carries a", stop=False).frame()
    assert stream.flat == flat(
        BOS, START, "frame", "]\nAssistant:", " A dog carries a", STOP, "\n[", "frame"
    )


def test_an_answer_cancelled_before_its_first_token_is_ended_too():
    stream = Stream().frame().speak()
    stream.text.answered(None)
    assert stream.frame().flat == flat(BOS, START, "frame", "]\nAssistant:", STOP, "\n[", "frame")
    unsaid = Stream().frame().speak().frame()
    assert unsaid.flat == stream.flat


def test_one_token_a_frame_is_silent_with_the_stop_token_which_is_not_written():
    assert ONE_TOKEN.silent_ids == (STOP,)
    stream = Stream(ONE_TOKEN).frame().frame().speak().say(" A dog.").frame().ask("Why?")
    assert stream.flat == flat(
        BOS, START, "frame", "frame", "]\nAssistant:", " A dog.", STOP, "\n[", "frame",
        "]\nUser: Why?\nAssistant:",
    )  # fmt: skip


def chat(ending: tuple[Ids | Text, ...]) -> PromptLayout:
    """Each frame stands alone in a turn of the user; `</s>` ends every turn, a line feed after."""
    layout = PromptLayout(
        segments={
            "system": (Text("system:"), Text(SYSTEM), Ids((STOP,)), Text("\n")),
            "frame": (Text("user: at "), Slot("time"), Text(" "), Slot("embeds"), Ids((STOP,)),
                      Text("\n")),
            "user": (Text("user: "), Slot("question"), Ids((STOP,)), Text("\n")),
            "assistant": (Text("assistant:"),),
        },
        dialogue_turn=(Text("user: "), Slot("question"), Ids((STOP,)), Text("\nassistant:"),
                       Slot("answer"), *ending),
        order=("system", "dialogue_turn*", "frame*", "user", "assistant"),
        stop_ids=(STOP,), max_answer_tokens=20, time_text="{:.1f}s",
        token_texts={"stop_ids": ("</s>",)},
    )  # fmt: skip
    return with_text_ids(layout, TOKENIZER)


@pytest.mark.parametrize("ending", [(Ids((STOP,)), Text("\n")), (Text("</s>\n"),), (Text("\n"),)])
def test_a_chat_template_writes_each_turn_whole(ending):
    text = StreamText(chat(ending), ids)
    assert list(text.frame_prefix(1.0)) == flat(f"system:{SYSTEM}", STOP, "\nuser: at 1.0s ")
    assert list(text.frame_prefix(1.5)) == flat(STOP, "\nuser: at 1.5s ")
    assert list(text.ask("Why?")) == flat(STOP, "\nuser: Why?", STOP, "\nassistant:")
    text.answered(STOP)
    assert list(text.ask("And now?")) == flat(STOP, "\nuser: And now?", STOP, "\nassistant:")
    text.answered(ids(" so")[-1])
    assert list(text.frame_prefix(2.0)) == flat(ids(" so")[-1], STOP, "\nuser: at 2.0s ")
    assert list(text.describe()) == flat(STOP, "\nassistant:")
    text.answered(None)
    assert list(text.describe()) == flat(STOP, "\nassistant:")


def test_a_system_text_that_the_order_does_not_name_is_not_written():
    unnamed = replace(LIVE, order=("frame*", "user", "assistant"), bos_id=None)
    assert list(StreamText(unnamed, ids).frame_prefix()) == flat("\n[")


STEPS = st.lists(st.sampled_from(["frame", "ask", "speak", "stop", "cut", "none"]), max_size=12)


def write(text: StreamText, step: str) -> tuple[int, ...] | None:
    if step == "frame":
        return text.frame_prefix(1.0)
    if step in ("ask", "speak"):
        return text.ask("Why?", 1.0) if step == "ask" else text.describe(1.0)
    return text.answered({"stop": STOP, "cut": 40, "none": None}[step])


@pytest.mark.medium
@given(STEPS, STEPS, st.sampled_from([LIVE, ONE_TOKEN, chat((Ids((STOP,)), Text("\n")))]))
def test_a_place_goes_on_as_if_nothing_had_been_between_and_reset_is_fresh(before, after, layout):
    text, other, fresh = (StreamText(layout, ids) for _ in range(3))
    for step in before:
        write(text, step)
    place = text.snapshot()
    expected = [write(text, step) for step in after]
    other.restore(place)
    assert [write(other, step) for step in after] == expected
    other.reset()
    assert not other.is_begun
    assert [write(other, step) for step in after] == [write(fresh, step) for step in after]


@pytest.mark.medium
@given(STEPS)
def test_the_start_is_written_once_and_frames_open_as_often_as_they_close(steps):
    stream = Stream()
    for step in steps:
        if step == "frame":
            stream.frame()
        elif step in ("ask", "speak"):
            (stream.ask("Why?") if step == "ask" else stream.speak()).say(" Yes.", step == "ask")
    text = "".join(
        "<v>" if part == "frame" else TOKENIZER.decode(list(part), skip_special_tokens=False)
        for part in stream.written
    )
    assert text.count(SYSTEM) == ("ask" in steps or "speak" in steps or "frame" in steps)
    assert 0 <= text.count("[") - text.count("]") <= 1
