"""What the user may choose of watching: where frames come from, when to speak, what is reported."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from .settings_field import Table, Text, setting


class SourceSettings(Table):
    """Where frames come from."""

    fps: float = setting(
        4.0,
        "1/s",
        "Frames taken from the source per second of stream time. 4 leaves 250 ms for each, which a "
        "CPU of two cores can hold with an encoder (a guess, to be measured per device).",
        gt=0,
        le=120,
    )
    max_side_px: int = setting(
        1280,
        "px",
        "Longest side of a frame; a larger picture is scaled down when it is decoded. 1280 leaves "
        "720p as it is and keeps a 4K picture from costing nine times the memory.",
        ge=16,
        le=8192,
    )
    realtime: bool = setting(
        False,
        "",
        "Play a file at its own speed and drop what the device cannot hold, as with a camera. "
        "Off, because a file that drops nothing gives the same records every time.",
    )


class EncoderSettings(Table):
    """Turning frames into what a model sees; needs a bundle."""

    heartbeat_s: float = setting(
        2.0,
        "s",
        "How old the tokens of a frame may get while the picture stands still; then the encoder "
        "runs again. 2 s finds a change that no pixel test shows; of 4 frames a second it costs "
        "one in eight.",
        gt=0,
        le=3600,
    )
    settle_s: float = setting(
        0.75,
        "s",
        "So long after the last movement every frame is encoded: that something has stopped is "
        "seen in the frames at rest. 0.75 s is three frames at the usual rate; 0 saves them, and "
        "the reference assistant misses most stops.",
        ge=0,
        le=3600,
    )


class GateSettings(Table):
    """When to speak."""

    kind: str = setting(
        "auto",
        "",
        "What opens an event: change (the picture changes; needs no model), learned (the gate that "
        "a model brings along decides what is worth a word), every:N (N seconds of stream time "
        "have passed), token (the language model decides at every frame; needs context.kind = "
        "continuous) or never. auto is learned where the model has such a gate, and change "
        "elsewhere, which works on a bare device.",
        pattern=r"^(auto|change|learned|never|token|every:(0*[1-9][0-9]*(\.[0-9]+)?|0*\.0*[1-9][0-9]*))$",
        examples=["auto", "change", "learned", "every:10", "token", "never"],
    )
    open_above: dict[str, Annotated[float, Field(gt=0, le=1)]] = setting(
        {},
        "",
        "Score from which an event of a type opens, per type: {cut = 0.4} opens more cuts. What is "
        "not named keeps the gate's own threshold: that of change was set on real clips, that of "
        "learned comes with the model, where speak is the wish to say anything at all.",
        entries="event types",
    )
    hold_s: dict[str, Annotated[float, Field(ge=0, le=3600)]] = setting(
        {},
        "s",
        "How long the score of a type must stay low before its event closes, per type: "
        "{motion = 5}. What is not named keeps the gate's own time.",
        entries="event types",
    )
    query: str = setting(
        "",
        "",
        "What the gate learned looks for, in words: 'a person at the door'. It is read by a gate "
        "that was trained to be asked; `edgestream inspect` says whether a bundle has one. Empty, "
        "which looks for nothing in particular, because other gates read none.",
        max_length=4096,
    )
    queries: dict[str, Text] = setting(
        {},
        "",
        "The same for single cameras, by name: {door = 'a parcel'}. What is not named looks for "
        "gate.query; an empty text for nothing in particular.",
        entries="cameras",
    )
    speak_below: float = setting(
        0.725,
        "",
        "The gate token speaks where the silent token is less probable than this, or is not the "
        "likeliest. Higher speaks more, 0 leaves the second rule alone; 0.725 is what "
        "VideoLLM-online's own demo uses.",
        ge=0,
        le=1,
    )
    speak_once: bool = setting(
        True,
        "",
        "The gate token speaks once per stretch of frames that are worth a word, not at each of "
        "them. On, because a model that is not sure would say the same thing every frame.",
    )


class RecordsSettings(Table):
    """What is reported, and how much of it may wait."""

    stats_every_s: float = setting(
        60.0,
        "s",
        "Stream time between two stats records; one more comes at the end. A minute shows a slow "
        "leak within an hour and adds next to nothing to a log.",
        gt=0,
        le=86400,
    )
    outlet_capacity: int = setting(
        1024,
        "records",
        "Records that may wait for a slow sink; beyond it a file waits, a camera drops and counts. "
        "1024 is minutes of a busy scene in about a megabyte.",
        ge=1,
        le=1_000_000,
    )
