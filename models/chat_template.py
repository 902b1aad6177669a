"""A checkpoint's own chat template: where it is, and the conversations that it writes.

A template is a program in Jinja. It runs in the sandbox of transformers, which gives it texts and
no way to files, modules or the network; only what it writes is used.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from ..runtime.errors import CheckpointInvalid
from .chat_layout import ChatWords
from .checkpoint import read_json
from .transformers_parts import one_line

JINJA = "chat_template.jinja"
# Where older versions of transformers wrote it; the first that is there counts.
OLDER = ("chat_template.json", "processor_config.json", "tokenizer_config.json")
SPECIAL_TOKENS = ("bos_token", "eos_token", "unk_token", "pad_token")
FRAME = "\ue000"
"""Stands for a frame in a text: its rows, and its time where the model is told that."""
FIRST_S = 1.5
# What a template makes of content that it does not look into.
_REPRESENTED = ("'type': 'text'", '"type": "text"')


class TemplateUnfit(Exception):
    """A template that does not say how a prompt is written; the text is why, for a sentence."""


@dataclass(frozen=True, slots=True)
class PictureWords:
    """What a family's own processor, and who calls it, add to what a template writes.

    Attributes:
        token: what a template writes in the place of a frame.
        open, close: what the processor puts around a frame's rows there.
        is_video: all frames of a turn are one video.
        video_close: what the processor puts behind the last frame of a video.
        system: what the authors' own conversations give as the system message; empty for none.
        variables: that the authors' processor gives to the template.
    """

    token: str
    open: str = ""
    close: str = ""
    is_video: bool = False
    video_close: str = ""
    system: str = ""
    variables: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))


@dataclass(frozen=True, slots=True)
class Turn:
    """A turn of a conversation: who, what, and frames before it."""

    role: str
    text: str
    frames: int = 0


@dataclass(frozen=True, slots=True)
class ChatTemplate:
    """A chat template with what it is given.

    Attributes:
        file: its name in the checkpoint's folder.
        source: the program.
        variables: special tokens of the tokenizer.
    """

    file: str
    source: str
    variables: Mapping[str, Any]

    def written(
        self, turns: Sequence[Turn], pictures: PictureWords, *, asks: bool, in_parts: bool
    ) -> str:
        """The text of a conversation, as the template writes it.

        Args:
            turns: of the conversation.
            pictures: of the family.
            asks: an answer is to begin at the end.
            in_parts: texts are given as lists of parts, else as plain strings.

        Raises:
            TemplateUnfit: it fails, or writes the list in place of what is in it.
        """
        from tokenizers import Tokenizer
        from tokenizers.models import BPE
        from transformers import PreTrainedTokenizerFast

        # It is asked for texts alone, so that its vocabulary may be empty.
        made: Any = PreTrainedTokenizerFast
        writer = made(tokenizer_object=Tokenizer(BPE()))
        said = [Turn("system", pictures.system)] if pictures.system else []
        try:
            text: str = writer.apply_chat_template(
                list(_messages([*said, *turns], pictures, in_parts)),
                chat_template=self.source,
                tokenize=False,
                add_generation_prompt=asks,
                **{**self.variables, **pictures.variables},
            )
        except Exception as error:  # a template raises what it likes
            raise TemplateUnfit(f"it fails: {one_line(error)}") from error
        if any(mark in text for mark in _REPRESENTED):
            raise TemplateUnfit("it does not look into the parts of a message")
        return text


def template_of(folder: Path) -> ChatTemplate | None:
    """The chat template of a checkpoint folder; None where there is none.

    Raises:
        TemplateUnfit: a file that would hold it cannot be read.
    """
    if (folder / JINJA).is_file():
        try:
            source = (folder / JINJA).read_text("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise TemplateUnfit(f"{JINJA} cannot be read: {one_line(error)}") from error
        return ChatTemplate(JINJA, source, _special_tokens(folder))
    for name in OLDER:
        told = _json(folder, name).get("chat_template")
        if isinstance(told, list):  # of several, by their names
            named = {one.get("name"): one for one in told if isinstance(one, dict)}
            told = named.get("default", {}).get("template")
        if isinstance(told, str) and told:
            return ChatTemplate(name, told, _special_tokens(folder))
    return None


def time_of(number: int) -> float:
    """When a frame of a conversation was taken, seconds."""
    return FIRST_S + number


def with_frames(text: str, turns: Sequence[Turn], words: ChatWords, pictures: PictureWords) -> str:
    """A written conversation with `FRAME` for each of its frames, as the processor puts them.

    Raises:
        TemplateUnfit: there are more or fewer of them.
    """
    token, groups = pictures.token, [turn.frames for turn in turns if turn.frames]
    shown = [f"{pictures.open}{FRAME}{pictures.close}"] * sum(groups)
    if pictures.is_video and words.is_timed:
        for number in range(sum(groups)):
            text = text.replace(words.time_text.format(time_of(number)) + token, FRAME, 1)
    if pictures.is_video and FRAME not in text:  # one token for a video, which is written out
        join = words.frame_join or ""
        shown = [join.join([FRAME] * frames) + pictures.video_close for frames in groups]
    parts = text.split(token)
    if FRAME not in text and len(parts) - 1 == len(shown):
        return "".join(f"{part}{one}" for part, one in zip(parts, [*shown, ""], strict=True))
    if token in text or text.count(FRAME) != sum(groups):
        raise TemplateUnfit(f"it does not write {token} for each frame")
    return text


def _messages(
    turns: Iterable[Turn], pictures: PictureWords, in_parts: bool
) -> Iterable[dict[str, Any]]:
    number = 0
    for turn in turns:
        times = [time_of(number + one) for one in range(turn.frames)]
        number += turn.frames
        if not in_parts and not times:
            yield {"role": turn.role, "content": turn.text}
            continue
        shown: list[dict[str, Any]] = [{"type": "image"} for _ in times]
        if pictures.is_video and times:
            shown = [{"type": "video", "num_frames": len(times), "timestamps": times}]
        yield {"role": turn.role, "content": [*shown, {"type": "text", "text": turn.text}]}


def _special_tokens(folder: Path) -> dict[str, str]:
    """Their texts; older files have them as objects."""
    told = _json(folder, "tokenizer_config.json")
    found = {name: told.get(name) for name in SPECIAL_TOKENS}
    texts = {key: one.get("content") if isinstance(one, dict) else one
             for key, one in found.items()}  # fmt: skip
    return {name: text for name, text in texts.items() if isinstance(text, str)}


def _json(folder: Path, name: str) -> Mapping[str, Any]:
    """What a file holds; nothing where it is not there."""
    if not (folder / name).is_file():
        return {}
    try:
        read = read_json(folder / name)
    except CheckpointInvalid as error:
        raise TemplateUnfit(f"{name} is no JSON") from error
    return read if isinstance(read, dict) else {}
