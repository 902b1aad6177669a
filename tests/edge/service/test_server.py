"""`edgestream serve` as a process: start, signals, restart, TLS, what it shares between cameras."""

from __future__ import annotations

import json
import shutil
import signal
import socket
import ssl
import stat
import subprocess
import time
import urllib.request

import pytest

from edgestream.edge.cli import main
from edgestream.edge.service.choice import cameras_from_words, name_from_address
from edgestream.runtime.errors import UsageError

from .serving import BUNDLE, CLIP, in_thread, serving, until

LOOP = f"loop:{CLIP}"


def rss_bytes(service):
    text = service.ask("GET", "/metrics")[2].decode()
    (line,) = [one for one in text.splitlines() if one.startswith("edgestream_resident_bytes ")]
    return float(line.split()[1])


def test_a_port_that_is_taken_is_said_before_anything_takes_long(capsys):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert main(["serve", "--bundle", str(BUNDLE), "--port", str(port)]) == 7
    message = capsys.readouterr().err
    assert f"error[address-taken]: cannot listen on 127.0.0.1, port {port}" in message
    assert "--port" in message and "opening" not in message


def test_without_a_bundle_it_says_so(capsys):
    assert main(["serve", "x=test:pans"]) == 2
    assert "--bundle" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["a=test:pans", "a=test:pans"], 2),
        (["--set", 'service.cameras={"a/b" = "test:pans"}'], 2),
        (["--set", "service.budget_mb=1"], 2),
        (["--set", "service.max_cameras=1", "a=test:pans", "b=test:pans"], 7),
        (["--tls-cert", "/nowhere/cert.pem"], 2),
        (["--state", "/proc/nowhere"], 8),
    ],
)
def test_what_cannot_be_is_refused_at_the_start(words, code, capsys):
    assert main(["serve", "--bundle", str(BUNDLE), "--port", "0", *words]) == code
    assert capsys.readouterr().err.count("try: ") == 1


@pytest.mark.medium
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_a_signal_ends_it_with_its_last_words(tmp_path, number, code):
    with serving(f"door={LOOP}", "--state", str(tmp_path)) as service:
        until(lambda: service.get("/v1/cameras/door/trace")["frames"])
        assert service.stop(number) == code
    assert (tmp_path / "door" / "1" / "snapshot.json").is_file()


@pytest.mark.medium
def test_listeners_do_not_hold_it_up(tmp_path):
    from .serving import events

    with serving(f"door={LOOP}") as service:
        streams = [events(service), events(service)]
        for stream in streams:
            next(stream)
        begun_s = time.monotonic()
        assert service.stop() == 0
        assert time.monotonic() - begun_s < 30
        for stream in streams:
            list(stream)  # they end


@pytest.mark.medium
def test_after_a_kill_it_remembers_what_it_saw_and_said(tmp_path):
    allowed = 'service.allow_addresses=["test:*"]'
    words = ("--state", str(tmp_path), "--set", "memory.snapshot_every_s=0.5", "--set", allowed)
    with serving(f"door={LOOP}", *words) as service:
        assert service.json("POST", "/v1/cameras", {"name": "t", "address": "test:pans"})[0] == 201
        request = service.json("POST", "/v1/standing", {"text": "Tell me when it gets dark"})[1]
        assert service.chat("What do you see?", camera="door")[0] == 200

        def is_saved():
            found = [*(tmp_path / "door").glob("[0-9]*/snapshot.json")]
            return len(found) and json.loads(max(found).read_text())["clock_s"] > 2

        until(is_saved)
        before = service.get("/v1/cameras/door/memory")
        last = service.get("/v1/records?limit=1")["records"][-1]["id"]
        service.process.kill()
        service.process.wait()
    assert stat.S_IMODE((tmp_path / "cameras.json").stat().st_mode) == 0o600
    with serving(f"door={LOOP}", *words) as service:
        after = service.get("/v1/cameras/door/memory")
        assert [one["question"] for one in after["dialogue"]] == ["What do you see?"]
        assert after["dialogue"] == before["dialogue"]
        assert after["key_frames"][0] == {
            **before["key_frames"][0],
            **{
                name: after["key_frames"][0][name] for name in ("covers", "wall", "used_by", "said")
            },
        }
        rebased = service.get("/v1/records?camera=door&types=camera")["records"]
        assert "rebased" in [one["state"] for one in rebased]
        assert {row["name"] for row in service.get("/v1/cameras")["cameras"]} == {"door", "t"}
        assert [one["request_id"] for one in service.get("/v1/standing")["requests"]] == [
            request["request_id"]
        ]
        assert service.get("/v1/records?limit=1")["records"][-1]["id"] > last
        assert service.json("DELETE", "/v1/cameras/t")[0] == 204
    assert json.loads((tmp_path / "cameras.json").read_text()) == {"cameras": {}}


@pytest.mark.medium
def test_a_fault_of_one_camera_leaves_the_others(tmp_path):
    with serving("good=test:pans", "bad=/nowhere.mp4", waits=False) as service:
        until(lambda: service.state("bad") == "failed")
        until(lambda: service.state("good") == "open")
        status, ready = service.json("GET", "/ready")
        assert status == 503 and ready == {
            "ready": False,
            "cameras": {"good": "open", "bad": "failed"},
        }
        assert service.chat("What do you see?", camera="good")[0] == 200
        status, value = service.chat("What do you see?", camera="bad")
        assert status == 409 and "source-missing" in value["error"]["message"]


@pytest.mark.medium
def test_cameras_share_one_set_of_engines():
    """Each part is opened once, and everybody runs on it: two cameras and the guest."""
    with in_thread() as (service, _):
        pool = service.board.shared.pool
        for name in ("one", "two"):
            service.board.add(name, "test:pans")
        until(lambda: all(camera.trace.since(0)[1] for camera in service.board.all()))
        opened = pool._opened
        assert sorted(role for role, _ in opened) == sorted(
            ["connector", "decoder", "evict", "gate", "vision"]
        )
        assert {key: one.users for key, one in opened.items()} == dict.fromkeys(opened, 3)
        models = [camera.run.stages.session._session.model for camera in service.board.all()]
        assert models[0].arena is not models[1].arena
        assert models[0].arena.n_bytes <= service.board.shared.shares.arena
        service.board.remove("one")
        assert {one.users for one in opened.values()} == {2}


@pytest.mark.slow
def test_a_further_camera_costs_no_further_engines():
    """Decoding its file and a small memory: a quarter of what a process starts with."""
    allowed = f'service.allow_addresses=["{CLIP}"]'
    with serving(f"one={CLIP}", "--set", allowed, "--set", "service.max_cameras=8") as service:
        until(lambda: service.get("/v1/cameras/one/trace")["frames"])
        before = rss_bytes(service)
        for name in ("two", "three", "four", "five"):
            body = {"name": name, "address": str(CLIP)}
            assert service.json("POST", "/v1/cameras", body)[0] == 201
            until(lambda name=name: service.get(f"/v1/cameras/{name}/trace")["frames"])
        assert service.chat("What do you see?", camera="five")[0] == 200
        assert (rss_bytes(service) - before) / 4 < before / 4


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """A certificate for this machine that it signed itself."""
    if shutil.which("openssl") is None:
        pytest.skip("no openssl here to make a certificate with")
    folder = tmp_path_factory.mktemp("tls")
    command = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost"
    names = ["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    files = ["-keyout", folder / "key.pem", "-out", folder / "cert.pem"]
    subprocess.run([*command.split(), *names, *files], check=True, capture_output=True)
    return folder / "cert.pem", folder / "key.pem"


@pytest.mark.medium
def test_over_tls_it_is_who_it_says_and_cookies_stay_there(certificate, tmp_path):
    cert, key = certificate
    (tmp_path / "key").write_text("k" * 32)
    words = ("--tls-cert", str(cert), "--tls-key", str(key), "--api-key-file", f"{tmp_path}/key")
    with serving(f"door={LOOP}", *words, waits=False) as service:
        assert service.url.startswith("https://")
        context = ssl.create_default_context(cafile=str(cert))
        with urllib.request.urlopen(f"{service.url}/health", context=context) as answer:
            assert answer.status == 200
        body = json.dumps({"key": "k" * 32}).encode()
        request = urllib.request.Request(
            f"{service.url}/v1/session", body, {"content-type": "application/json"}
        )
        with urllib.request.urlopen(request, context=context) as answer:
            assert "; Secure" in answer.headers["set-cookie"]
        with pytest.raises(OSError):
            service.ask("GET", "/health")  # plain http


@pytest.mark.medium
def test_a_request_is_a_line_of_json_without_its_query():
    with serving("--log-json", waits=False) as service:
        service.ask("GET", "/v1/records?camera=secret-camera")
        service.ask("GET", "/nothing/%C3%A4%0a%ff")
        service.stop()
    lines = [json.loads(line) for line in service.errors if line.startswith("{")]
    assert [(one["method"], one["path"], one["status"]) for one in lines[:1]] == [
        ("GET", "/v1/records", 200)
    ]
    assert all(one["client"] == "127.0.0.1" and one["ms"] >= 0 for one in lines)
    assert "secret-camera" not in "".join(service.errors)


@pytest.mark.medium
def test_passwords_of_cameras_are_told_to_nobody(tmp_path):
    address = "rtsp://admin:hunter2hunter2@127.0.0.1:9/stream"
    with serving(f"door={address}", "--state", str(tmp_path), waits=False) as service:
        until(lambda: service.state("door") in ("connecting", "lost", "failed"))
        told = [
            service.ask("GET", path)[2].decode()
            for path in ("/v1/cameras", "/v1/records", "/metrics", "/ready")
        ]
        service.stop()
        told += service.errors
    assert "hunter2" not in "".join(told)
    assert "127.0.0.1:9/stream" in told[0]


def test_words_name_cameras():
    assert cameras_from_words(["door=rtsp://u:p@h/x?a=b", "/clips/My clip.mp4", "test:pans"]) == {
        "door": "rtsp://u:p@h/x?a=b",
        "My-clip": "/clips/My clip.mp4",
        "test-pans": "test:pans",
    }
    assert name_from_address("rtsp://user:secret@10.0.0.5:554/main") == "10-0-0-5"
    assert name_from_address("///") == "camera"
    with pytest.raises(UsageError, match="two cameras"):
        cameras_from_words(["clip.mp4", "other/clip.avi"])
    with pytest.raises(UsageError, match="camera name 'front door'"):
        cameras_from_words(["front door=rtsp://h/x"])
    assert cameras_from_words(["rtsp://h/x?a=b"]) == {"h": "rtsp://h/x?a=b"}


@pytest.mark.medium
def test_a_state_folder_serves_one_service(tmp_path, capfd):
    words = ["serve", "--bundle", str(BUNDLE), "--port", "0", "--state", str(tmp_path / "state")]
    with serving(LOOP, "--state", str(tmp_path / "state")) as service:
        assert main(words) == 8
        assert "in use by another run" in capfd.readouterr().err
        assert service.get("/health")["status"] == "ok"
    assert service.process.returncode == 0


@pytest.mark.medium
def test_a_zone_of_no_camera_is_told():
    with serving(f"door={LOOP}", "--set", "privacy.zones.dor=0,0 1,1") as service:
        until(lambda: any("privacy.zones names dor" in line for line in service.errors))
        until(lambda: any("cameras: door" in line for line in service.errors))


@pytest.mark.medium
def test_a_file_of_no_name_and_messages_of_the_wrong_kind_are_refused(tmp_path):
    from websockets.exceptions import ConnectionClosed
    from websockets.sync.client import connect

    with serving(f"door={LOOP}") as service:
        assert service.ask("GET", "/web/%00")[0] == 404
        with connect(service.url.replace("http", "ws") + "/v1/stream") as socket:
            socket.send(b"bytes")
            with pytest.raises(ConnectionClosed) as closed:
                while True:
                    socket.recv(timeout=30)
        assert closed.value.rcvd.code == 1003
        assert service.stop() == 0
        assert not any("Traceback" in line for line in service.errors)
