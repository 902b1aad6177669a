"""Streaming dialogues to learn from: who says what at which moment of a video, as JSON lines."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from difflib import get_close_matches
from itertools import pairwise
from pathlib import Path
from typing import Any

from ..runtime.errors import (
    DialogueInvalid,
    EdgeStreamError,
    OutputFull,
    OutputUnwritable,
    SourceError,
    UsageError,
)
from ..runtime.json_fields import Fields
from ..runtime.source_file import VideoFile
from ..runtime.sources import SourceSettings

FORMAT = 1
USER, ASSISTANT = "user", "assistant"
END_SLACK_S = 0.25
"""A caption may lie so far behind the end that a video declares: containers and annotators round,
and no caption that belongs to another video comes so near."""
_KEYS = ("format", "video", "id", "from_s", "to_s", "turns")
_TURN_KEYS = ("time_s", "role", "text", "learn")


@dataclass(frozen=True, slots=True)
class Turn:
    """What somebody says at a moment.

    Attributes:
        time_s: stream time of the video, seconds.
        role: `user` or `assistant`.
        text: not empty.
        learn: of the assistant: it is learned; else it only stands there for what comes after it.
    """

    time_s: float
    role: str
    text: str
    learn: bool = True


@dataclass(frozen=True, slots=True)
class Dialogue:
    """What is said along a video, or a part of one.

    Attributes:
        video: the file.
        turns: in order of time, at least one.
        from_s, to_s: the part of the video that is watched, seconds; None for its end.
        id: a name for people; may be empty.
        place: FILE:LINE where it stands, for messages; empty where it stands nowhere.
    """

    video: Path
    turns: tuple[Turn, ...]
    from_s: float = 0.0
    to_s: float | None = None
    id: str = ""
    place: str = ""


def read_dialogues(path: Path, *, check_videos: bool = True) -> tuple[Dialogue, ...]:
    """The dialogues of a file, each checked.

    Args:
        path: JSON lines; empty lines are passed over.
        check_videos: that each video is there, can be opened, and is as long as its dialogue.

    Raises:
        DialogueInvalid: names file and line, what was got and what was expected.

    Cost: with `check_videos` some ten milliseconds a video.
    """
    try:
        lines = path.read_bytes().split(b"\n")
    except OSError as error:
        raise DialogueInvalid(
            f"{path} cannot be read: {error.strerror}",
            hint="`edgestream train synthesize` makes dialogues out of captions with times",
        ) from error
    lengths: dict[Path, float | None] = {}
    found = []
    for number, line in enumerate(lines, 1):
        if line.strip():
            dialogue = _dialogue_of_line(line, path, number)
            if check_videos:
                _check_video(dialogue, lengths)
            found.append(dialogue)
    if not found:
        raise DialogueInvalid(
            f"{path} holds no dialogue, expected one a line",
            hint="`edgestream train synthesize` makes dialogues out of captions with times",
        )
    return tuple(found)


def read_all_dialogues(paths: Sequence[Path]) -> tuple[Dialogue, ...]:
    """Those of several files, one after another; raises as `read_dialogues` does."""
    return tuple(one for path in paths for one in read_dialogues(path))


def check_apart(learned: Sequence[Dialogue], held: Sequence[Dialogue]) -> None:
    """Refuse to hold out what is trained on: figures on it would say nothing.

    Raises:
        UsageError: a dialogue of both has the same video and the same turns; names it.
    """

    def known_by(one: Dialogue) -> tuple[str, tuple[tuple[float, str, str], ...]]:
        turns = tuple((turn.time_s, turn.role, turn.text) for turn in one.turns)
        return os.path.realpath(one.video), turns

    places = {known_by(one): one.place for one in learned}
    for one in held:
        if (place := places.get(known_by(one))) is not None:
            raise UsageError(
                f"--evaluate-on: got {one.place}, which is trained on too ({place}), expected "
                "dialogues that are held out",
                hint="leave it out of one of both, or hold a share of the videos out: --held-out",
            )


def write_dialogues(path: Path, dialogues: Sequence[Dialogue]) -> None:
    """Replace a file by these dialogues, whole or not at all; the same ones give the same bytes.

    Args:
        path: videos are written relative to its folder where they lie in it.
        dialogues: in the order of the lines.

    Raises:
        OutputUnwritable, OutputFull: it cannot be written.
    """
    folder = Path(os.path.abspath(path.parent))
    lines = [json.dumps(_told(one, folder), ensure_ascii=False) + "\n" for one in dialogues]
    fresh = path.with_name(f".{path.name}.new")
    try:
        with fresh.open("w", encoding="utf-8", newline="\n") as file:
            file.writelines(lines)
            file.flush()
            os.fsync(file.fileno())
        os.replace(fresh, path)
    except OSError as error:
        with suppress(OSError):
            fresh.unlink(missing_ok=True)
        kind = OutputFull if error.errno in (errno.ENOSPC, errno.EDQUOT) else OutputUnwritable
        raise kind(
            f"{path} cannot be written: {error.strerror}; what stood there before stays",
            hint="give a place with room in a folder that exists and that you may write to",
        ) from error


def video_length_s(video: Path, place: str) -> float | None:
    """How long a video says that it is, seconds; None where it does not say.

    Raises:
        DialogueInvalid: it is not there, or no video; names the place that wants it.
    """
    if not video.exists():
        raise DialogueInvalid(
            f"{place}: video: there is no file {video}",
            hint="paths are relative to the folder of the file of dialogues",
        )
    try:
        return VideoFile(str(video), SourceSettings()).duration_s
    except SourceError as error:
        raise DialogueInvalid(
            f"{place}: video: {error.message}",
            hint=error.hint or "give a video that plays, such as MP4",
        ) from error


def _dialogue_of_line(line: bytes, path: Path, number: int) -> Dialogue:
    place = f"{path}:{number}"

    def fault(message: str) -> EdgeStreamError:
        return DialogueInvalid(f"{place}: {message}", hint="see docs/FORMATS.md, section 11")

    try:
        value = json.loads(line.decode("utf-8"))
    except (ValueError, RecursionError) as error:  # of UTF-8 or of JSON
        raise fault(f"this is no line of JSON: {error}") from error
    fields = Fields(value, "", fault)
    _check_keys(value, _KEYS, "", fault)
    if "format" in fields and (got := fields.whole("format")) > FORMAT:
        raise fields.refused("format", got, f"at most {FORMAT}")
    from_s = fields.number("from_s", at_least=0) if "from_s" in fields else 0.0
    to_s = fields.number("to_s", above=from_s) if "to_s" in fields else None
    turns = fields.objects("turns", lambda part: _turn(part, from_s, to_s))
    for part in value["turns"]:
        _check_keys(part, _TURN_KEYS, "turns", fault)
    if not turns:
        raise fields.refused("turns", [], "at least one turn")
    for before, turn in pairwise(turns):
        if turn.time_s < before.time_s:
            raise fault(f"turns: got {turn.time_s:g} s after {before.time_s:g} s, expected order")
    if turns[-1].role == USER and all(turn.role == USER for turn in turns):
        raise fault("turns: got the user alone, expected something that the assistant says")
    name = fields.text("id") if "id" in fields else ""
    video = path.parent / fields.text("video")
    return Dialogue(video, turns, float(from_s), to_s and float(to_s), name, place)


def _turn(fields: Fields, from_s: float, to_s: float | None) -> Turn:
    time_s = fields.number("time_s", at_least=from_s)
    if to_s is not None and time_s > to_s:
        raise fields.refused("time_s", time_s, f"at most {to_s:g}, where the part ends (to_s)")
    role = fields.text("role", one_of=(USER, ASSISTANT))
    text = fields.text("text")
    if not text.strip():
        raise fields.refused("text", text, "a text")
    if any("\ud800" <= letter <= "\udfff" for letter in text):
        raise fields.refused("text", ascii(text), "whole characters, and no half of a pair")
    return Turn(float(time_s), role, text, fields.flag("learn") if "learn" in fields else True)


def _check_keys(value: Mapping[str, Any], known: Sequence[str], where: str, fault: Any) -> None:
    for key in value:
        if key not in known:
            near = get_close_matches(key, known, 1)
            meant = f", did you mean {near[0]}?" if near else f", expected {', '.join(known)}"
            raise fault(f"{where + ': ' if where else ''}got the unknown key {key!r}{meant}")


def _check_video(dialogue: Dialogue, lengths: dict[Path, float | None]) -> None:
    video = dialogue.video
    if video not in lengths:
        lengths[video] = video_length_s(video, dialogue.place)
    length_s = lengths[video]
    if length_s is None:
        return
    for name, time_s in (("turns", dialogue.turns[-1].time_s), ("to_s", dialogue.to_s or 0.0)):
        if time_s > length_s + END_SLACK_S:
            raise DialogueInvalid(
                f"{dialogue.place}: {name}: got {time_s:g} s, expected at most {length_s:g} s, "
                f"where {video.name} ends",
                hint="times are of the video, from its beginning; is it the right video?",
            )


def _told(dialogue: Dialogue, folder: Path) -> dict[str, Any]:
    video = Path(os.path.abspath(dialogue.video))
    told: dict[str, Any] = {
        "format": FORMAT,
        "video": str(video.relative_to(folder) if video.is_relative_to(folder) else video),
    }
    if dialogue.id:
        told["id"] = dialogue.id
    if dialogue.from_s:
        told["from_s"] = dialogue.from_s
    if dialogue.to_s is not None:
        told["to_s"] = dialogue.to_s
    told["turns"] = [_told_turn(turn) for turn in dialogue.turns]
    return told


def _told_turn(turn: Turn) -> dict[str, Any]:
    told: dict[str, Any] = {"time_s": turn.time_s, "role": turn.role, "text": turn.text}
    return told if turn.learn else {**told, "learn": False}
