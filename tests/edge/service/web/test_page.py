"""The page at work: real service, real Chromium, the sample clip as a camera."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from .serving import Served, wait

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

MARKUP = "<img src=x onerror=\"document.title='taken'\"><s>struck</s>"


def test_the_picture_is_live_and_sentences_appear_with_their_events(opened):
    wait(opened, "document.querySelector('#picture').naturalWidth > 0")
    assert opened.inner_text("#badge") == "Live"
    assert "live.mjpg" in opened.get_attribute("#picture", "src")
    wait(opened, "document.querySelectorAll('#log .entry-said').length >= 3")
    wait(opened, "!document.querySelector('#now').classList.contains('is-empty')")
    said = opened.locator("#log .entry-said .entry-text").all_inner_texts()
    assert all(re.fullmatch(r"[A-Z][^<>]+\.", text) for text in said)
    assert opened.locator("#log .entry .chip").count() >= 1
    # The newest sentence is the big one, and a screen reader is told it.
    wait(
        opened,
        """() => {
          const said = [...document.querySelectorAll('#log .entry-said .entry-text')];
          return document.querySelector('#now-text').textContent === said.at(-1).textContent
            && document.querySelector('#announcements').textContent.length > 0;
        }""",
    )


def test_a_typed_question_is_answered_as_it_is_spoken(opened):
    wait(opened, "document.querySelectorAll('.key-frame').length >= 2")
    opened.fill("#question", "Which way did the camera pan first?")
    opened.press("#question", "Enter")
    wait(opened, "document.querySelector('.answer-foot')?.textContent.includes('about')")
    assert opened.inner_text(".exchange .question").endswith("Which way did the camera pan first?")
    answer = opened.inner_text(".answer-text")
    assert len(answer) >= 3 and "nothing to say" not in answer
    assert opened.locator("#stop").is_hidden()
    # It was answered from memory: its key frames are linked and open.
    opened.locator(".used-frame").first.click()
    opened.wait_for_selector("#key-frame-dialog .used-by li")
    opened.keyboard.press("Escape")
    assert opened.locator("#key-frame-dialog").is_hidden()


def test_a_refused_question_is_a_sentence_with_a_hint(opened):
    def another(route: Any) -> None:
        body = {**route.request.post_data_json, "camera": "nowhere"}
        route.continue_(post_data=body)

    opened.route("**/v1/chat/completions", another)
    opened.fill("#question", "What is there now?")
    opened.press("#question", "Enter")
    opened.wait_for_selector(".answer-fault")
    assert "nowhere" in opened.inner_text(".answer-fault")


def test_the_memory_strip_fills_and_a_key_frame_opens_with_its_picture(opened):
    wait(opened, "document.querySelectorAll('.key-frame').length >= 3")
    assert re.search(r"\d+ key frames · .* of .*B", opened.inner_text("#memory-facts"))
    opened.locator(".key-frame").first.click()
    body = opened.locator("#key-frame-body")
    body.locator("img").wait_for()
    text = body.inner_text()
    assert "It is the first frame of the stream." in text
    assert re.search(r"Stands for\s+\d+ frames?", text)
    wait(opened, "document.querySelector('#key-frame-body img').naturalWidth > 0")


def test_a_standing_request_fires_and_is_cancelled(opened):
    opened.fill("#standing-text", "anything happens")
    opened.select_option("#standing-kind", "events")
    opened.wait_for_selector("#standing-events input")
    for tick in opened.locator("#standing-events input").all():
        tick.check()
    opened.click("#standing-add")
    opened.wait_for_selector(".request")
    opened.wait_for_selector(".toast-told")
    assert "anything happens" in opened.inner_text(".toast-told")
    assert opened.locator(".request.is-lit").count() == 1
    assert "fired" in opened.inner_text(".request-facts")
    opened.click(".request button")
    wait(opened, "document.querySelectorAll('.request').length === 0")


def test_the_timeline_draws_scores_thresholds_and_events_and_says_them(opened):
    wait(opened, "document.querySelectorAll('#lanes .mark').length >= 2")
    lanes = opened.locator("#lanes .line").count()
    assert lanes >= 10 and opened.locator("#lanes .threshold").count() == lanes
    assert re.search(r"\d+ events? in the last two minutes", opened.inner_text("#timeline-summary"))
    opened.focus("#plot")
    for _ in range(3):
        opened.keyboard.press("ArrowLeft")
    assert re.match(r"\d\d:\d\d:\d\d · ", opened.get_attribute("#plot", "aria-valuetext"))
    assert opened.locator("#cursor.is-shown").count() == 1
    opened.click("#timeline-list summary")
    assert re.search(r"score (\.\d\d|1\.0)", opened.inner_text("#timeline-events li >> nth=0"))


def test_counters_count(opened):
    opened.wait_for_selector("#counters:not([hidden])")
    before = int(opened.inner_text("#c-seen").replace(",", ""))
    wait(
        opened,
        "([n]) => +document.querySelector('#c-seen').textContent.replaceAll(',', '') > n",
        before,
    )
    assert re.fullmatch(r"\d+\.\d", opened.inner_text("#c-fps"))
    assert opened.locator("#c-stages tr").count() >= 3
    assert "MB" in opened.inner_text("#c-rss")
    assert re.match(
        r"(everything is done|step \d+), \d+\.\d of 4\.0 fps", opened.inner_text("#c-governor")
    )


def test_pausing_and_resuming(opened):
    opened.click("#pause")
    wait(opened, "document.querySelector('#badge').textContent === 'Paused'")
    assert opened.inner_text("#pause") == "Resume"
    assert opened.locator("#cover").is_visible()
    opened.click("#pause")
    wait(opened, "document.querySelector('#badge').textContent === 'Live'")


def test_text_of_others_is_never_markup(opened, service: Served):
    """In a question, its answer's record, a standing request and an error of the service."""
    opened.fill("#question", MARKUP)
    opened.press("#question", "Enter")
    wait(opened, "document.querySelectorAll('#log .entry-answer').length >= 1")
    opened.fill("#standing-text", MARKUP)
    opened.click("#standing-add")
    opened.wait_for_selector(".request-text")
    opened.evaluate(
        """async (markup) => {
          const { toast } = await import('./web/notices.js');
          toast(markup, markup, 'bad');
        }""",
        MARKUP,
    )
    opened.wait_for_timeout(500)
    assert opened.inner_text(".request-text") == MARKUP
    assert MARKUP in opened.inner_text("#log .entry-answer .entry-question >> nth=-1")
    assert opened.title() == "EdgeStream"
    assert opened.locator("main s, .toasts s, img[src=x]").count() == 0
    opened.click(".request button")


def test_reading_the_log_is_not_disturbed(opened):
    wait(opened, "document.querySelectorAll('#log .entry').length >= 4")
    opened.set_viewport_size({"width": 1280, "height": 700})
    opened.evaluate("document.querySelector('.log-box').style.maxHeight = '90px'")
    wait(opened, "document.querySelector('#log').scrollTop > 0")  # it follows
    opened.focus("#log")
    opened.keyboard.press("Home")
    wait(opened, "document.querySelector('#log').scrollTop === 0")
    count = opened.locator("#log .entry").count()
    top = opened.locator("#log .entry >> nth=0").bounding_box()
    wait(opened, "([n]) => document.querySelectorAll('#log .entry').length > n", count)
    opened.wait_for_selector("#newer:not([hidden])")
    assert opened.locator("#log .entry >> nth=0").bounding_box() == top
    opened.click("#newer")
    opened.mouse.move(5, 5)  # away from the log
    wait(
        opened,
        """() => {
          const log = document.querySelector('#log');
          return log.scrollHeight - log.scrollTop - log.clientHeight < 2;
        }""",
    )


def test_the_log_follows_while_nobody_reads_it(opened):
    opened.evaluate("document.querySelector('.log-box').style.maxHeight = '90px'")
    count = opened.locator("#log .entry").count()
    wait(opened, "([n]) => document.querySelectorAll('#log .entry').length > n + 8", count)
    wait(
        opened,
        """() => {
          const log = document.querySelector('#log');
          const isAtEnd = log.scrollHeight - log.scrollTop - log.clientHeight < 2;
          return isAtEnd && document.querySelector('#newer').hidden;
        }""",
    )


def test_a_tab_that_nobody_sees_loads_no_pictures(opened):
    wait(opened, "document.querySelector('#picture').naturalWidth > 0")
    become = """(isHidden) => {
      Object.defineProperty(document, 'hidden', { value: isHidden, configurable: true });
      document.dispatchEvent(new Event('visibilitychange'));
    }"""
    opened.evaluate(become, True)
    assert opened.get_attribute("#picture", "src") is None
    opened.wait_for_timeout(200)
    asked = []
    opened.on("request", lambda request: asked.append(request.url))
    opened.wait_for_timeout(2500)
    assert asked == []
    opened.evaluate(become, False)
    wait(opened, "document.querySelector('#picture').naturalWidth > 0")


def test_an_answer_can_be_stopped(opened):
    opened.route("**/v1/chat/completions", lambda route: None)  # an answer that never comes
    opened.fill("#question", "What is there now?")
    opened.press("#question", "Enter")
    opened.click("#stop")
    opened.wait_for_selector(".answer-foot:has-text('Stopped.')")
    assert opened.locator("#ask").is_visible() and opened.locator("#stop").is_hidden()
    assert opened.locator(".dots").count() == 0


def test_an_answer_is_the_same_however_the_network_has_cut_it(opened):
    """Every cut of the bytes in two; an error within the stream, and one that breaks off."""
    seen = opened.evaluate((Path(__file__).parent / "cut_answers.js").read_text())
    assert seen["texts"] == ["Grün – ja|t1"]
    assert seen["error"] == "ApiError: too many wait"
    assert seen["broken"] == "ApiError: The answer broke off before its end. ask again"


def test_of_two_cameras_one_is_looked_at(opened, service: Served):
    opened.fill("#question", "Is it dark?")
    opened.press("#question", "Enter")
    wait(opened, "document.querySelector('.answer-text')?.textContent.length > 0")
    service.ask("POST", "v1/cameras", {"name": "other", "address": "browser:"})
    try:
        opened.click(".camera-chip:has-text('other')")
        wait(opened, "document.querySelector('#camera-name').textContent === 'other'")
        assert opened.locator("#log .entry-said").count() == 0
        assert opened.locator("#cover").is_visible()
        assert opened.inner_text("#ask-of") == "of other"
        assert not opened.locator(".exchange").first.is_visible(), "asked of another camera"
        assert opened.get_attribute(".camera-chip >> nth=1", "aria-pressed") == "true"
        opened.click(".camera-chip:has-text('front')")
        wait(opened, "document.querySelectorAll('#log .entry-said').length > 0")
        wait(opened, "document.querySelector('#picture').naturalWidth > 0")
        assert opened.inner_text("#badge") == "Live"
        assert opened.locator(".exchange").first.is_visible()
    finally:
        service.ask("DELETE", "v1/cameras/other")
    wait(opened, "document.querySelectorAll('.camera-chip').length === 1")


def test_without_a_stream_of_pictures_they_are_asked_for_one_by_one(opened):
    opened.route("**/live.mjpg*", lambda route: route.abort())
    opened.reload()
    wait(
        opened,
        """() => {
          const picture = document.querySelector('#picture');
          return picture.src.includes('picture.jpg') && picture.naturalWidth > 0;
        }""",
    )


def test_wiping_asks_first_and_empties_the_strip(opened):
    wait(opened, "document.querySelectorAll('.key-frame').length >= 1")
    first = opened.get_attribute(".key-frame", "aria-label")
    opened.click("#wipe")
    opened.click("#confirm-no")
    assert opened.locator(".key-frame").count() >= 1
    opened.click("#wipe")
    opened.click("#confirm-yes")
    wait(
        opened,
        "([label]) => document.querySelector('.key-frame')?.ariaLabel !== label",
        first,
    )
    opened.wait_for_selector("text=Memory wiped")
