"""Which addresses a request may have opened: what looks like an allowed one is none."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgestream.edge.service.addresses import check_address, is_allowed
from edgestream.runtime.errors import AddressRefused

LAN = "rtsp://192.168.1.*"


@pytest.mark.parametrize(
    "address",
    [
        "rtsp://192.168.1.5/main",
        "rtsp://192.168.1.5:554/main?x=1",
        "RTSP://192.168.1.5",
        "rtsp://user:pass@192.168.1.77/main",
    ],
)
def test_a_pattern_of_a_host_allows_its_cameras(address):
    assert is_allowed(address, LAN)
    check_address(address, ["http://a", LAN])


@pytest.mark.parametrize(
    "address",
    [
        "rtsp://192.168.1.5@evil.example/main",
        "rtsp://192.168.1.5:pass@evil.example/main",
        "rtsp://192.168.1.@evil.example",
        "rtsp://192.168.2.5/",
        "rtsp://evil.example/192.168.1.5",
        "rtsp://evil.example#192.168.1.5",
        "rtsp://evil.example?192.168.1.5",
        "rtsp://evil.example\\@192.168.1.5/",
        "rtsp://evil.example\\192.168.1.5",
        "rtsp://192.168.1.5 @evil.example",
        "rtsp://a@192.168.1.5@evil.example/",
        "rtsp:/192.168.1.5",
        "rtsp:192.168.1.5",
        "rtsps://192.168.1.5",
        "http://192.168.1.5",
        "file:///etc/passwd",
        "/etc/passwd",
        "192.168.1.5",
        "",
    ],
)
def test_what_looks_like_it_is_refused(address):
    assert not is_allowed(address, LAN)
    with pytest.raises(AddressRefused):
        check_address(address, [LAN])


@pytest.mark.parametrize(
    ("address", "pattern", "is_in"),
    [
        ("rtsp://cam:554/a", "rtsp://cam:554", True),
        ("rtsp://cam:22/a", "rtsp://cam:554", False),
        ("rtsp://cam/a", "rtsp://cam:554", False),
        ("http://cam/live/1.mjpg", "http://cam/live/*", True),
        ("http://cam/live/../admin", "http://cam/live/*", False),
        ("http://cam/live/%2e%2e/admin", "http://cam/live/*", False),
        ("http://cam/admin", "http://cam/live/*", False),
        ("rtsp://[fe80::1]:554/x", "rtsp://[fe80::*]", True),
        ("test:pans?seed=4", "test:*", True),
        ("v4l2:/dev/video0", "v4l2:/dev/video*", True),
        ("v4l2:/dev/video0/../../etc/passwd", "v4l2:/dev/video*", False),
        ("gst:filesrc location=/etc/passwd", "test:*", False),
        ("browser:", "nothing", False),
        ("rtsp://anything", "*", False),
    ],
)
def test_parts_are_compared_one_by_one(address, pattern, is_in):
    assert is_allowed(address, pattern) == is_in


def test_a_file_is_where_it_really_is(tmp_path):
    allowed, secret = tmp_path / "clips", tmp_path / "secret.mp4"
    allowed.mkdir()
    (allowed / "a.mp4").touch()
    secret.touch()
    (allowed / "link.mp4").symlink_to(secret)
    pattern = f"{allowed}/*.mp4"
    assert is_allowed(f"{allowed}/a.mp4", pattern)
    for address in (f"{allowed}/link.mp4", f"{allowed}/../secret.mp4", str(secret)):
        assert not is_allowed(address, pattern), address


def test_a_page_may_always_feed_a_camera():
    check_address("browser:", [])
    with pytest.raises(AddressRefused):
        check_address("browser:x", [])


@given(st.text(max_size=60))
def test_the_refusal_never_holds_the_address(address):
    try:
        check_address("rtsp://secret-user" + address, [LAN])
    except AddressRefused as fault:
        assert "secret-user" not in f"{fault.message}{fault.hint}"


@given(st.text(max_size=40), st.text(max_size=40))
def test_a_host_is_allowed_only_if_a_client_would_go_there(user, rest):
    """Whatever stands around it: where urllib reads a host, it is one that the pattern means."""
    from urllib.parse import urlsplit

    address = f"rtsp://{user}{rest}"
    if is_allowed(address, LAN):
        host = urlsplit(address).hostname
        assert host is not None and host.startswith("192.168.1.")
