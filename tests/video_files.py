"""Real video and image files for tests, written with PyAV, and what is needed to read them back."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

from edgestream.runtime.records import Record
from edgestream.runtime.sources import SourceSettings, open_source
from edgestream.runtime.values import Frame

UInt8 = NDArray[np.uint8]

EVERY = SourceSettings(fps=120)

BARS = [(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255), (0, 0, 0), (200, 100, 50)]
MATRICES = {"bt709": (1, 0.2126, 0.0722), "bt601": (6, 0.299, 0.114)}  # FFmpeg's number, kr, kb
RANGES = {"limited": 1, "full": 2}
LEVEL_STEP = 4
UNIT = Fraction(1, 90_000)
FAST_AND_EXACT = {"preset": "ultrafast", "crf": "4"}  # for libx264


def numbered(count: int, size_px: tuple[int, int] = (64, 48), first: int = 0) -> list[UInt8]:
    """Grey pictures (height, width, 3); `number_of` reads their number back."""
    width, height = size_px
    return [
        np.full((height, width, 3), 8 + LEVEL_STEP * (number % 60), np.uint8)
        for number in range(first, first + count)
    ]


def number_of(pixels: UInt8) -> int:
    """The number of a picture of `numbered`, as long as there are fewer than 60."""
    return round((float(pixels.mean()) - 8) / LEVEL_STEP)


def moving_texture(count: int, size_px: tuple[int, int], seed: int = 0) -> Iterable[UInt8]:
    """Coarse noise that drifts, with a square that crosses it: what costs a decoder its time."""
    width, height = size_px
    rng = np.random.default_rng(seed)
    noise = rng.integers(0, 255, (height // 4 + 100, width // 4 + 200, 3), dtype=np.uint8)
    wall = np.kron(noise, np.ones((4, 4, 1), np.uint8))
    for index in range(count):
        y, x = int(200 + 150 * np.sin(index / 40)), int(400 + 350 * np.sin(index / 63))
        picture = wall[y : y + height, x : x + width].copy()
        left = int((0.5 + 0.4 * np.sin(index / 20)) * (width - width // 10))
        picture[height // 3 : height // 2, left : left + width // 10] = (200, 40, 40)
        yield picture


def write_video(
    path: Path,
    pictures: Iterable[UInt8],
    *,
    fps: float = 25,
    times_s: Sequence[float] | None = None,
    codec: str = "libx264",
    pix_fmt: str = "yuv420p",
    options: dict[str, str] | None = None,
    muxing: dict[str, str] | None = None,
    sound_s: float = 0.0,
    title: str = "",
) -> Path:
    """One video stream (and a tone of `sound_s` seconds) at `path`; the suffix says the container.

    `times_s` are the time stamps of the pictures, increasing; without them they come at `fps`.
    """
    with av.open(str(path), "w", options=muxing or {}) as container:
        stream = None
        container.metadata.update({"title": title} if title else {})
        sound = container.add_stream("aac", rate=16_000, layout="mono") if sound_s else None
        rate = Fraction(fps).limit_denominator(1001)
        unit = 1 / rate if path.suffix == ".avi" else UNIT  # AVI counts frames
        for index, picture in enumerate(pictures):
            if stream is None:
                stream = container.add_stream(codec, rate=rate)
                stream.height, stream.width = picture.shape[:2]
                stream.pix_fmt = pix_fmt
                stream.time_base = stream.codec_context.time_base = unit
                stream.options = {**(FAST_AND_EXACT if "264" in codec else {}), **(options or {})}
            frame = av.VideoFrame.from_ndarray(picture, "rgb24").reformat(format=pix_fmt)
            frame.pts = round((index / fps if times_s is None else times_s[index]) / unit)
            frame.time_base = unit
            container.mux(stream.encode(frame))
        if sound is not None:
            _write_tone(container, sound, sound_s)
        if stream is not None:
            container.mux(stream.encode())
    return path


def write_sound(path: Path, seconds: float = 1.0) -> Path:
    """A file with sound alone."""
    with av.open(str(path), "w") as container:
        _write_tone(container, container.add_stream("aac", rate=16_000, layout="mono"), seconds)
    return path


def _write_tone(
    container: av.container.OutputContainer, stream: av.AudioStream, seconds: float
) -> None:
    for start in range(0, int(seconds * 16_000), 1024):
        wave = np.sin((start + np.arange(1024)) * 0.17).astype(np.float32)[None]
        frame = av.AudioFrame.from_ndarray(wave, "fltp", "mono")
        frame.sample_rate, frame.pts, frame.time_base = 16_000, start, Fraction(1, 16_000)
        container.mux(stream.encode(frame))
    container.mux(stream.encode())


def write_bars(
    path: Path, size_px: tuple[int, int], matrix: str, colours: str, *, is_tagged: bool
) -> Path:
    """BARS as vertical stripes, lossless, converted by the formulas of the standards."""
    width, height = size_px
    number, kr, kb = MATRICES[matrix]
    planes = np.zeros((3, height, width), np.uint8)
    for bar, (red, green, blue) in enumerate(BARS):
        luma = (kr * red + (1 - kr - kb) * green + kb * blue) / 255
        u, v = (blue / 255 - luma) / (2 * (1 - kb)), (red / 255 - luma) / (2 * (1 - kr))
        scale, chroma, black = (219, 224, 16) if colours == "limited" else (255, 255, 0)
        columns = slice(bar * width // len(BARS), (bar + 1) * width // len(BARS))
        for plane, value in enumerate((black + scale * luma, 128 + chroma * u, 128 + chroma * v)):
            planes[plane, :, columns] = np.clip(round(value), 0, 255)
    frame = av.VideoFrame.from_ndarray(planes, "yuv444p")
    frame.pts, frame.time_base = 0, Fraction(1, 25)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv444p"
        if is_tagged:
            stream.codec_context.colorspace = frame.colorspace = number
            stream.codec_context.color_range = frame.color_range = RANGES[colours]
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def bars_of(pixels: UInt8) -> list[tuple[int, ...]]:
    """The colour in the middle of each stripe of `write_bars`."""
    height, width, _ = pixels.shape
    centres = [round((bar + 0.5) * width / len(BARS)) for bar in range(len(BARS))]
    return [tuple(int(level) for level in pixels[height // 2, x]) for x in centres]


def turn_by_track_matrix(path: Path, clockwise_deg: int) -> Path:
    """Write a rotation into the track header of an MP4 at `path`, as a phone does.

    ISO 14496-12 (8.3.2): x' = a·x + c·y, y' = b·x + d·y, 16.16 fixed point, y downwards.
    """
    a, b, c, d = {0: (1, 0, 0, 1), 90: (0, 1, -1, 0), 180: (-1, 0, 0, -1), 270: (0, -1, 1, 0)}[
        clockwise_deg
    ]
    content = bytearray(path.read_bytes())
    start = content.index(b"tkhd") + 4 + 40
    one = 1 << 16
    matrix = (a * one, b * one, 0, c * one, d * one, 0, 0, 0, 1 << 30)
    content[start : start + 36] = struct.pack(">9i", *matrix)
    path.write_bytes(content)
    return path


def write_image(path: Path, picture: UInt8, *, codec: str, pix_fmt: str, exif: int = 0) -> Path:
    """One image; `exif` is an orientation from 1 to 8 for a JPEG, 0 for none."""
    context = av.CodecContext.create(codec, "w")
    context.height, context.width = picture.shape[:2]
    context.pix_fmt, context.time_base = pix_fmt, Fraction(1, 25)
    source = "rgba" if picture.shape[2] == 4 else "rgb24"
    frame = av.VideoFrame.from_ndarray(picture, source).reformat(format=pix_fmt)
    frame.pts = 0
    content = b"".join(bytes(packet) for packet in [*context.encode(frame), *context.encode()])
    if exif:
        tag = struct.pack("<HHIHH", 0x0112, 3, 1, exif, 0)
        body = b"Exif\0\0II*\0\x08\0\0\0" + struct.pack("<H", 1) + tag + b"\0\0\0\0"
        content = content[:2] + b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body + content[2:]
    path.write_bytes(content)
    return path


def loop_packets(source: Path, target: Path, times: int) -> Path:
    """The packets of `source` again and again, their times shifted: a long file, made at once."""
    with av.open(str(target), "w") as out:
        copied = None
        for round_ in range(times):
            with av.open(str(source)) as container:
                stream = container.streams.video[0]
                copied = copied or out.add_stream_from_template(stream)
                for packet in container.demux(stream):
                    if packet.dts is None or packet.pts is None:
                        continue
                    shift = round_ * (stream.duration or 0)
                    packet.pts, packet.dts = packet.pts + shift, packet.dts + shift
                    packet.stream = copied
                    out.mux(packet)
    return target


@contextmanager
def as_nobody() -> Iterator[None]:
    """Without the rights of root, which may read everything."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


class SteppedClock:
    """Moves on by `step_s` at every reading."""

    def __init__(self, step_s: float) -> None:
        self.now_s = 0.0
        self._step_s = step_s

    def __call__(self) -> float:
        self.now_s += self._step_s
        return self.now_s


def read(path: Path, settings: SourceSettings = EVERY) -> tuple[list[Frame], list[Record]]:
    """All frames and all records of one reading."""
    records: list[Record] = []
    source = open_source(str(path), settings)
    return [frame for frame in source.frames(records.append) if frame is not None], records


def codes(records: list[Record]) -> list[str]:
    return [record.body.get("code", record.type) for record in records]
