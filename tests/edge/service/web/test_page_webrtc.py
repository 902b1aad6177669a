"""This device's camera as a video over WebRTC, and where there is no way for one."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from .conftest import PATIENCE_MS, Watched
from .serving import Served, chromium_started, served, wait, write_y4m

pytest.importorskip("aiortc", reason="the service needs the extra `webrtc`")
pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

LEAST_FPS = 3


@pytest.fixture(scope="module")
def bare_service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A service without any camera."""
    with served(folder=tmp_path_factory.mktemp("bare")) as running:
        yield running


@pytest.fixture(scope="module")
def fake_camera(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, ...]:
    """What has a Chromium play the sample clip as its camera."""
    clip = write_y4m(tmp_path_factory.mktemp("camera") / "sample.y4m")
    return (
        "--use-fake-device-for-media-stream",
        "--use-fake-ui-for-media-stream",
        f"--use-file-for-fake-video-capture={clip}",
    )


@pytest.fixture(scope="module")
def with_camera(driver: Any, fake_camera: tuple[str, ...]) -> Iterator[Any]:
    """A Chromium with a camera that it may use."""
    with chromium_started(driver, *fake_camera) as started:
        yield started


class Sending:
    """A page that sends its camera; `sockets` are those over which it sends JPEGs."""

    def __init__(self, page: Any, service: Served, name: str) -> None:
        self.page, self.service, self.name = page, service, name
        self.sockets: list[str] = []
        page.on("websocket", lambda one: one.url.endswith("/frames") and self.sockets.append(one))

    def begin(self) -> None:
        """Open the page and send the camera."""
        self.page.goto(self.service.url)
        wait(self.page, "document.querySelector('#badge') !== null")
        self.page.click("#add-camera")
        self.page.fill("#device-name", self.name)
        self.page.select_option("#device-fps", "8")
        self.page.click("#device-send")
        self.page.wait_for_selector("#device-strip:not([hidden])")

    def row(self) -> Any:
        """The camera, as the service has it."""
        rows = self.service.ask("GET", "v1/cameras")["cameras"]
        return next((row for row in rows if row["name"] == self.name), None)

    def until(self, condition: Any) -> None:
        """Wait until a row of the camera is so."""
        for _ in range(int(PATIENCE_MS / 100)):
            if condition(self.row()):
                return
            self.page.wait_for_timeout(100)
        raise AssertionError(self.row())


@contextmanager
def sending(browser: Any, service: Served, name: str) -> Iterator[Sending]:
    """A page; nothing was asked for elsewhere and no script failed, and its camera is removed."""
    context = browser.new_context()
    context.set_default_timeout(PATIENCE_MS)
    page = context.new_page()
    watched = Watched(page, service.url)
    try:
        yield Sending(page, service, name)
    finally:
        context.close()
        if any(row["name"] == name for row in service.ask("GET", "v1/cameras")["cameras"]):
            service.ask("DELETE", f"v1/cameras/{name}")
    assert (watched.elsewhere, watched.faults) == ([], [])


def test_the_camera_is_watched_lost_and_found_again(with_camera, bare_service):
    with sending(with_camera, bare_service, "phone") as phone:
        phone.begin()
        phone.until(lambda row: row and row["state"] == "open" and row["fps"] >= LEAST_FPS)
        wait(phone.page, "document.querySelector('#picture').naturalWidth > 0")
        wait(phone.page, "document.querySelectorAll('#log .entry-said').length >= 2")
        assert "is sent as phone" in phone.page.inner_text("#device-text")
        phone.page.reload()
        phone.until(lambda row: row["state"] == "lost" and "the page has gone" in row["reason"])
        phone.begin()
        phone.until(lambda row: row["state"] == "open" and row["fps"] >= LEAST_FPS)
        assert phone.sockets == [], "it was all WebRTC"


def test_a_pause_cuts_the_line_and_its_end_makes_a_new_one(with_camera, bare_service):
    with sending(with_camera, bare_service, "paused") as phone:
        phone.begin()
        phone.until(lambda row: row and row["state"] == "open")
        phone.page.click("#pause")
        wait(phone.page, "document.querySelector('#device-text').textContent.includes('waits')")
        assert phone.row()["state"] == "paused"
        phone.page.click("#pause")
        phone.until(lambda row: row["state"] == "open")
        wait(phone.page, "document.querySelector('#device-text').textContent.includes('is sent')")
        assert phone.sockets == []


def test_a_camera_that_is_removed_ends_the_sending(with_camera, bare_service):
    with sending(with_camera, bare_service, "gone") as phone:
        phone.begin()
        phone.until(lambda row: row and row["state"] == "open")
        bare_service.ask("DELETE", "v1/cameras/gone")
        phone.page.wait_for_selector("#device-strip", state="hidden")


@pytest.mark.parametrize("status", [501, 500])
def test_where_an_offer_is_refused_pictures_come_over_the_socket(with_camera, bare_service, status):
    with sending(with_camera, bare_service, "fallback") as phone:
        phone.page.route("**/offer", lambda route: route.fulfill(status=status, body="{}"))
        phone.begin()
        phone.until(lambda row: row and row["state"] == "open" and row["fps"] > 1)
        assert len(phone.sockets) == 1


def test_where_no_video_gets_through_pictures_come_over_the_socket(with_camera, bare_service):
    offers = []

    def led_astray(route: Any) -> None:
        """The service's real answer, with a port at which nobody listens."""
        answer = route.fetch()
        offers.append(answer.status)
        sdp = re.sub(r"(a=candidate:\S+ 1 udp \d+ \S+) \d+", r"\1 9", answer.json()["sdp"])
        route.fulfill(response=answer, json={"sdp": sdp, "type": "answer"})

    with sending(with_camera, bare_service, "blocked") as phone:
        phone.page.route("**/offer", led_astray)
        phone.begin()
        phone.until(lambda row: row and row["state"] == "open" and row["fps"] > 1)
        assert offers == [200] and phone.sockets
