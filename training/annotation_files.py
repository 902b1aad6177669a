"""Annotations of any form that is known, each with the video that it belongs to."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePath
from typing import Any

from ..runtime.errors import DialogueInvalid
from .captions import (
    Caption,
    Captioned,
    dense_captions,
    fault_in,
    match_captions,
    narrations,
    recipe_captions,
    subtitles,
)
from .conversation_files import live_chats, question_sequences
from .dialogues import ASSISTANT, END_SLACK_S, Dialogue, Turn, video_length_s

VIDEO_SUFFIXES = frozenset({".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpg", ".ts", ".webm"})
MATCH_FILE, SUBTITLE_SUFFIXES = "Labels-caption.json", (".srt", ".vtt")


@dataclass(frozen=True, slots=True)
class Annotations:
    """What was read.

    Attributes:
        captioned: captions with their video.
        dialogues: of files that hold dialogues already.
        left_out: a sentence each, of what was passed over.
    """

    captioned: tuple[tuple[Path, Captioned], ...]
    dialogues: tuple[Dialogue, ...]
    left_out: tuple[str, ...]


@dataclass(slots=True)
class _Reading:
    """State: what was found so far, and how long each video is."""

    seed: int
    skip: bool
    captioned: list[tuple[Path, Captioned]] = field(default_factory=list)
    dialogues: list[Dialogue] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    lengths: dict[Path, float | None] = field(default_factory=dict)

    def take_captions(self, found: Iterable[Captioned], videos: Videos) -> None:
        """Captions, with the video of each annotator's; one behind its end goes alone."""
        for one in found:
            kept: list[Caption] = []
            try:
                video = videos.of(one.video, one.place)
                self._length_s(video, one.place)
            except DialogueInvalid as error:
                self.leave_out(error)
                continue
            for caption in one.captions:
                try:
                    self._check_end(video, caption.to_s, caption.place)
                    kept.append(caption)
                except DialogueInvalid as error:
                    self.leave_out(error)
            if kept:
                self.captioned.append((video, replace(one, captions=tuple(kept))))

    def take_dialogues(
        self, found: Iterable[tuple[str, tuple[Turn, ...], float, str]], videos: Videos
    ) -> None:
        """Dialogues, with their videos."""
        for number, (name, turns, from_s, place) in enumerate(found):
            if not any(turn.role == ASSISTANT for turn in turns):
                self.left_out.append(f"{place}: nobody asks, or nobody answers")
                continue
            try:
                video = videos.of(name, place)
                self._check_end(video, turns[-1].time_s, place)
            except DialogueInvalid as error:
                self.leave_out(error)
                continue
            self.dialogues.append(Dialogue(video, turns, from_s, None, f"{name}#{number}", place))

    def leave_out(self, error: DialogueInvalid) -> None:
        """Raise it again unless what does not fit may be left out."""
        if not self.skip:
            raise error
        self.left_out.append(error.message)

    def _length_s(self, video: Path, place: str) -> float | None:
        if video not in self.lengths:
            self.lengths[video] = video_length_s(video, place)
        return self.lengths[video]

    def _check_end(self, video: Path, time_s: float, place: str) -> None:
        length_s = self._length_s(video, place)
        if length_s is not None and time_s > length_s + END_SLACK_S:
            raise DialogueInvalid(
                f"{place}: got {time_s:g} s, expected at most {length_s:g} s, where {video.name} "
                "ends",
                hint="is it the right video? --skip leaves out what does not fit",
            )


class Videos:
    """The videos of a folder, by name: a path in it, or a file's name without its suffix."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._by_stem: dict[str, list[Path]] = {}
        for path in sorted(folder.rglob("*")):
            if path.suffix.lower() in VIDEO_SUFFIXES and not path.name.startswith("."):
                self._by_stem.setdefault(path.stem, []).append(path)

    def __iter__(self) -> Iterator[Path]:
        return (path for paths in self._by_stem.values() for path in paths)

    def of(self, name: str, place: str) -> Path:
        """The video of a name.

        Raises:
            DialogueInvalid: there is none, or there are several.
        """
        path = PurePath(name)
        is_inside = not path.is_absolute() and ".." not in path.parts
        if is_inside and (self.folder / name).is_file():
            return self.folder / name
        found = self._by_stem.get(name, [])
        if len(found) == 1:
            return found[0]
        if not found and f"{name}_segment_1" in self._by_stem:  # CogStream's own folder
            raise DialogueInvalid(
                f"{place}: got the segments of {name} in {self.folder}, expected the whole video",
                hint=f"join them in order of their numbers: ffmpeg -f concat -i LIST {name}.mp4",
            )
        got = "several videos" if found else "no video"
        raise DialogueInvalid(
            f"{place}: got {got} {name} in {self.folder}, expected one",
            hint="name the folder of the videos with --videos; --skip leaves out what lacks one",
        )


class HalfVideos(Videos):
    """The two videos of a match, which are named 1 and 2 and something behind it."""

    def of(self, name: str, place: str) -> Path:
        """The video of a half."""
        for path in self:
            if re.match(rf"{name}(?!\d)", path.name):
                return path
        return super().of(name, place)


def read_annotations(
    path: Path,
    videos: Path | None = None,
    *,
    skip: bool = False,
    seed: int = 0,
    left_out: list[str] | None = None,
) -> Annotations:
    """What a file or a folder of annotations says of which video.

    Args:
        path: a file of one of the forms of docs/FORMATS.md, section 11, or a folder of such files.
        videos: folder of the videos; None for that of the annotations.
        skip: videos that are missing, and captions behind the end or with times that make no
            sense, are left out one by one, not refused.
        left_out: where the reasons are added too, so that they are known after an error.
        seed: of what is drawn.

    Raises:
        DialogueInvalid: nothing lies at a path, the form is not known, a video is missing, or a
            caption lies behind the end of its video; names file and place.

    Cost: some ten milliseconds a video, to see how long it is.
    """
    _check_there(path, videos)
    reading = _Reading(seed, skip, left_out=[] if left_out is None else left_out)
    folders: dict[Path, Videos] = {}
    files = _files(path)
    if not files:
        raise DialogueInvalid(
            f"{path}: got a folder without annotations, expected .srt, .vtt or .json files",
            hint="the forms that are read stand in docs/FORMATS.md, section 11",
        )
    for file in files:
        folder = videos if videos is not None else file.parent
        if file.name == MATCH_FILE:
            if videos is not None and path.is_dir():
                folder = videos / file.parent.relative_to(path)
            reading.take_captions(match_captions(_object(file), file), HalfVideos(folder))
            continue
        if folder not in folders:
            folders[folder] = Videos(folder)
        _read_file(file, folders[folder], reading)
    if not reading.captioned and not reading.dialogues:
        raise DialogueInvalid(
            f"{path}: got no caption that belongs to a video ({len(reading.left_out)} left out)",
            hint="the forms that are read stand in docs/FORMATS.md, section 11",
        )
    return Annotations(tuple(reading.captioned), tuple(reading.dialogues), tuple(reading.left_out))


def _check_there(path: Path, videos: Path | None) -> None:
    if not path.exists():
        raise DialogueInvalid(
            f"{path}: there is no such file or folder of annotations", hint="is the path right?"
        )
    if videos is not None and not videos.is_dir():
        got = "a file" if videos.exists() else "no such folder"
        raise DialogueInvalid(
            f"got --videos {videos}, {got}, expected the folder of the videos",
            hint="is the path right? left out, it is the folder of the annotations",
        )


def _files(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    found = sorted(path.rglob(MATCH_FILE))
    if not found:
        found = sorted(one for one in path.rglob("*") if one.suffix.lower() in SUBTITLE_SUFFIXES)
    return found or sorted(path.glob("*.json"))


def _read_file(file: Path, videos: Videos, reading: _Reading) -> None:
    if file.suffix.lower() in SUBTITLE_SUFFIXES:
        try:
            text = file.read_text("utf-8")
        except (OSError, ValueError) as error:
            raise fault_in(file)(f"it cannot be read: {error}") from error
        reading.take_captions([subtitles(text, file.stem, file, reading.leave_out)], videos)
        return
    value = _value(file)
    first = next(iter(value.values() if isinstance(value, Mapping) else value), None)
    inside = first if isinstance(first, Mapping) else {}
    if isinstance(value, list) and "conversation" in inside:
        reading.take_dialogues(
            live_chats(value, file, reading.seed, reading.left_out.append), videos
        )
    elif isinstance(value, list) and isinstance(first, list):
        reading.take_dialogues(question_sequences(value, file), videos)
    elif "annotations" in value:
        reading.take_captions(match_captions(value, file), HalfVideos(videos.folder))
    elif "database" in value:
        reading.take_captions(recipe_captions(value, file, reading.leave_out), videos)
    elif isinstance(value, Mapping) and "timestamps" in inside:
        reading.take_captions(dense_captions(value, file, reading.leave_out), videos)
    elif isinstance(value, Mapping) and inside:
        reading.take_captions(narrations(value, file), videos)
    else:
        raise fault_in(file)("this form of annotations is not known")


def _object(file: Path) -> Mapping[str, Any]:
    value = _value(file)
    if not isinstance(value, Mapping):
        raise fault_in(file)("expected an object")
    return value


def _value(file: Path) -> Any:
    try:
        value = json.loads(file.read_bytes().decode("utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise fault_in(file)(f"it cannot be read as JSON: {error}") from error
    if not isinstance(value, Mapping | list):
        raise fault_in(file)("this form of annotations is not known")
    return value
