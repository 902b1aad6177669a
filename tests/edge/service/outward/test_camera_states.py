"""Topics, what stands on them, and what Home Assistant is told: pure, checked against its rules."""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgestream.edge.service.outward.camera_states import MOST_EVENTS, CameraStates
from edgestream.edge.service.outward.home_assistant import discovery_of, discovery_topic
from edgestream.edge.service.outward.mqtt_topics import Topics, topic_name
from edgestream.edge.service.outward.retained import RETAINED_FILE, Retained

from .receiver import stamped

TOPICS = Topics("home/cameras")
NAMES = st.text(max_size=80)


@given(NAMES, NAMES)
def test_a_name_is_one_level_of_a_topic_and_nobody_else_has_it(one, other):
    assert re.fullmatch(r"[A-Za-z0-9_-]{1,80}", topic_name(one))
    assert (topic_name(one) == topic_name(other)) == (one == other)


@pytest.mark.parametrize("name", ["door", "Front_Door-2", "a" * 64])
def test_a_plain_name_stays_as_it_is(name):
    assert topic_name(name) == name


@pytest.mark.parametrize("name", ["", "a/b", "+", "#", "$SYS", "Haustür", "a" * 65, "a b", "_"])
def test_any_other_name_is_changed_and_marked(name):
    assert re.fullmatch(r"[A-Za-z0-9_-]+-[0-9a-f]{8}", topic_name(name))


# What Home Assistant's MQTT integration asks of each kind of entity.
REQUIRED = {
    "sensor": {"state_topic", "unique_id", "platform"},
    "binary_sensor": {"state_topic", "unique_id", "platform"},
    "event": {"state_topic", "unique_id", "platform", "event_types"},
}
KNOWN = {
    *("platform", "name", "unique_id", "state_topic", "value_template", "json_attributes_topic"),
    *("device_class", "options", "entity_category", "icon", "unit_of_measurement", "state_class"),
    *("event_types", "availability", "availability_mode"),
}


@given(NAMES, st.lists(NAMES, max_size=8, unique=True))
def test_discovery_is_a_message_that_home_assistant_takes(camera, events):
    topic = discovery_topic("homeassistant", TOPICS, camera)
    assert re.fullmatch(r"homeassistant/device/[a-zA-Z0-9_-]+/config", topic)
    message = json.loads(discovery_of(TOPICS, camera, events))
    assert set(message) == {"device", "origin", "availability", "components", "qos"}
    assert message["device"]["identifiers"] and message["device"]["name"] == camera
    assert message["origin"]["name"] and message["availability"] == [{"topic": TOPICS.status}]
    parts = message["components"]
    assert len(parts) == 4 + len(events)
    assert len({part["unique_id"] for part in parts.values()}) == len(parts)
    for part in parts.values():
        assert REQUIRED[part["platform"]] <= set(part) <= KNOWN
        assert not re.search(r"[+#\s]", part["state_topic"])
        assert part["platform"] != "sensor" or part.get("device_class") != "enum" or part["options"]


def test_two_cameras_and_two_services_share_no_entity():
    ids = [
        part["unique_id"]
        for base in ("home", "work")
        for camera in ("door", "yard")
        for part in json.loads(discovery_of(Topics(base), camera, ["cut"]))["components"].values()
    ]
    assert len(set(ids)) == len(ids) == 20


def test_the_templates_give_home_assistant_what_it_wants():
    jinja2 = pytest.importorskip("jinja2", reason="jinja2 renders the templates; not installed")
    environment = jinja2.Environment(undefined=jinja2.StrictUndefined)
    environment.filters["to_json"] = json.dumps
    parts = json.loads(discovery_of(TOPICS, "door", ["motion"]))["components"]
    prefix = "home_cameras_door_"

    def rendered(template, value):
        return environment.from_string(template).render(value_json=value)

    fired = {"request": "tell me", "text": "yes"}
    event = json.loads(rendered(parts[f"{prefix}standing"]["value_template"], fired))
    assert event == {**fired, "event_type": "met"}
    assert event["event_type"] in parts[f"{prefix}standing"]["event_types"]
    states = [("open", "online"), ("lost", "offline"), ("paused", "offline")]
    available = parts[f"{prefix}event_motion"]["availability"][1]["value_template"]
    assert [rendered(available, {"state": state}) for state, _ in states] == [
        word for _, word in states
    ]
    assert rendered(parts[f"{prefix}link"]["value_template"], {"state": "open"}) == "open"


def told(states, type_, **fields):
    return dict(states.told(stamped(type_=type_, **fields)))


@pytest.fixture
def states():
    made = CameraStates(TOPICS, "ha")
    made.add("door", ["motion", "cut"])
    return made


def test_a_camera_begins_announced_connecting_and_quiet():
    updates = CameraStates(TOPICS, "ha").add("door", ["motion", "cut"])
    topics = [topic for topic, _ in updates]
    assert topics[0] == "ha/device/home_cameras_door/config"
    assert json.loads(dict(updates)[TOPICS.link("door")])["state"] == "connecting"
    assert [payload for topic, payload in updates if "/event/" in topic] == [b"OFF", b"OFF"]


def test_an_event_is_on_from_opened_to_closed_or_until_the_camera_goes(states):
    motion = TOPICS.event("door", "motion")
    assert told(states, "opened", event="motion") == {motion: b"ON"}
    assert told(states, "closed", event="motion") == {motion: b"OFF"}
    told(states, "opened", event="motion")
    for state in ("lost", "paused", "ended", "connecting"):
        told(states, "opened", event="motion")
        updates = told(states, "camera", state=state, reason="so")
        assert updates.pop(TOPICS.link("door")) and updates == {motion: b"OFF"}
    told(states, "opened", event="motion")
    link = json.loads(told(states, "camera", state="rebased", reason="so")[TOPICS.link("door")])
    assert link["state"] == "open"  # its clock began anew, and it is open all the same


def test_an_event_type_that_nobody_named_is_announced_when_it_comes(states):
    updates = states.told(stamped(type_="opened", event="fall"))
    assert [topic for topic, _ in updates] == [
        "ha/device/home_cameras_door/config",
        TOPICS.event("door", "fall"),
    ]
    assert b"event_fall" in updates[0][1]
    for number in range(2 * MOST_EVENTS):
        updates = states.told(stamped(type_="opened", event=f"e{number}"))
    assert updates == []


@given(st.text(max_size=1000))
def test_a_sentence_fits_a_state_and_stays_whole_beside_it(text):
    states = CameraStates(TOPICS, None)
    states.add("door", [])
    updates = told(states, "final", text=text, question=None, cause="event")
    if not text.strip():
        assert updates == {}
        return
    said = json.loads(updates[TOPICS.said("door")])
    assert len(said["state"]) <= 255 and said["text"] == text.strip()
    assert said["state"].removesuffix("…") == text.strip()[: len(said["state"].removesuffix("…"))]


def test_frames_per_second_are_a_number(states):
    assert told(states, "stats", fps=3.98765) == {TOPICS.fps("door"): b"3.98765"}


def test_a_camera_that_was_removed_leaves_nothing_behind(states):
    set_topics = {topic for topic, _ in states.add("door", ["motion", "cut"])}
    removed = dict(states.remove("door"))
    assert set_topics <= set(removed) and set(removed.values()) == {b""}
    assert states.remove("door") == [] and told(states, "opened", event="motion") == {}


def taken(retained):
    found = []
    while (update := retained.take()) is not None:
        found.append(update)
    return found


def test_the_newest_of_a_topic_is_published_once(tmp_path):
    retained = Retained(tmp_path)
    retained.set([("a", b"1"), ("b", b"1"), ("a", b"2")])
    assert taken(retained) == [("a", b"2"), ("b", b"1")] and taken(retained) == []
    retained.all_again()
    assert taken(retained) == [("a", b"2"), ("b", b"1")]


def test_what_is_taken_away_is_forgotten_when_the_broker_has_it(tmp_path):
    retained = Retained(tmp_path)
    retained.set([("a", b"1"), ("b", b"1")])
    retained.set([("a", b"")])
    assert ("a", b"") in taken(retained)
    retained.all_again()  # the broker went before it answered
    assert ("a", b"") in taken(retained)
    retained.published("a")
    retained.published("b")
    retained.all_again()
    assert taken(retained) == [("b", b"1")]


def test_the_next_service_takes_away_what_it_does_not_have(tmp_path):
    retained = Retained(tmp_path)
    retained.set([("a", b"1"), ("b", b"1")])
    retained.save()
    again = Retained(tmp_path)
    again.set([("b", b"2")])
    again.all_again()
    assert sorted(taken(again)) == [("a", b""), ("b", b"2")]


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"topics": 5}', b'{"topics": [5, ""]}'])
def test_a_damaged_file_of_topics_is_taken_for_empty(tmp_path, content):
    (tmp_path / RETAINED_FILE).write_bytes(content)
    retained = Retained(tmp_path)
    retained.all_again()
    assert taken(retained) == []
