"""The page for everybody: keyboard, small screens, contrast, names and roles, reduced motion."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from .serving import wait

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

CONTRAST = (Path(__file__).parent / "contrast.js").read_text().split("\n", 1)[1]
# Name of whatever has the focus, and whether it is seen that it has it.
FOCUSED = """() => {
  const at = document.activeElement;
  const style = getComputedStyle(at);
  const box = at.getBoundingClientRect();
  return {
    id: at.id || at.className || at.tagName,
    isOutlined: style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) >= 2,
    isSeen: box.width > 0 && box.height > 0,
  };
}"""
# What a screen reader would not know what to call.
NAMELESS = """() => [...document.querySelectorAll(
    'button, input, select, a[href], [role=slider], [role=meter], [tabindex="0"], dialog')]
  .filter((one) => !one.labels?.length && !one.ariaLabel && !one.textContent.trim()
    && !one.getAttribute('aria-labelledby'))
  .map((one) => one.outerHTML.slice(0, 120))"""
WIDER = "document.documentElement.scrollWidth - document.documentElement.clientWidth"


def filled(page: Any) -> None:
    """Until every part of the page has something to show."""
    wait(
        page,
        "document.querySelectorAll('.key-frame').length > 1 && "
        "document.querySelectorAll('#log .entry').length > 1 && "
        "document.querySelectorAll('#lanes .line').length > 1 && "
        "!document.querySelector('#counters').hidden",
    )


def test_everything_is_reached_with_the_keyboard_and_the_focus_is_seen(opened):
    filled(opened)
    opened.keyboard.press("Tab")
    assert opened.evaluate("document.activeElement.className") == "skip"
    visited = []
    for _ in range(60):
        opened.keyboard.press("Tab")
        at = opened.evaluate(FOCUSED)
        if at["id"] in ("BODY", "skip"):
            break
        visited.append(at["id"])
        assert at["isSeen"] and at["isOutlined"], at
    order = [
        "camera-chip", "add-camera", "theme", "pause", "remove", "log", "messages", "question",
        "ask", "scope", "key-frame", "standing-text", "standing-add", "plot",
    ]  # fmt: skip
    assert [name for name in visited if name in order] == order


def test_a_question_and_a_key_frame_by_keyboard_alone(opened):
    filled(opened)
    opened.focus("#question")
    opened.keyboard.type("What happened last?")
    opened.keyboard.press("Enter")
    wait(opened, "document.querySelector('.answer-foot')?.textContent !== ''")
    opened.focus(".key-frame[tabindex='0']")
    opened.keyboard.press("ArrowLeft")
    name = opened.evaluate("document.activeElement.ariaLabel")
    assert name.startswith("Key frame of")
    opened.keyboard.press("Enter")
    assert opened.locator("#key-frame-dialog").is_visible()
    opened.keyboard.press("Escape")
    assert opened.locator("#key-frame-dialog").is_hidden()
    assert opened.evaluate("document.activeElement.ariaLabel") == name


def test_escape_closes_every_dialog_and_means_no(opened):
    filled(opened)
    for button, dialog in (("#add-camera", "#add-dialog"), ("#wipe", "#confirm-dialog")):
        count = opened.locator(".key-frame").count()
        opened.focus(button)
        opened.keyboard.press("Enter")
        assert opened.locator(dialog).is_visible()
        opened.keyboard.press("Escape")
        assert opened.locator(dialog).is_hidden()
        assert opened.evaluate("document.activeElement.id") == button[1:]
        assert opened.locator(".key-frame").count() >= count


@pytest.mark.parametrize("width_px", [320, 360, 390, 720, 1120, 1280, 1920])
def test_nothing_is_wider_than_the_screen(opened, width_px):
    opened.set_viewport_size({"width": width_px, "height": 780})
    filled(opened)
    opened.select_option("#standing-kind", "events")
    assert opened.evaluate(WIDER) <= 0
    opened.click("#add-camera")
    box = opened.locator("#add-dialog").bounding_box()
    assert box["x"] >= 0 and box["x"] + box["width"] <= width_px


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_has_the_contrast_of_aa(opened, scheme):
    opened.emulate_media(color_scheme=scheme)
    filled(opened)
    opened.fill("#question", "What is there now?")
    opened.press("#question", "Enter")
    wait(opened, "document.querySelector('.answer-foot')?.textContent !== ''")
    assert opened.evaluate(CONTRAST) == []
    opened.click("#add-camera")
    assert opened.evaluate(CONTRAST) == []


def test_the_contrast_that_is_measured_can_fail(opened):
    opened.evaluate("document.querySelector('.brand').style.color = '#aaa'")
    assert [one["text"] for one in opened.evaluate(CONTRAST)] == ["EdgeStream"]


def test_names_roles_and_landmarks(opened):
    filled(opened)
    assert opened.evaluate(NAMELESS) == []
    assert opened.get_attribute("html", "lang") == "en"
    assert opened.locator("h1").count() == 1 and opened.locator("main").count() == 1
    for section in opened.locator("main > section").all():
        assert section.get_attribute("aria-labelledby")
    ids = opened.evaluate("[...document.querySelectorAll('[id]')].map((one) => one.id)")
    assert len(ids) == len(set(ids))
    pointed = opened.evaluate(
        "[...document.querySelectorAll('[aria-labelledby],[aria-describedby],label[for]')].flatMap("
        "(one) => [one.getAttribute('aria-labelledby'), one.getAttribute('aria-describedby'),"
        " one.getAttribute('for')].filter(Boolean))"
    )
    assert set(pointed) <= set(ids)
    assert opened.get_attribute("#announcements", "aria-live") == "polite"
    assert opened.locator("img:not([alt])").count() == 0


def test_colours_follow_the_device_until_the_reader_chooses(opened):
    ground = "getComputedStyle(document.documentElement).backgroundColor"
    opened.emulate_media(color_scheme="dark")
    dark = opened.evaluate(ground)
    opened.emulate_media(color_scheme="light")
    light = opened.evaluate(ground)
    assert dark != light
    opened.click("#theme")  # light
    opened.click("#theme")  # dark
    assert opened.evaluate(ground) == dark
    opened.reload()
    assert opened.evaluate(ground) == dark
    kept = opened.evaluate("JSON.stringify({...localStorage})")
    assert kept == '{"edgestream-theme":"dark"}'


def test_nothing_moves_for_who_wants_no_motion(opened):
    opened.emulate_media(reduced_motion="reduce")
    opened.wait_for_timeout(100)
    opened.evaluate("document.querySelector('#device-strip').hidden = false")
    running = "document.getAnimations().filter((one) => one.playState === 'running').length"
    assert opened.evaluate(running) == 0
    opened.emulate_media(reduced_motion="no-preference")
    assert opened.evaluate(running) > 0
