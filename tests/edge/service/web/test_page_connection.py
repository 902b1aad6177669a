"""The page when the service goes away and comes back, and when it asks for a key."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from .conftest import PATIENCE_MS, Watched
from .serving import SAMPLE, served, wait

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

KEY = "a-key-of-this-test-0123456789"


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


def test_a_service_that_is_gone_is_told_and_found_again(chromium, tmp_path):
    port = free_port()
    context = chromium.new_context()
    context.set_default_timeout(PATIENCE_MS)
    page = context.new_page()
    watched = Watched(page, f"http://127.0.0.1:{port}/")
    with served(f"front=loop:{SAMPLE}", folder=tmp_path, port=port) as running:
        page.goto(running.url)
        wait(page, "document.querySelectorAll('#log .entry').length >= 2")
        assert page.locator("#lost").is_hidden()
    page.wait_for_selector("#lost:not([hidden])")
    kept = page.locator("#log .entry").count()
    assert kept >= 2, "what was said stays on the page"
    page.fill("#question", "Is anybody there?")
    assert page.locator("#ask").is_disabled()
    with served(f"front=loop:{SAMPLE}", folder=tmp_path, port=port):
        page.wait_for_selector("#lost", state="hidden")
        wait(page, "([n]) => document.querySelectorAll('#log .entry').length > n", kept)
        wait(page, "document.querySelector('#picture').naturalWidth > 0")
    context.close()
    assert (watched.elsewhere, watched.faults) == ([], [])


def test_a_service_with_a_key_asks_for_it_once_and_keeps_it_nowhere(chromium, tmp_path: Path):
    key_file = tmp_path / "key"
    key_file.write_text(KEY + "\n")
    key_file.chmod(0o600)
    arguments = (f"front=loop:{SAMPLE}", "--api-key-file", str(key_file))
    with served(*arguments, folder=tmp_path) as running:
        context = chromium.new_context()
        context.set_default_timeout(PATIENCE_MS)
        page = context.new_page()
        watched = Watched(page, running.url)
        page.goto(running.url)
        page.wait_for_selector("#key-dialog[open]")
        page.keyboard.press("Escape")
        assert page.locator("#key-dialog").is_visible(), "nothing works without the key"
        page.fill("#key-field", "a-wrong-key-0123456789")
        page.click("#key-send")
        page.wait_for_selector("#key-error:not([hidden])")
        page.fill("#key-field", KEY)
        page.click("#key-send")
        page.wait_for_selector("#key-dialog", state="hidden")
        wait(page, "document.querySelectorAll('#log .entry').length >= 1")
        wait(page, "document.querySelector('#picture').naturalWidth > 0")
        for store in ("localStorage", "sessionStorage"):
            assert KEY not in page.evaluate(f"JSON.stringify({{...{store}}})")
        assert page.evaluate("document.cookie") == "", "no script can read the cookie"
        assert KEY not in page.content()
        page.reload()
        wait(page, "document.querySelectorAll('#log .entry').length >= 1")
        assert page.locator("#key-dialog").is_hidden()
        context.close()
    assert (watched.elsewhere, watched.faults) == ([], [])
    assert KEY not in (tmp_path / "serve.stderr").read_text()
