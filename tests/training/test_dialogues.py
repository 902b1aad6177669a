"""Dialogues as JSON lines: what is written is read, and what is wrong is named with its line."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgestream.runtime.errors import DialogueInvalid, OutputUnwritable
from edgestream.training.dialogues import Dialogue, Turn, read_dialogues, write_dialogues

from ..video_files import numbered, write_video

TURNS = [{"time_s": 0.5, "role": "user", "text": "What is there?"},
         {"time_s": 1.0, "role": "assistant", "text": "A square."}]  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dialogues")
    write_video(folder / "two.mp4", numbered(20), fps=10)
    return folder


def line(**changes):
    value = {"format": 1, "video": "two.mp4", "turns": TURNS, **changes}
    return json.dumps({key: part for key, part in value.items() if part is not None})


def turn(**changes):
    value = {**TURNS[1], **changes}
    return {key: part for key, part in value.items() if part is not None}


def read(folder, *lines, **how):
    path = folder / "some.jsonl"
    path.write_text("\n".join(lines), "utf-8")
    return read_dialogues(path, **how)


def test_a_line_becomes_a_dialogue_of_the_video_beside_the_file(folder):
    (found,) = read(folder, line(id="one", to_s=1.5), "")
    assert found == Dialogue(
        folder / "two.mp4",
        (Turn(0.5, "user", "What is there?"), Turn(1.0, "assistant", "A square.")),
        0.0,
        1.5,
        "one",
        f"{folder / 'some.jsonl'}:1",
    )


@pytest.mark.parametrize(
    ("bad", "words"),
    {
        "no json": ("{", "no line of JSON"),
        "no utf-8": (b"\xff\xfe".decode("latin-1"), "no line of JSON"),
        "deep": ("[" * 100_000, "no line of JSON"),
        "a list": ("[]", "expected an object"),
        "unknown key": (line(vidoe="x"), "unknown key 'vidoe', did you mean video?"),
        "unknown key of a turn": (line(turns=[turn(when=2)]), "turns: got the unknown key 'when'"),
        "newer": (line(format=2), "format: got 2, expected at most 1"),
        "no video named": (line(video=None), "video is missing"),
        "missing video": (line(video="none.mp4"), "there is no file"),
        "no video": (line(video="some.jsonl"), "video: "),
        "empty dialogue": (line(turns=[]), "turns: got [], expected at least one turn"),
        "nobody answers": (line(turns=TURNS[:1]), "the user alone"),
        "empty text": (line(turns=[turn(text="  ")]), "turns[0].text"),
        "half a character": (line(turns=[turn(text="\ud800")]), "no half of a pair"),
        "unknown role": (line(turns=[turn(role="dog")]), "expected one of user, assistant"),
        "back in time": (line(turns=TURNS[::-1]), "got 0.5 s after 1 s, expected order"),
        "no number": (line(turns=[turn(time_s=float("nan"))]), "turns[0].time_s"),
        "before the part": (line(from_s=0.75), "turns[0].time_s: got 0.5"),
        "behind the part": (line(to_s=0.75), "where the part ends"),
        "part of nothing": (line(from_s=1.0, to_s=1.0), "to_s"),
        "caption after the end": (line(turns=[turn(time_s=2.3)]), "turns: got 2.3 s, expected at "),
        "part after the end": (line(to_s=9.0), "to_s: got 9 s"),
    }.values(),
)  # fmt: skip
def test_what_is_wrong_is_named_with_file_and_line(folder, bad, words):
    with pytest.raises(DialogueInvalid) as caught:
        read(folder, line(), "", bad)
    message = caught.value.message
    assert message.startswith(f"{folder / 'some.jsonl'}:3: ") and words in message
    assert caught.value.exit_code == 6 and caught.value.hint


def test_a_file_of_nothing_and_no_file_are_refused(folder):
    with pytest.raises(DialogueInvalid, match="holds no dialogue"):
        read(folder, "", " ")
    with pytest.raises(DialogueInvalid, match=r"none\.jsonl cannot be read"):
        read_dialogues(folder / "none.jsonl")


def test_videos_need_not_be_there_to_be_talked_of(folder):
    assert len(read(folder, line(video="gone.mp4"), check_videos=False)) == 1


def test_a_file_is_replaced_whole_or_stays(folder):
    path = folder / "kept.jsonl"
    write_dialogues(path, read(folder, line()))
    before = path.read_bytes()
    (folder / ".kept.jsonl.new").mkdir()
    with pytest.raises(OutputUnwritable):
        write_dialogues(path, read(folder, line(id="other")))
    assert path.read_bytes() == before


texts = st.text(min_size=1).filter(lambda text: text.strip())
seconds = st.floats(0, 1e6).map(lambda value: round(value, 3))


@st.composite
def dialogues(draw):
    times = sorted(draw(st.lists(seconds, min_size=1, max_size=5)))
    turns = [
        Turn(at, draw(st.sampled_from(["user", "assistant"])), draw(texts), draw(st.booleans()))
        for at in times
    ]
    turns.append(Turn(times[-1], "assistant", draw(texts)))
    from_s = draw(st.sampled_from([0.0, times[0]]))
    to_s = draw(st.sampled_from([None, times[-1] + 1.0]))
    return turns, from_s, to_s, draw(st.sampled_from(["", "a name"]))


@pytest.mark.medium
@given(st.lists(dialogues(), min_size=1, max_size=3))
def test_what_is_written_is_read(tmp_path_factory, some):
    folder = tmp_path_factory.mktemp("written")
    path = folder / "all.jsonl"
    written = [
        Dialogue(folder / "deep" / "a b.mp4", tuple(turns), from_s, to_s, name)
        for turns, from_s, to_s, name in some
    ]
    write_dialogues(path, written)
    found = read_dialogues(path, check_videos=False)
    bare = [Dialogue(one.video, one.turns, one.from_s, one.to_s, one.id) for one in found]
    assert bare == written
    assert [one.place for one in found] == [f"{path}:{at}" for at in range(1, len(some) + 1)]
