"""Annotations of every form that is known become captions or dialogues of the right video."""

from __future__ import annotations

import json
import shutil

import pytest

from edgestream.runtime.errors import DialogueInvalid
from edgestream.training.annotation_files import read_annotations
from edgestream.training.captions import sentence
from edgestream.training.dialogues import Turn

from ..video_files import numbered, write_video


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    """Of ten seconds."""
    return write_video(tmp_path_factory.mktemp("video") / "ten.mp4", numbered(20), fps=2)


@pytest.fixture
def folder(tmp_path, video):
    for name in ("a.mp4", "b.mp4"):
        shutil.copy(video, tmp_path / name)
    return tmp_path


def given(folder, value, name="all.json"):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(value if isinstance(value, str) else json.dumps(value), "utf-8")
    return path


def told(annotations):
    """(video, [(from, to, text)]) of each."""
    return [
        (path.name, [(one.from_s, one.to_s, one.text) for one in captioned.captions])
        for path, captioned in annotations.captioned
    ]


NARRATION = {
    "a": {
        "first": [{"time": 4.0, "text": "#C C opens the door #unsure"},
                  {"time": 1.5, "text": "#O A man walks in."}, {"time": 2.0, "text": "#C"},
                  {"time": 2.5, "text": "#Unsure"}, {"time": 8.0, "text": "a #cup is #1!"},
                  {"time": 5.0, "text": "#c C opens the door"}],
        "second": [{"time": 3.0, "text": "you sit down"}],
    }
}  # fmt: skip


def test_narration_has_a_dialogue_of_each_annotator_without_tags_and_repeats(folder):
    assert told(read_annotations(given(folder, NARRATION))) == [
        (
            "a.mp4",
            [
                (1.5, 1.5, "A man walks in."),
                (4.0, 4.0, "C opens the door."),
                (8.0, 8.0, "A cup is 1!"),
            ],
        ),
        ("a.mp4", [(3.0, 3.0, "You sit down.")]),
    ]


def test_dense_captions_of_activitynet_and_youcook(folder):
    dense = {"a": {"duration": 10.0, "timestamps": [[5, 8.5], [0, 2]],
                   "sentences": ["he jumps", " She runs. "]}}  # fmt: skip
    expected = [("a.mp4", [(0.0, 2.0, "She runs."), (5.0, 8.5, "He jumps.")])]
    assert told(read_annotations(given(folder, dense))) == expected
    recipe = {"database": {"a": {"annotations": [
        {"segment": [5, 8.5], "sentence": "he jumps", "id": 1},
        {"segment": [0, 2], "sentence": "She runs.", "id": 0}]}}}  # fmt: skip
    assert told(read_annotations(given(folder, recipe))) == expected


SUBRIP = (
    "\ufeff1\n00:00:01,000 --> 00:00:02,500\n<i>Two men</i>\ncome in.\n\n"
    "2\n0:00:04,250 --> 00:00:05,000 X1:0\n{\\an8}they leave\n"
)
WEBVTT = (
    "WEBVTT\n\n00:01.000 --> 00:02.500 align:start\nTwo men\ncome in.\n\n"
    "00:04.250 --> 00:05.000\nthey leave\n"
)


@pytest.mark.parametrize(("text", "name"), [(SUBRIP, "a.srt"), (WEBVTT, "a.vtt")])
def test_subtitles_beside_their_videos(folder, text, name):
    given(folder, text, name)
    given(folder, WEBVTT, f"b{name[-4:]}")
    lines = [(1.0, 2.5, "Two men come in."), (4.25, 5.0, "They leave.")]
    assert told(read_annotations(folder / name)) == [("a.mp4", lines)]
    assert told(read_annotations(folder)) == [("a.mp4", lines), ("b.mp4", lines)]


@pytest.mark.parametrize("name", ["a.srt", "a.vtt"])
@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("<b>Tom &amp; Ann</b>&nbsp;say:", "Tom & Ann say:."),
        ("it&#39;s 3 &lt; 4", "It's 3 < 4."),
        ("&lt;i&gt; is &quot;slanted&quot;", '<i> is "slanted".'),
        ("AT&T rings", "AT&T rings."),
        ("Room #5 opens in C#.", "Room #5 opens in C#."),
    ],
)
def test_a_subtitle_says_what_a_player_shows(folder, written, said, name):
    cue = f"WEBVTT\n\n00:01.000 --> 00:02.500\n{written}\n"
    assert told(read_annotations(given(folder, cue, name))) == [("a.mp4", [(1.0, 2.5, said)])]


def test_a_line_of_subtitles_that_is_none_is_named(folder):
    with pytest.raises(DialogueInvalid, match=r"a\.vtt:3: got 'now --> then'"):
        read_annotations(given(folder, "WEBVTT\n\nnow --> then\nA man.\n", "a.vtt"))


@pytest.mark.parametrize(
    "line",
    [
        "00:00:07.000 -> 00:00:09.000",
        " 00:07.000 – 00:09.000 align:start",
        "00:07,000 00:09,000",
        "0:00:07.000 ==>",
    ],
)
def test_times_with_a_mistyped_arrow_are_no_text_of_the_cue_above(folder, line):
    above = "WEBVTT\n\n00:01.000 --> 00:02.500\nA man.\n"
    with pytest.raises(DialogueInvalid, match=r"a\.vtt:5: got .* expected two times"):
        read_annotations(given(folder, f"{above}{line}\nHe leaves.\n", "a.vtt"))


@pytest.mark.parametrize("line", ["At 00:01.000 or 00:02.000", "12:30 -> 13:45", "00:07.250 flat"])
def test_a_time_that_somebody_says_is_text(folder, line):
    cue = f"WEBVTT\n\n00:01.000 --> 00:02.500\n{line}\n"
    assert told(read_annotations(given(folder, cue, "a.vtt")))[0][1][0][2] == f"{line}."


def test_matches_of_soccer_have_a_video_a_half(tmp_path, video):
    labels = {"UrlLocal": "x", "annotations": [
        {"gameTime": "2 - 00:07", "label": "soccer-ball", "anonymized": "[PLAYER] scores!"},
        {"gameTime": "1 - 00:09", "label": "", "anonymized": "Half-time."},
        {"gameTime": "1 - 00:03", "label": "corner", "description": "a corner"}]}  # fmt: skip
    for match in ("league/one", "league/two"):
        given(tmp_path / "labels" / match, labels, "Labels-caption.json")
        for half in ("1_224p.mp4", "2_224p.mp4"):
            (tmp_path / "films" / match).mkdir(parents=True, exist_ok=True)
            shutil.copy(video, tmp_path / "films" / match / half)
    found = read_annotations(tmp_path / "labels", tmp_path / "films")
    one = [("1_224p.mp4", [(3.0, 3.0, "A corner."), (9.0, 9.0, "Half-time.")]),
           ("2_224p.mp4", [(7.0, 7.0, "[PLAYER] scores!")])]  # fmt: skip
    assert told(found) == one * 2
    assert {path.parent.name for path, _ in found.captioned} == {"one", "two"}
    single = tmp_path / "labels" / "league" / "one" / "Labels-caption.json"
    beside = tmp_path / "films" / "league" / "one"
    assert told(read_annotations(single, beside)) == one


LIVE_CHAT = [
    {"video_uid": "a", "duration": 10, "conversation": [
        {"role": "assistant", "content": "Hello.", "time": 0.0},
        {"role": "user", "content": "What is it?", "time": 3.2},
        {"role": "assistant", "content": "A pan.", "time": 3.2},
        {"role": "assistant", "content": "It boils.", "time": 6.0},
        {"role": "user", "content": "Back.", "time": 5.0}]},
    {"video_uid": "b", "duration": 10, "conversation": [
        {"role": "assistant", "content": "Nobody asked.", "time": 1.0}]},
]  # fmt: skip


def test_a_live_chat_begins_before_its_first_question_and_ends_where_time_goes_back(folder):
    found = read_annotations(given(folder, LIVE_CHAT))
    (dialogue,) = found.dialogues
    assert dialogue.turns == (
        Turn(3.2, "user", "What is it?"),
        Turn(3.2, "assistant", "A pan."),
        Turn(6.0, "assistant", "It boils."),
    )
    assert dialogue.video == folder / "a.mp4" and 0 <= dialogue.from_s <= 3.2
    back, unasked = found.left_out
    assert "all.json: [0].conversation[4]: time goes back from 6 to 5 s" in back
    assert "1 of its 5 turns are left out" in back and "[1]: nobody asks" in unasked
    begun = {read_annotations(given(folder, LIVE_CHAT), seed=seed).dialogues[0].from_s
             for seed in range(8)}  # fmt: skip
    assert len(begun) > 1
    assert read_annotations(given(folder, LIVE_CHAT)).dialogues == found.dialogues


def test_sequences_of_questions_are_answered_at_once(folder):
    info = {"is_visual": True, "Event_Time": 4.0, "ID": 0, "COI": "[]", "relevance": "[]"}
    asked = [[{"Q": "And now?", "A": "A car.", "T": 8.0, "info": info},
              {"Q": "What is it?", "A": "A dog.", "T": 4.0, "info": info}]]  # fmt: skip
    given(folder / "QA_Dataset", asked, "a.json")
    given(folder / "QA_Dataset", asked * 2, "b.json")
    found = read_annotations(folder / "QA_Dataset", folder).dialogues
    assert [one.video.name for one in found] == ["a.mp4", "b.mp4", "b.mp4"]
    assert found[0].turns == (
        Turn(4.0, "user", "What is it?"), Turn(4.0, "assistant", "A dog."),
        Turn(8.0, "user", "And now?"), Turn(8.0, "assistant", "A car."),
    )  # fmt: skip


def test_what_does_not_fit_is_refused_with_its_place_or_left_out(folder):
    late = {"a": {"x": [{"time": 10.5, "text": "It is over."}]},
            "gone": {"y": [{"time": 1.0, "text": "Not there."}]},
            "b": {"z": [{"time": 1.0, "text": "It is here."}]}}  # fmt: skip
    path = given(folder, late)
    with pytest.raises(DialogueInvalid, match=r"all\.json: a\.x\[0\]: got 10\.5 s, .* 10 s, where"):
        read_annotations(path)
    path = given(folder, {name: late[name] for name in ("gone", "b")})
    with pytest.raises(DialogueInvalid, match=r"all\.json: gone\.y: got no video gone in"):
        read_annotations(path)
    found = read_annotations(given(folder, late), skip=True)
    assert told(found) == [("b.mp4", [(1.0, 1.0, "It is here.")])]
    assert len(found.left_out) == 2


DENSE = {"timestamps": [[0, 2], [3, 99], [5, 4]], "sentences": ["One.", "Late.", "Turned."]}
PARTS = [{"segment": times, "sentence": text}
         for times, text in zip(*DENSE.values(), strict=True)]  # fmt: skip
CUES = (
    "WEBVTT\n\n00:00.000 --> 00:02.000\nOne.\n00:03.000 -> 00:04.000\nLost.\n\n"
    "00:03.000 --> 01:39.000\nLate.\n"
)


@pytest.mark.parametrize(
    ("value", "name"),
    [
        ({"a": DENSE}, "all.json"),
        ({"database": {"a": {"annotations": PARTS}}}, "all.json"),
        (CUES, "a.vtt"),
        ({"a": {"x": [{"time": 99, "text": "It is late."}, {"time": 99, "text": "Late too."}]},
          "b": {"x": [{"time": 1, "text": "One is kept."}]}}, "all.json"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_left_out_alone(folder, value, name):
    path = given(folder, value, name)
    with pytest.raises(DialogueInvalid):
        read_annotations(path)
    found = read_annotations(path, skip=True)
    ((_, captions),) = told(found)
    assert [text[:3] for _, _, text in captions] == ["One"] and len(found.left_out) == 2


def test_a_path_where_nothing_lies_is_named_as_such(folder):
    def refused(words, *paths):
        with pytest.raises(DialogueInvalid, match=words) as caught:
            read_annotations(*paths, skip=True)
        assert "Errno" not in caught.value.message

    there = given(folder, NARRATION)
    refused("nothere: there is no such file or folder", folder / "nothere")
    refused("videos .*nothere, no such folder, expected", there, folder / "nothere")
    refused(r"videos .*a\.mp4, a file, expected the folder", there, folder / "a.mp4")
    (folder / "empty").mkdir()
    refused("empty: got a folder without annotations", folder / "empty")


@pytest.mark.parametrize("name", ["../beside/a.mp4", "{}/beside/a.mp4"])
def test_a_name_that_leaves_the_folder_is_no_video(folder, video, name):
    outside = folder.parent / "beside"
    outside.mkdir(exist_ok=True)
    shutil.copy(video, outside / "a.mp4")
    named = name.format(folder.parent)
    told_of = {named: {"timestamps": [[1.0, 2.0]], "sentences": ["A man."]}}
    with pytest.raises(DialogueInvalid, match="got no video"):
        read_annotations(given(folder, told_of))


def test_a_name_that_two_videos_have_is_refused(folder, video):
    (folder / "deep").mkdir()
    shutil.copy(video, folder / "deep" / "a.mkv")
    with pytest.raises(DialogueInvalid, match="several videos a in"):
        read_annotations(given(folder, NARRATION))


def test_segments_in_place_of_a_video_are_to_be_joined(folder, video):
    shutil.copy(video, folder / "c_segment_1.mp4")
    asked = [[{"Q": "What?", "A": "A dog.", "T": 4.0}]]
    with pytest.raises(DialogueInvalid, match="segments of c") as caught:
        read_annotations(given(folder, asked, "c.json"))
    assert "ffmpeg -f concat" in caught.value.hint


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("{", "cannot be read as JSON"),
        ("[" * 100_000, "cannot be read as JSON"),
        ("3", "form of annotations is not known"),
        ({"a": 3}, "form of annotations is not known"),
        ([], "form of annotations is not known"),
        ({"a": {"x": [{"time": "soon", "text": "A man."}]}}, "a.x[0].time: got 'soon'"),
        ({"a": {"x": [{"time": 1.0}]}}, "a.x[0].text is missing"),
        ({"a": {"timestamps": [[2, 1]], "sentences": ["A man."]}}, "a[0]: got the times [2, 1]"),
        ({"a": {"timestamps": [], "sentences": ["A man."]}}, "expected a list of 1"),
        ({"annotations": [{"gameTime": "3 - 00:01"}]}, "annotations[0].gameTime"),
        ([{"video_uid": "a", "conversation": [{"role": "dog"}]}], "[0].conversation[0]"),
        ([[{"Q": "What?", "T": 1.0}]], "sequence[0].A is missing"),
    ],
)
def test_files_of_another_form_are_refused_with_their_place(folder, value, words):
    with pytest.raises(DialogueInvalid) as caught:
        read_annotations(given(folder, value))
    assert words in caught.value.message and "all.json" in caught.value.message


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("room #5 opens in C#", "Room #5 opens in C#."),
        ("", ""),
        ("  Who is   it? ", "Who is it?"),
    ],
)
def test_a_text_becomes_a_sentence(text, expected):
    assert sentence(text) == expected
