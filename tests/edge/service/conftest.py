"""Services for the tests of this folder: one for all that only look, others of their own."""

from __future__ import annotations

import pytest

from .serving import CLIP, serving

pytest.importorskip("fastapi", reason="the service needs the extra `serve`")
pytest.importorskip("uvicorn", reason="the service needs the extra `serve`")


@pytest.fixture(scope="package")
def service():
    """A service with one camera, which plays the sample clip again and again."""
    with serving(f"door=loop:{CLIP}", "--set", "memory.clip_len=2") as running:
        yield running
