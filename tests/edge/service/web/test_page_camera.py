"""This device's camera, sent from the page: Chromium's own fake camera plays the sample clip."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from .conftest import PATIENCE_MS, Watched
from .serving import Served, chromium_started, served, wait, write_y4m

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def bare_service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A service without any camera."""
    with served(folder=tmp_path_factory.mktemp("bare")) as running:
        yield running


@pytest.fixture(scope="module")
def with_camera(driver: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A Chromium with a camera that it may use."""
    clip = write_y4m(tmp_path_factory.mktemp("camera") / "sample.y4m")
    with chromium_started(
        driver,
        "--use-fake-device-for-media-stream",
        "--use-fake-ui-for-media-stream",
        f"--use-file-for-fake-video-capture={clip}",
    ) as started:
        yield started


def test_the_camera_of_this_device_is_watched_asked_and_removed(with_camera, bare_service):
    context = with_camera.new_context(viewport={"width": 390, "height": 844})
    context.set_default_timeout(PATIENCE_MS)
    page = context.new_page()
    watched = Watched(page, bare_service.url)
    page.goto(bare_service.url)
    page.click("#cover-add")
    page.fill("#device-name", "phone")
    page.select_option("#device-fps", "8")
    page.click("#device-send")
    page.wait_for_selector("#device-strip:not([hidden])")
    wait(page, "document.querySelector('#badge').textContent === 'Live'")
    wait(page, "document.querySelector('#picture').naturalWidth > 0")
    # The clip's own events are told: the pictures arrived whole, in time and in order.
    wait(page, "document.querySelectorAll('#log .entry-said').length >= 2")
    page.fill("#question", "What happened last?")
    page.press("#question", "Enter")
    wait(page, "document.querySelector('.answer-foot')?.textContent !== ''")
    assert len(page.inner_text(".answer-text")) >= 3
    (row,) = bare_service.ask("GET", "v1/cameras")["cameras"]
    assert row["name"] == "phone" and row["kind"] == "browser"
    # Not more is on its way than the service has looked at: what is sent keeps up.
    assert row["fps"] > 1
    page.click("#device-stop")
    page.wait_for_selector("#device-strip", state="hidden")
    wait(page, "document.querySelector('#badge').textContent !== 'Live'")
    page.click("#remove")
    page.click("#confirm-yes")
    wait(page, "document.querySelectorAll('.camera-chip').length === 0")
    assert bare_service.ask("GET", "v1/cameras")["cameras"] == []
    context.close()
    assert (watched.elsewhere, watched.faults) == ([], [])


def test_an_address_that_may_not_be_opened_is_refused_in_words(with_camera, bare_service):
    context = with_camera.new_context()
    context.set_default_timeout(PATIENCE_MS)
    page = context.new_page()
    page.goto(bare_service.url)
    page.click("#add-camera")
    page.fill("#add-name", "files")
    page.fill("#add-address", "/etc/passwd")
    page.click("#add-send")
    page.wait_for_selector("#add-error:not([hidden])")
    text = page.inner_text("#add-error")
    assert "may not be added" in text and "Add a pattern to service.allow_addresses" in text
    assert bare_service.ask("GET", "v1/cameras")["cameras"] == []
    context.close()


def test_a_camera_that_is_refused_says_why(chromium, bare_service):
    context = chromium.new_context()
    context.set_default_timeout(PATIENCE_MS)
    page = context.new_page()
    page.goto(bare_service.url)
    page.click("#add-camera")
    page.click("#device-send")
    page.wait_for_selector("#device-error:not([hidden])")
    assert page.inner_text("#device-error") in (
        "The browser did not allow the camera. Allow it in the site's settings.",
        "This device has no camera.",
    )
    assert bare_service.ask("GET", "v1/cameras")["cameras"] == []
    context.close()
