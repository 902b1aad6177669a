"""A prompt in embeds: the layout's own order, joined text tokenised once, frames in their place."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from edgestream.models.live_layout import LivePrompt, live_layout
from edgestream.runtime.manifest_values import FrameInput
from edgestream.runtime.preprocess import fitted_picture, model_pixels
from edgestream.runtime.prompt import (
    MemoryEntry,
    PromptParts,
    Shown,
    prompt_embeds,
    prompt_pieces,
    runs,
)
from edgestream.runtime.prompt_layout import Ids, PromptLayout, Slot, Text

from ..small_tokenizer import SYSTEM, TEXT, trained_tokenizer

LAYOUT = PromptLayout(
    segments={
        "system": (Text("S"),),
        "frame_open": (Text("["),),
        "frame": (Slot("embeds"),),
        "frame_join": (Text(","),),
        "frame_close": (Text("]"),),
        "user": (Text("U:"), Slot("question"), Ids((9,))),
        "assistant": (Text("A:"),),
    },
    order=("system", "frame*", "user", "assistant"),
    stop_ids=(9,),
    max_answer_tokens=4,
    bos_id=7,
)


def spelt(frames):
    """The prompt with each token as its id and each frame as its first number."""
    asked: list[str] = []

    def encode(text):
        asked.append(text)
        return [ord(letter) for letter in text]

    def rows(ids):
        return np.array(ids, np.float32)[:, None] * np.ones((1, 3), np.float32)

    embeds = prompt_embeds(LAYOUT, encode, rows, frames, "why?")
    return embeds[:, 0].tolist(), asked


def test_text_around_frames_is_joined_and_frames_stand_between():
    frames = [np.full((2, 3), 1000.0 + index, np.float32) for index in range(2)]
    numbers, asked = spelt(frames)
    assert asked == ["S[", ",", "]U:why?", "A:"]
    expected = [7, *map(ord, "S["), 1000, 1000, ord(","), 1001, 1001, *map(ord, "]U:why?"), 9]
    assert numbers == [*expected, *map(ord, "A:")]


def test_without_frames_nothing_opens():
    numbers, asked = spelt([])
    assert asked == ["SU:why?", "A:"] and numbers[0] == 7


TOKENIZER = trained_tokenizer(TEXT)
BOS, STOP = TOKENIZER.token_to_id("<s>"), TOKENIZER.token_to_id("</s>")
LIVE = live_layout(LivePrompt(SYSTEM, "</s>", "<s>"), TOKENIZER)
CHAT = PromptLayout(
    segments={
        "system": (Text("system: watch"), Ids((STOP,)), Text("\n")),
        "frame": (Text("user: at "), Slot("time"), Slot("embeds"), Ids((STOP,)), Text("\n")),
        "memory_entry": (Slot("time"), Text(" "), Slot("embeds"), Slot("said"), Text("\n")),
        "user": (Slot("time"), Text("user: "), Slot("question"), Ids((STOP,)), Text("\n")),
        "assistant": (Text("assistant:"),),
    },
    dialogue_turn=(Slot("time"), Text("user: "), Slot("question"), Ids((STOP,)),
                   Text("\nassistant: "), Slot("answer"), Ids((STOP,)), Text("\n")),
    order=("system", "memory_entry*", "dialogue_turn*", "frame*", "user", "assistant"),
    stop_ids=(STOP,), max_answer_tokens=20, time_text="{:.1f}s",
)  # fmt: skip
ONE, TWO = (np.full((3, 4), value, np.float32) for value in (1, 2))


@dataclass(frozen=True)
class Said:
    time_s: float
    question: str | None
    answer: str


def ids(text):
    return tuple(TOKENIZER.encode(text, add_special_tokens=False).ids)


def written(layout, parts):
    """The prompt as ids, and the embeds where they stand."""
    found = []
    for run in runs(prompt_pieces(layout, parts), ids):
        found += [run.embeds] if isinstance(run, Shown) else run
    return found


def same(found, *expected):
    """Ids of strings, each tokenised as one; arrays are embeds."""
    flat = []
    for part in expected:
        flat += ids(part) if isinstance(part, str) else [part]
    return len(found) == len(flat) and all(
        a is b or a == b for a, b in zip(found, flat, strict=True)
    )


DIALOGUE = (Said(1.0, "Who?", " Two people."), Said(2.0, None, " One left."))


def test_the_live_template_with_everything():
    parts = PromptParts("Now?", [(8.0, ONE), (8.5, TWO)], DIALOGUE, [MemoryEntry(3.0, TWO)])
    assert same(
        written(LIVE, parts), BOS, f"{SYSTEM}\n\n[", TWO, "]\nUser: Who?\nAssistant: Two people.",
        STOP, "\nAssistant: One left.", STOP, "\n[", ONE, ",", TWO, "]\nUser: Now?\nAssistant:",
    )  # fmt: skip


def test_the_live_template_without_frames_begins_a_question_with_its_line_feed():
    assert same(written(LIVE, PromptParts("Now?")), BOS, f"{SYSTEM}\n\nUser: Now?\nAssistant:")
    parts = PromptParts("Now?", dialogue=DIALOGUE[:1], memory=[MemoryEntry(3.0, TWO)])
    assert same(
        written(LIVE, parts), BOS, f"{SYSTEM}\n\n[", TWO, "]\nUser: Who?\nAssistant: Two people.",
        STOP, "\nUser: Now?\nAssistant:",
    )  # fmt: skip


def test_the_live_template_without_a_question_describes():
    assert same(
        written(LIVE, PromptParts(None, [(1.0, ONE)])),
        BOS, f"{SYSTEM}\n\n[", ONE, "]\nAssistant:",
    )  # fmt: skip
    parts = PromptParts(None, dialogue=DIALOGUE[:1])
    assert same(
        written(LIVE, parts), BOS, f"{SYSTEM}\n\nUser: Who?\nAssistant: Two people.", STOP,
        "\nAssistant:",
    )  # fmt: skip


def test_a_chat_template_with_times():
    memory = [MemoryEntry(3.0, TWO, " a dog")]
    parts = PromptParts("Now?", [(8.0, ONE), (None, TWO)], DIALOGUE, memory, time_s=9.0)
    assert same(
        written(CHAT, parts), "system: watch", STOP, "\n3.0s ", TWO, " a dog\n1.0suser: Who?", STOP,
        "\nassistant: Two people.", STOP, "\n2.0sassistant:One left.", STOP, "\nuser: at 8.0s", ONE,
        STOP, "\nuser: at ", TWO, STOP, "\n9.0suser: Now?", STOP, "\nassistant:",
    )  # fmt: skip


@pytest.mark.parametrize("resize", ["squash", "letterbox", "crop"])
@pytest.mark.parametrize("shape", [(1, 1), (10, 400), (400, 10), (64, 48), (65, 47)])
def test_any_picture_gets_the_models_size(resize, shape):
    pixels = np.full((*shape, 3), 200, np.uint8)
    fitted = fitted_picture(pixels, FrameInput((48, 64), 2.0, resize))
    assert fitted.shape == (48, 64, 3) and fitted.dtype == np.uint8
    if resize != "letterbox":
        assert (fitted == 200).all()


def test_a_letterbox_keeps_proportions_and_a_crop_keeps_the_middle():
    pixels = np.zeros((100, 200, 3), np.uint8)
    pixels[:, 100:] = 255
    boxed = fitted_picture(pixels, FrameInput((64, 64), 2.0, "letterbox"))
    assert not boxed[:16].any() and not boxed[48:].any() and (boxed[20:44, 40:] == 255).all()
    cropped = fitted_picture(pixels, FrameInput((64, 64), 2.0, "crop"))
    assert (cropped[:, 40:] == 255).all() and not cropped[:, :24].any()
    with pytest.raises(ValueError, match="squash, letterbox or crop"):
        fitted_picture(pixels, FrameInput((64, 64), 2.0, "stretch"))


def test_pixels_are_normalised_per_colour():
    fitted = np.zeros((2, 2, 3), np.uint8)
    fitted[..., 1] = 255
    pixels = model_pixels(
        fitted, FrameInput((2, 2), 2.0, "squash", 3, None, (0.5,) * 3, (0.5,) * 3)
    )
    assert pixels.shape == (1, 3, 2, 2) and pixels.dtype == np.float32
    assert pixels[0, :, 0, 0].tolist() == [-1.0, 1.0, -1.0]
    plain = model_pixels(fitted, FrameInput((2, 2), 2.0, "squash"))
    assert plain[0, :, 0, 0].tolist() == [0.0, 1.0, 0.0]
