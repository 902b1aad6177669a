"""Fixtures of the page: one service and one Chromium for a whole file, a new page each test."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest

from .serving import PATIENCE_S, SAMPLE, Served, chromium_path, chromium_started, served, wait

PATIENCE_MS = PATIENCE_S * 1000


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A service that watches the sample clip, over and over, as `front`."""
    folder = tmp_path_factory.mktemp("service")
    with served(f"front=loop:{SAMPLE}", "--target-fps", "4", folder=folder) as running:
        yield running


@pytest.fixture(scope="module")
def driver() -> Iterator[Any]:
    """Playwright, for one file: while it lives, an event loop runs in this thread."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="Playwright drives the browser")
    chromium_path()
    with sync_api.sync_playwright() as playwright:
        yield playwright


@pytest.fixture(scope="module")
def chromium(driver: Any) -> Iterator[Any]:
    """A Chromium without a window."""
    with chromium_started(driver) as started:
        yield started


class Watched:
    """What a page asked for and complained of while a test ran."""

    def __init__(self, page: Any, home: str) -> None:
        self.home = urlsplit(home).netloc
        self.elsewhere: list[str] = []
        self.faults: list[str] = []
        page.on("request", self._asked)
        page.on("websocket", self._asked)
        page.on("pageerror", lambda fault: self.faults.append(str(fault)))
        page.on("console", self._said)

    def _asked(self, request: Any) -> None:
        parts = urlsplit(request.url)
        if parts.scheme not in ("data", "blob") and parts.netloc != self.home:
            self.elsewhere.append(request.url)

    def _said(self, message: Any) -> None:
        if "Content Security Policy" in message.text or "a listener of" in message.text:
            self.faults.append(message.text)


@pytest.fixture
def opened(chromium: Any, service: Served) -> Iterator[Any]:
    """The page, opened on the service alone: whatever else it would ask for is cut off.

    Afterwards: nothing was asked for elsewhere, no script failed, no content policy was hit.
    """
    context = chromium.new_context(viewport={"width": 1280, "height": 800})
    context.set_default_timeout(PATIENCE_MS)
    home = urlsplit(service.url).netloc
    context.route(
        lambda url: urlsplit(url).netloc != home and not url.startswith(("data:", "blob:")),
        lambda route: route.abort(),
    )
    page = context.new_page()
    watched = Watched(page, service.url)
    page.goto(service.url)
    wait(page, "document.querySelector('#badge').textContent !== ''")
    yield page
    context.close()
    assert watched.elsewhere == []
    assert watched.faults == []
