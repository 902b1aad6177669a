"""HTTP: cameras, their pictures, their trace and memory, against a running service."""

from __future__ import annotations

import io
import json
import time

import av
import pytest

from ...video_files import numbered, write_video
from .serving import CLIP, events, serving, until


def size_of(jpeg):
    with av.open(io.BytesIO(jpeg), format="image2pipe") as container:
        (frame, *_) = container.decode(video=0)
    return frame.width, frame.height


def test_the_cameras_and_how_they_are(service):
    found = service.get("/v1/cameras")
    (row,) = found["cameras"]
    assert found["most"] == 4
    assert (row["name"], row["kind"], row["state"]) == ("door", "loop", "open")
    assert row["can_answer"] and not row["is_paused"] and not row["has_zones"]
    assert row["fps_target"] == 4.0 and row["time_s"] >= 0


@pytest.mark.parametrize(("width", "wanted"), [(320, (320, 180)), (4096, (640, 360))])
def test_the_newest_picture_is_no_wider_than_asked_and_never_blown_up(service, width, wanted):
    until(lambda: service.ask("GET", "/v1/cameras/door/picture.jpg")[0] == 200)
    status, headers, jpeg = service.ask("GET", f"/v1/cameras/door/picture.jpg?width={width}")
    assert (status, headers["content-type"]) == (200, "image/jpeg")
    assert size_of(jpeg) == wanted


@pytest.mark.parametrize("width", ["15", "4097", "x", "-1", "1e3", "nan"])
def test_a_width_out_of_bounds_is_refused(service, width):
    status, value = service.json("GET", f"/v1/cameras/door/picture.jpg?width={width}")
    assert status == 422 and value["error"]["code"] == "request-invalid"


@pytest.mark.medium
def test_live_pictures_are_parts_of_one_response(service):
    import http.client

    connection = http.client.HTTPConnection("127.0.0.1", service.port, timeout=60)
    connection.request("GET", "/v1/cameras/door/live.mjpg?width=160&fps=10")
    answer = connection.getresponse()
    assert answer.getheader("content-type").startswith("multipart/x-mixed-replace; boundary=")
    boundary = b"--" + answer.getheader("content-type").partition("boundary=")[2].encode()
    pictures = []
    while len(pictures) < 3:
        assert answer.readline().strip() == boundary
        assert answer.readline().strip() == b"Content-Type: image/jpeg"
        length = int(answer.readline().partition(b":")[2])
        assert answer.readline().strip() == b""
        pictures.append(answer.read(length))
        assert answer.readline() == b"\r\n"
    connection.close()
    assert {size_of(jpeg) for jpeg in pictures} == {(160, 90)}
    until(lambda: "edgestream_listeners 0" in service.ask("GET", "/metrics")[2].decode())


def test_the_trace_has_a_score_for_each_name_and_goes_on_from_a_time(service):
    whole = until(lambda: (t := service.get("/v1/cameras/door/trace"))["frames"] and t)
    assert "speak" in whole["names"] and set(whole["thresholds"]) == set(whole["names"])
    for frame in whole["frames"]:
        assert len(frame["scores"]) == len(whole["names"])
        assert all(0 <= score <= 1 for score in frame["scores"])
    times_s = [frame["time_s"] for frame in whole["frames"]]
    assert times_s == sorted(times_s)
    later = service.get(f"/v1/cameras/door/trace?since_s={times_s[-1]}")["frames"]
    assert all(frame["time_s"] > times_s[-1] for frame in later)


def test_the_counters_are_those_of_a_stats_record(service):
    stats = service.get("/v1/cameras/door/stats")
    assert stats["frames_seen"] >= stats["frames_encoded"] > 0
    assert 0 < stats["bytes_kept"] <= stats["bytes_budget"] < 256e6 / 4


def test_memory_names_its_frames_and_shows_their_pictures(service):
    memory = until(lambda: (m := service.get("/v1/cameras/door/memory"))["key_frames"] and m)
    first = memory["key_frames"][0]
    assert first["reason"] == "first" and first["has_picture"] and first["covers"] >= 1
    status, headers, jpeg = service.ask("GET", f"/v1/cameras/door/memory/{first['id']}.jpg")
    assert (status, headers["content-type"]) == (200, "image/jpeg")
    assert size_of(jpeg) == (112, 112)
    assert memory["bytes_kept"] <= memory["bytes_budget"]
    assert service.json("GET", "/v1/cameras/door/memory/k999999.jpg")[0] == 404


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1/cameras/nobody/picture.jpg"),
        ("GET", "/v1/cameras/nobody/live.mjpg"),
        ("GET", "/v1/cameras/nobody/trace"),
        ("GET", "/v1/cameras/nobody/memory"),
        ("DELETE", "/v1/cameras/nobody/memory"),
        ("POST", "/v1/cameras/nobody/pause"),
        ("DELETE", "/v1/cameras/nobody"),
    ],
)
def test_a_camera_that_is_not_there_is_404(service, method, path):
    status, value = service.json(method, path)
    assert status == 404 and value["error"]["code"] == "camera-unknown"


@pytest.mark.parametrize("name", ["..", "a/b", "%2e%2e", "a%2Fb", "a b", "ä", "x" * 65, "-a", ""])
def test_a_name_that_could_be_a_path_is_refused(service, name):
    status, value = service.json("POST", "/v1/cameras", {"name": name, "address": "browser:"})
    assert status == 422 and value["error"]["code"] == "request-invalid"
    assert len(service.get("/v1/cameras")["cameras"]) == 1


@pytest.mark.parametrize(
    "address", ["/etc/passwd", str(CLIP), "rtsp://10.0.0.1/", "http://169.254.169.254/", "gst:x"]
)
def test_nothing_is_opened_that_nobody_allowed(service, address):
    status, value = service.json("POST", "/v1/cameras", {"name": "new", "address": address})
    assert status == 403 and value["error"]["code"] == "address-refused"
    assert address not in json.dumps(value)


@pytest.fixture(scope="module")
def short(tmp_path_factory):
    """A clip of a second."""
    return write_video(tmp_path_factory.mktemp("clips") / "short.mp4", numbered(25))


@pytest.fixture(scope="module")
def other(short):
    """A service whose cameras come and go."""
    allowed = f'service.allow_addresses=["test:*", "{short.parent}/*"]'
    with serving("--set", allowed, "--set", "service.max_cameras=2") as running:
        yield running


@pytest.mark.medium
def test_cameras_come_pause_and_go(other):
    status, row = other.json("POST", "/v1/cameras", {"name": "t", "address": "test:pans"})
    assert (status, row["name"], row["kind"]) == (201, "t", "scripted")
    assert other.json("POST", "/v1/cameras", {"name": "T", "address": "test:pans"})[0] == 409
    until(lambda: other.state("t") == "open")
    status, row = other.json("POST", "/v1/cameras/t/pause")
    assert (status, row["state"], row["is_paused"]) == (200, "paused", True)
    stood_s = other.get("/v1/cameras")["cameras"][0]["time_s"]
    time.sleep(0.3)
    assert other.get("/v1/cameras")["cameras"][0]["time_s"] == stood_s, "a file stands still"
    assert other.json("POST", "/v1/cameras/t/resume")[1]["state"] == "open"
    until(lambda: other.get("/v1/cameras")["cameras"][0]["time_s"] > stood_s)
    assert other.json("DELETE", "/v1/cameras/t") == (204, None)
    assert other.get("/v1/cameras")["cameras"] == []


def test_there_are_no_more_cameras_than_may_be(other):
    for name in ("a", "b"):
        assert other.json("POST", "/v1/cameras", {"name": name, "address": "browser:"})[0] == 201
    status, value = other.json("POST", "/v1/cameras", {"name": "c", "address": "browser:"})
    assert status == 409 and value["error"]["code"] == "cameras-full"
    for name in ("a", "b"):
        assert other.json("DELETE", f"/v1/cameras/{name}")[0] == 204


def test_an_address_that_is_none_is_told_at_once(other, short):
    status, value = other.json("POST", "/v1/cameras", {"name": "x", "address": "test:nothing"})
    assert status == 422 and value["error"]["code"] == "source-unknown"
    missing = {"name": "x", "address": str(short.parent / "missing.mp4")}
    assert other.json("POST", "/v1/cameras", missing)[0] == 422
    assert other.get("/v1/cameras")["cameras"] == []


@pytest.mark.medium
def test_a_camera_that_has_ended_leaves_the_others_and_begins_anew(other, short):
    assert other.json("POST", "/v1/cameras", {"name": "good", "address": "test:pans"})[0] == 201
    status, _ = other.json("POST", "/v1/cameras", {"name": "ends", "address": str(short)})
    assert status == 201
    until(lambda: other.state("ends") == "ended")
    status, value = other.chat("What do you see?", camera="ends")
    assert status == 409 and value["error"]["code"] == "camera-not-watching"
    assert other.json("POST", "/v1/cameras/ends/resume")[0] == 200
    until(lambda: other.state("ends") in ("open", "ended"))
    assert other.state("good") == "open"
    for name in ("good", "ends"):
        other.json("DELETE", f"/v1/cameras/{name}")


@pytest.mark.medium
def test_wiping_leaves_nothing_of_before(other):
    other.json("POST", "/v1/cameras", {"name": "w", "address": "test:pans"})
    until(lambda: other.state("w") == "open")
    until(lambda: other.get("/v1/cameras/w/trace")["frames"])
    assert other.chat("What do you see?", camera="w")[0] == 200
    until(lambda: other.get("/v1/cameras/w/memory")["dialogue"])
    before = {one["id"] for one in other.get("/v1/records?camera=w")["records"]}
    assert before
    assert other.json("DELETE", "/v1/cameras/w/memory") == (204, None)
    until(lambda: other.state("w") == "open")
    assert other.get("/v1/cameras/w/memory")["dialogue"] == []
    after = {one["id"] for one in other.get("/v1/records?camera=w")["records"]}
    assert not before & after
    replayed = events(other, "/v1/events?after=0&camera=w")
    _, fields = next(one for one in replayed if one[0] == "event")
    assert int(fields["id"]) not in before
    replayed.close()
    other.json("DELETE", "/v1/cameras/w")
