"""Fixtures of all tests: where the real clips are."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def clips_folder() -> Path:
    """The folder of real clips: EDGESTREAM_CLIPS, or shared/data/clips beside the checkout."""
    beside = Path(__file__).resolve().parents[2] / "shared" / "data" / "clips"
    folder = Path(os.environ.get("EDGESTREAM_CLIPS") or beside)
    if not any(folder.glob("*.mp4")):
        pytest.skip(f"no real clips in {folder.name}/: set EDGESTREAM_CLIPS to a folder of them")
    return folder


def pytest_configure(config: pytest.Config) -> None:
    """Take Ctrl-C as usual: a background job of a shell ignores it, and so do its children."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
