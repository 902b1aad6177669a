"""Captions with times, of the files that data sets have them in."""

from __future__ import annotations

import html
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..runtime.errors import DialogueInvalid, EdgeStreamError
from ..runtime.json_fields import Fields

FEWEST_WORDS = 2
"""Of a narration: what is shorter is a remnant (VideoLLM-online)."""
# Of VideoLLM-online's narration alone: elsewhere a `#5` or a `C#` is what somebody says.
_TAGS = re.compile(r"#(?:(?:unsure|[cox])\b)?", re.IGNORECASE)
_CLOCK = re.compile(r"(?:(\d+):)?(\d{1,2}):(\d{2})[.,](\d{1,3})")
# A line of times whose arrow was mistyped: it would pass for text of the cue above it.
_NEARLY_TIMES = re.compile(rf"\s*{_CLOCK.pattern}\s*(?:\W+{_CLOCK.pattern}|[-=–—]*[>→])")
_MARK = re.compile(r"<[^>]*>|\{\\[^}]*\}")
_GAME_TIME = re.compile(r"([12]) - (\d{1,3}):(\d{2})")


@dataclass(frozen=True, slots=True)
class Caption:
    """What happens in a stretch of a video; of a moment both times are the same.

    Attributes:
        from_s, to_s: seconds.
        text: a sentence.
        place: where it stands, for messages.
    """

    from_s: float
    to_s: float
    text: str
    place: str = ""


@dataclass(frozen=True, slots=True)
class Captioned:
    """The captions of a video by one annotator.

    Attributes:
        video: its name in the data set, or a path relative to the folder of videos.
        captions: in order of time.
        place: where they stand, for messages.
    """

    video: str
    captions: tuple[Caption, ...]
    place: str = ""


LeaveOut = Callable[[DialogueInvalid], None]
"""Told of a caption that does not fit; raises it where nothing may be left out."""


def refused(error: DialogueInvalid) -> None:
    """Leave nothing out.

    Raises:
        DialogueInvalid: this one.
    """
    raise error


def fault_in(path: Path) -> Callable[[str], EdgeStreamError]:
    """Makes the error of a file of annotations."""
    return lambda message: DialogueInvalid(
        f"{path}: {message}", hint="the forms that are read stand in docs/FORMATS.md, section 11"
    )


def narrations(found: Mapping[str, Any], path: Path) -> Iterator[Captioned]:
    """VideoLLM-online's narration: {video: {annotator: [{time, text}]}}.

    Tags of the wearer (`#C`), of others and of doubt are cut out, and what is left becomes a
    sentence; texts of one word are left out.

    Raises:
        DialogueInvalid: names the place.
    """
    fields = Fields(found, "", fault_in(path))
    for video in found:
        passes = fields.object(video, lambda part: part)
        for annotator in found[video]:
            place = f"{path}: {video}.{annotator}"
            timed = passes.objects(annotator, _timed)
            captions = [
                Caption(time_s, time_s, sentence(_TAGS.sub(" ", text)), f"{place}[{index}]")
                for index, (time_s, text) in enumerate(timed)
            ]
            kept = [one for one in captions if len(one.text.split()) >= FEWEST_WORDS]
            yield Captioned(video, in_order(kept), place)


def dense_captions(
    found: Mapping[str, Any], path: Path, leave_out: LeaveOut = refused
) -> Iterator[Captioned]:
    """ActivityNet's captions: {video: {duration, timestamps: [[from, to]], sentences: [text]}}.

    Raises:
        DialogueInvalid: names the place.
    """
    fault = fault_in(path)
    fields = Fields(found, "", fault)
    for video in found:
        told = fields.object(video, lambda part: part)
        times, texts = found[video].get("timestamps"), told.texts("sentences")
        place = f"{path}: {video}"
        if not isinstance(times, list) or len(times) != len(texts):
            raise fault(f"{video}.timestamps: expected a list of {len(texts)}, one a sentence")
        captions = _stretches(zip(times, texts, strict=True), place, leave_out)
        yield Captioned(video, in_order(captions), place)


def recipe_captions(
    found: Mapping[str, Any], path: Path, leave_out: LeaveOut = refused
) -> Iterator[Captioned]:
    """YouCook2's captions: {database: {video: {annotations: [{segment: [from, to], sentence}]}}}.

    Raises:
        DialogueInvalid: names the place.
    """
    for video, told in Fields(found, "", fault_in(path)).named("database"):
        place = f"{path}: {video}"
        parts = told.objects(
            "annotations", lambda part: (part.numbers("segment"), part.text("sentence"))
        )
        captions = _stretches(parts, place, leave_out)
        yield Captioned(video, in_order(captions), place)


def match_captions(found: Mapping[str, Any], path: Path) -> Iterator[Captioned]:
    """SoccerNet's `Labels-caption.json`: the two halves of a match, each a video beside the file.

    The video of half 1 is named `1`, that of half 2 `2`, whatever stands behind it
    (`1_224p.mkv`). Of each caption the anonymized text is taken, at its `gameTime`.

    Raises:
        DialogueInvalid: names the place.
    """
    fault = fault_in(path)
    halves: dict[str, list[Caption]] = {"1": [], "2": []}
    read = Fields(found, "", fault).objects(
        "annotations",
        lambda part: (
            part.matching("gameTime", _GAME_TIME, "HALF - MM:SS"),
            part.text(_told(part)),
        ),
    )
    for index, (game_time, text) in enumerate(read):
        matched = _GAME_TIME.fullmatch(game_time)
        assert matched is not None
        half, minutes, seconds = matched.groups()
        time_s = 60.0 * int(minutes) + int(seconds)
        place = f"{path}: annotations[{index}]"
        halves[half].append(Caption(time_s, time_s, sentence(text), place))
    for half, captions in halves.items():
        if captions:
            yield Captioned(half, in_order(captions), f"{path}: half {half}")


def subtitles(text: str, video: str, path: Path, leave_out: LeaveOut = refused) -> Captioned:
    """The cues of a SubRip (`.srt`) or WebVTT (`.vtt`) file.

    Formatting is left out, and then what is written as `&amp;` or `&#39;` becomes what it stands
    for: so `&lt;i&gt;` is no formatting.

    Raises:
        DialogueInvalid: names the line.
    """
    captions: list[Caption] = []
    lines = text.removeprefix("\ufeff").splitlines()
    for number, line in enumerate(lines, 1):
        if not _is_of_times(line):
            continue
        place = f"{path}:{number}"
        clocks = [clock_s(found) for found in _CLOCK.findall(line)]
        try:
            if "-->" not in line or len(clocks) != 2:
                raise DialogueInvalid(
                    f"{place}: got {line.strip()!r}, expected two times, "
                    "HH:MM:SS,mmm --> HH:MM:SS,mmm",
                    hint="mend the line, or leave out what does not fit with --skip",
                )
            if said := _spoken(lines[number:]):
                captions.append(_stretch(clocks, said, place))
        except DialogueInvalid as error:
            leave_out(error)
    return Captioned(video, in_order(captions), str(path))


def _spoken(below: Iterable[str]) -> str:
    """The text of a cue, of the lines below its times; empty where there is none."""
    spoken: list[str] = []
    for line in below:
        if not line.strip() or _is_of_times(line):
            break
        spoken.append(html.unescape(_MARK.sub("", line)).strip())
    return " ".join(part for part in spoken if part)


def _is_of_times(line: str) -> bool:
    return "-->" in line or _NEARLY_TIMES.match(line) is not None


def clock_s(parts: tuple[str, str, str, str]) -> float:
    """Seconds of (hours or nothing, minutes, seconds, digits behind the point)."""
    hours, minutes, seconds, rest = parts
    return 3600 * int(hours or 0) + 60 * int(minutes) + float(f"{seconds}.{rest}")


def sentence(text: str) -> str:
    """The text without doubled spaces, with a capital and a full stop."""
    words = " ".join(text.split())
    if not words:
        return ""
    words = words[0].upper() + words[1:]
    return words if words[-1] in ".!?" else words + "."


def in_order(captions: Iterable[Caption]) -> tuple[Caption, ...]:
    """Captions by time, without one that says what the one before it said."""
    kept: list[Caption] = []
    for one in sorted(captions, key=lambda caption: (caption.to_s, caption.from_s)):
        if not kept or kept[-1].text != one.text:
            kept.append(one)
    return tuple(kept)


def _timed(fields: Fields) -> tuple[float, str]:
    return float(fields.number("time", at_least=0)), fields.text("text")


def _told(fields: Fields) -> str:
    """The key of the text: some halves have no anonymized one."""
    return "anonymized" if "anonymized" in fields else "description"


def _stretch(times: Any, text: str, place: str) -> Caption:
    numbers = [one for one in times if isinstance(one, int | float) and math.isfinite(one)]
    if len(numbers) != 2 or len(times) != 2 or not 0 <= numbers[0] <= numbers[1]:
        raise DialogueInvalid(
            f"{place}: got the times {list(times)}, expected [from, to] in s",
            hint="mend them, or leave out what does not fit with --skip",
        )
    return Caption(float(numbers[0]), float(numbers[1]), sentence(text), place)


def _stretches(
    told: Iterable[tuple[Any, str]], place: str, leave_out: LeaveOut
) -> Iterator[Caption]:
    for index, (times, text) in enumerate(told):
        try:
            yield _stretch(times, text, f"{place}[{index}]")
        except DialogueInvalid as error:
            leave_out(error)
