"""`edgestream train synthesize` and `train features`: dialogues to learn from, and what is seen."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from ...training.annotation_files import Annotations
    from ...training.dialogues import Dialogue

SHOWN_LEFT_OUT = 5
"""Of what was left out, lines on stderr; the rest is counted."""


def synthesize(
    annotations: Annotated[
        Path,
        typer.Argument(
            metavar="ANNOTATIONS",
            help="Captions with times, or dialogues of another form: a file or a folder "
            "(subtitles, VideoLLM-online, ActivityNet, YouCook2, SoccerNet, CogStream).",
        ),
    ],
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="Dialogues, JSON lines.")],
    videos: Annotated[
        Path | None,
        typer.Option("--videos", metavar="DIR", help="The videos; else beside ANNOTATIONS."),
    ] = None,
    kinds: Annotated[
        str | None,
        typer.Option(
            "--kinds",
            metavar="LIST",
            help="Templates, of unasked,narrate,when,ask: all of them, or none with --endpoint.",
        ),
    ] = None,
    at_start: Annotated[
        bool, typer.Option("--at-start", help="A caption is said where its stretch begins.")
    ] = False,
    endpoint: Annotated[
        str | None,
        typer.Option(
            "--endpoint", metavar="URL", help="A language model of OpenAI's form writes: …/v1."
        ),
    ] = None,
    model: Annotated[
        str | None, typer.Option("--model", metavar="NAME", help="Its name at the endpoint.")
    ] = None,
    key_file: Annotated[
        Path | None, typer.Option("--key-file", metavar="FILE", help="Holds the endpoint's key.")
    ] = None,
    chats: Annotated[
        int, typer.Option("--chats", min=1, max=100, help="Dialogues it writes of each video.")
    ] = 3,
    skip: Annotated[
        bool, typer.Option("--skip", help="Leave out what does not fit instead of refusing it.")
    ] = False,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of what is drawn.")] = 0,
    force: Annotated[bool, typer.Option("--force", help="Replace FILE.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on one line.")] = False,
) -> None:
    """Turn captions with times into streaming dialogues to learn from.

    Templates need no model and no network. What an endpoint answered is kept beside FILE, so that
    a run that was cut short goes on when the same command is given again.
    """
    from ...runtime.errors import DialogueInvalid, OutputExists
    from ...training.annotation_files import read_annotations
    from ...training.dialogues import write_dialogues

    if out.exists() and not force:
        raise OutputExists(
            f"{out} is already there and stays as it is", hint="choose another name, or --force"
        )
    templates, ask = _kinds(kinds, endpoint), _asked_at(endpoint, model, key_file, out)
    left_out: list[str] = []
    try:
        found = read_annotations(annotations, videos, skip=skip, seed=seed, left_out=left_out)
        made = _made(found, templates, at_start, ask, chats, seed, left_out)
        if not made:
            raise DialogueInvalid(
                f"{annotations}: no dialogue could be made of these captions",
                hint="other templates may fit them: --kinds unasked",
            )
    except DialogueInvalid:
        _say_left_out(left_out)  # why nothing is left
        raise
    write_dialogues(out, made)
    _say(made, out, left_out, as_json=as_json)


def features(
    dialogues: Annotated[
        list[Path], typer.Argument(metavar="DIALOGUES...", help="Files of `train synthesize`.")
    ],
    base: Annotated[
        str, typer.Option("--base", metavar="CHECKPOINT", help="Whose vision and gate look.")
    ],
    cache: Annotated[Path, typer.Option("--cache", metavar="DIR", help="Where features lie.")],
    fps: Annotated[
        float | None,
        typer.Option("--fps", min=0.01, max=120, help="Frames a second; else the model's own."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on one line.")] = False,
) -> None:
    """Check dialogues, and extract once what vision and gate see of their videos.

    Videos are known by their contents: what lies in DIR is not extracted again.
    """
    from ...runtime.errors import BackendMissing
    from ...training.dialogue_stream import Said, Watch, streamed
    from ...training.dialogues import read_all_dialogues

    read = list(read_all_dialogues(dialogues))
    try:
        seen = _seen(read, base, cache, fps)
    except ImportError as error:
        raise BackendMissing(
            f"this needs {error.name}, which is not installed here",
            hint="pip install 'edgestream[train]'; a device needs neither to run a bundle",
        ) from error
    steps = [step for one in read for step in streamed(one, seen[one.video].times_s.tolist())]
    watched = [step for step in steps if isinstance(step, Watch)]
    told = {
        "cache": str(cache),
        "videos": len(seen),
        "frames": sum(len(one.times_s) for one in seen.values()),
        "dialogues": len(read),
        "sentences": sum(isinstance(step, Said) and step.learn for step in steps),
        "decisions": sum(step.learned for step in watched),
        "to_speak": sum(step.speaks and step.learned == step.count for step in watched),
    }
    if as_json:
        print(json.dumps(told))
        return
    print(f"features {cache}: {told['videos']} videos, {told['frames']} frames")
    print(
        f"  {told['dialogues']} dialogues: {told['sentences']} sentences to learn, "
        f"{told['decisions']} decisions, {told['to_speak']} of them to speak"
    )


def _kinds(kinds: str | None, endpoint: str | None) -> tuple[str, ...]:
    from ...runtime.errors import UsageError
    from ...training.synthesis import KINDS

    if kinds is None:
        return () if endpoint is not None else tuple(KINDS)
    chosen = tuple(part.strip() for part in kinds.split(",") if part.strip())
    if not chosen or not set(chosen) <= set(KINDS):
        raise UsageError(
            f"got --kinds {kinds}, expected some of {','.join(KINDS)}", hint="leave it out for all"
        )
    return chosen


def _asked_at(endpoint: str | None, model: str | None, key_file: Path | None, out: Path) -> Any:
    """What asks the language model; None without one."""
    from ...runtime.errors import UsageError
    from ...training.chat_endpoint import ChatEndpoint, KeptAnswers

    if endpoint is None:
        if model is not None or key_file is not None:
            raise UsageError(
                "got --model or --key-file without --endpoint",
                hint="name the server too: --endpoint http://127.0.0.1:8000/v1",
            )
        return None
    if model is None:
        raise UsageError("got --endpoint without --model", hint="add --model NAME")
    key = None
    if key_file is not None:
        try:
            key = key_file.read_text("utf-8").strip()
        except (OSError, ValueError) as error:
            raise UsageError(f"--key-file {key_file} cannot be read", hint=str(error)) from error
        if not key.isascii() or not key.isprintable() or not key or " " in key:
            raise UsageError(
                f"--key-file {key_file} holds no key, expected one word on one line",
                hint="printf '%s' KEY > FILE",
            )
    answers = out.with_name(f"{out.name}.answers")
    return KeptAnswers(answers, ChatEndpoint(endpoint, model, key)).text


def _made(
    found: Annotations,
    templates: Sequence[str],
    at_start: bool,
    ask: Any,
    chats: int,
    seed: int,
    left_out: list[str],
) -> list[Dialogue]:
    from ...training.chat_synthesis import by_language_model
    from ...training.synthesis import by_templates
    from ..step_progress import step_progress

    made = list(found.dialogues)
    made += by_templates(found.captioned, templates, at_start=at_start, seed=seed)
    if ask is not None:
        total = chats * len(found.captioned)
        with step_progress() as on_step:
            for number, one in enumerate(
                by_language_model(
                    found.captioned, ask, each=chats, at_start=at_start, seed=seed,
                    leave_out=left_out.append,
                ), 1
            ):  # fmt: skip
                made.append(one)
                on_step(f"{number} of {total} dialogues", number, total)
    return made


def _seen(read: Sequence[Dialogue], base: str, cache: Path, fps: float | None) -> Any:
    import torch

    from ...models.families import load_checkpoint
    from ...models.hub import checkpoint_folder
    from ...training.features import FeatureProgress, features_of
    from ..step_progress import step_progress

    checkpoint = load_checkpoint(checkpoint_folder(base))
    if torch.cuda.is_available():
        checkpoint.vision.to("cuda")
    with step_progress() as on_step:

        def tell(at: FeatureProgress) -> None:
            on_step(f"{at.number} of {at.count} videos, {at.video.name}", at.time_s, at.length_s)

        return features_of(checkpoint, [one.video for one in read], cache, fps=fps, tell=tell)


def _say(made: Sequence[Dialogue], out: Path, left_out: Sequence[str], *, as_json: bool) -> None:
    from ...training.dialogues import ASSISTANT

    said = sum(turn.role == ASSISTANT for one in made for turn in one.turns)
    videos = len({one.video for one in made})
    if as_json:
        told = {"dialogues": str(out), "count": len(made), "videos": videos, "sentences": said,
                "left_out": len(left_out)}  # fmt: skip
        print(json.dumps(told))
        return
    _say_left_out(left_out)
    print(f"dialogues {out}: {len(made)} of {videos} videos, {said} sentences")


def _say_left_out(left_out: Sequence[str]) -> None:
    for why in left_out[:SHOWN_LEFT_OUT]:
        print(f"left out: {why}", file=sys.stderr)
    if len(left_out) > SHOWN_LEFT_OUT:
        print(f"left out: {len(left_out) - SHOWN_LEFT_OUT} more", file=sys.stderr)
