"""The real service as a program of its own, and the real Chromium, for the tests of the page."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[4]
SAMPLE = ROOT / "assets" / "sample.mp4"
BUNDLE = ROOT / "assets" / "reference"
CHROMIUM_NAMES = ("chromium", "chromium-browser", "google-chrome")
STOP_S = 60.0
# A sentence of the model, a replayed clip: generous for a machine that does other things besides.
PATIENCE_S = 90.0
ASK_S = 30.0
Y4M_FPS, Y4M_S, Y4M_SIZE_PX = 6, 20, (320, 240)


@dataclass(slots=True)
class Served:
    """A service that runs.

    Attributes:
        url: with a slash at its end.
        process: the program.
    """

    url: str
    process: subprocess.Popen[str]

    def ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        """The JSON that the API answers; None where it answers nothing."""
        request = urllib.request.Request(
            self.url + path,
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"content-type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=ASK_S) as answer:
            text = answer.read()
        return json.loads(text) if text else None


@contextmanager
def served(*arguments: str, folder: Path, port: int = 0) -> Iterator[Served]:
    """`edgestream serve` with the reference assistant; it is stopped at the end.

    Args:
        arguments: cameras and options.
        folder: for what it writes to stderr.
        port: 0 takes a free one.
    """
    pytest.importorskip("onnxruntime", reason="the service needs an engine")
    pytest.importorskip("fastapi", reason="the service needs FastAPI")
    pytest.importorskip("uvicorn", reason="the service needs uvicorn")
    command = [sys.executable, "-m", "edgestream.edge.cli", "serve", *arguments]
    command += ["--bundle", str(BUNDLE), "--port", str(port)]
    with (folder / "serve.stderr").open("w") as told:
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=told, text=True, env={**os.environ}
        )
    assert process.stdout is not None
    try:
        url = process.stdout.readline().strip()
        assert url.startswith("http"), (folder / "serve.stderr").read_text()
        yield Served(url.rstrip("/") + "/", process)
    finally:
        process.terminate()
        process.wait(STOP_S)
        process.stdout.close()


def chromium_path() -> str:
    """Where Chromium is; skips where there is none."""
    for name in CHROMIUM_NAMES:
        if found := shutil.which(name):
            return found
    pytest.skip("no Chromium here: install it to test the page")


@contextmanager
def chromium_started(driver: Any, *arguments: str) -> Iterator[Any]:
    """A Chromium without a window."""
    started = driver.chromium.launch(
        executable_path=chromium_path(), args=["--no-sandbox", *arguments]
    )
    try:
        yield started
    finally:
        started.close()


def wait(page: Any, condition: str, *given: Any) -> None:
    """Return when an expression, or a function of `given`, is true on a page.

    Playwright's own wait evaluates a text within the page, which the service's content policy
    rightly forbids.
    """
    end = time.monotonic() + PATIENCE_S
    while not page.evaluate(condition, list(given)):
        assert time.monotonic() < end, f"not within {PATIENCE_S:g} s: {condition}"
        page.wait_for_timeout(100)


def write_y4m(path: Path) -> Path:
    """The sample clip as a raw video that Chromium takes for a camera; about 14 MB."""
    import av

    width, height = Y4M_SIZE_PX
    written = 0
    with av.open(str(SAMPLE)) as clip, path.open("wb") as raw:
        raw.write(f"YUV4MPEG2 W{width} H{height} F{Y4M_FPS}:1 Ip A1:1 C420jpeg\n".encode())
        for frame in clip.decode(video=0):
            if frame.time is None or frame.time * Y4M_FPS < written:
                continue
            small = frame.reformat(width, height, "yuv420p")
            raw.write(b"FRAME\n" + small.to_ndarray().tobytes())
            written += 1
            if written >= Y4M_FPS * Y4M_S:
                break
    return path
