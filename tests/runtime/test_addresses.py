"""Addresses: no part of a user name or password is ever shown, also of odd and wrong ones."""

from __future__ import annotations

from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgestream.runtime.addresses import (
    camera_name,
    check_network_address,
    options_in,
    redacted,
    without_secrets,
)
from edgestream.runtime.errors import SettingsInvalid

ODD = [
    "p@ss",
    "a:b",
    "a/b@c/d",
    "what?now",
    "100%",
    "#1",
    "x&y=z",
    " sp ace ",
    "päß",
    "[v6]",
    "=@=",
]


@pytest.mark.parametrize("password", ["Tr0ub4dor", *ODD])
@pytest.mark.parametrize("scheme", ["rtsp", "rtsps", "http", "https", "RTSP", "rtmp"])
def test_an_encoded_password_is_left_out(scheme, password):
    address = f"{scheme}://admin:{quote(password, safe='')}@10.0.0.5:554/live/ch0"
    assert redacted(address) == f"{scheme}://10.0.0.5:554/live/ch0"
    assert camera_name(address) == "10.0.0.5/live/ch0"
    check_network_address(address)


SECRET = st.text("SECRT@:/?#%&=.[] ", min_size=1).map(lambda text: f"QZX{text}QZX")


@given(SECRET, st.sampled_from(["", "user:"]), st.sampled_from(["rtsp", "http"]))
def test_a_raw_password_of_any_letters_is_left_out(password, user, scheme):
    """Wrong as an address, and still nobody may read the password."""
    address = f"{scheme}://{user}{password}@door.local/stream1"
    assert "QZX" not in redacted(address) + camera_name(address)


@given(SECRET)
def test_what_an_error_says_of_the_address_hides_its_password(password):
    for address in (
        f"rtsp://user:{quote(password, safe='')}@door/1",
        f"rtsp://user:{password}@d/1",
    ):
        try:
            check_network_address(address)
        except SettingsInvalid as error:
            assert "QZX" not in str(error) + str(error.hint)
        assert "QZX" not in without_secrets(f"cannot open {password} there", address)


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("http://cam/video.cgi?user=admin&pwd=s3cret&resolution=640x480",
         "http://cam/video.cgi?user=***&pwd=***&resolution=640x480"),
        ("rtsp://u:p@cam/cam/realmonitor?channel=1&subtype=0",
         "rtsp://cam/cam/realmonitor?channel=1&subtype=0"),
        ("http://cam/x?channel=secret-longer-than-a-number", "http://cam/x?channel=***"),
        ("http://cam/x?c2VjcmV0", "http://cam/x?***"),
        ("rtsp://cam:554/user=admin_password=tlJwpbo6_channel=1_stream=0.sdp?real_stream",
         "rtsp://cam:554/***?***"),
        ("http://cam/v?mail=me@example.com&token=abc", "http://***"),
        ("rtsp:/u:pa55@cam/1", "rtsp:/cam/1"),
        ("rtsp:u:pa55@cam/1", "rtsp:cam/1"),
        ("rtsp://[fe80::1]:554/1", "rtsp://[fe80::1]:554/1"),
        ("/home/me@work/clip: 1.mp4", "/home/me@work/clip: 1.mp4"),
        ("clip.mp4", "clip.mp4"),
        ("loop:/home/me@work/clip.mp4", "loop:/home/me@work/clip.mp4"),
        ("v4l2:/dev/video0?size=640x480", "v4l2:/dev/video0?size=640x480"),
        ("gst:rtspsrc location=rtsp://u:pa55@cam/1 user-id=admin user-pw='a b' ! decodebin",
         "gst:rtspsrc location=rtsp://cam/1 user-id=*** user-pw=*** ! decodebin"),
        ('gst:souphttpsrc location="http://u:p a@cam/1" ! jpegdec',
         'gst:souphttpsrc location="http://cam/1" ! jpegdec'),
    ],
)  # fmt: skip
def test_what_is_shown_of_an_address(address, shown):
    assert redacted(address) == shown
    assert redacted(shown) == shown


@pytest.mark.parametrize(
    ("address", "name"),
    [
        ("rtsp://u:p@door:554/stream1?x=y", "door/stream1"),
        ("rtsp://door", "door"),
        ("http://[::1]:80/a//b/", "[::1]/a/b"),
        ("rtsp://cam/user=admin_password=x_channel=1.sdp", "cam"),
        ("rtsp://cam/" + "x" * 200, "cam/" + "x" * 76),
    ],
)
def test_a_name_is_host_and_path(address, name):
    assert camera_name(address) == name


@pytest.mark.parametrize(
    "address",
    [
        "rtsp://",
        "rtsp:///1",
        "rtsp://u:p@/1",
        "rtsp://u:pa/ss@h/1",
        "http://h:port/",
        "rtsp://a b/",
    ],
)
def test_an_address_without_a_host_is_refused_at_once(address):
    with pytest.raises(SettingsInvalid, match="expected a host") as caught:
        check_network_address(address)
    assert "%2F" in caught.value.hint


def test_options_are_checked():
    allowed = {"size": r"\d+x\d+", "fps": r"\d+"}
    assert options_in("v4l2:/dev/video0?size=64x48&fps=30", "v4l2:", allowed) == (
        "/dev/video0",
        {"size": "64x48", "fps": "30"},
    )
    assert options_in("screen:", "screen:", allowed) == ("", {})
    for wrong in ("?sise=64x48", "?size=64", "?", "?fps=1&fps=2", "?fps=1;rm"):
        with pytest.raises(SettingsInvalid, match="size= "):
            options_in("v4l2:/dev/video0" + wrong, "v4l2:", allowed)
