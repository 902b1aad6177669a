"""Addresses of peers: what is refused, and that no refusal shows a secret."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgestream.edge.service.outward.addresses import (
    check_plain,
    checked_target,
    is_loopback,
    secret_from,
)
from edgestream.runtime.errors import SettingsInvalid


def target(url, allow_plain=False):
    return checked_target(url, allow_plain=allow_plain)


@pytest.mark.parametrize(
    ("url", "parts"),
    [
        ("https://example.org", (True, "example.org", 443, "/")),
        ("https://example.org:8443/a/b?c=d", (True, "example.org", 8443, "/a/b?c=d")),
        ("http://127.0.0.1:8123/api", (False, "127.0.0.1", 8123, "/api")),
        ("http://localhost/x", (False, "localhost", 80, "/x")),
        ("http://[::1]:9/x", (False, "::1", 9, "/x")),
        ("https://example.org?x=1", (True, "example.org", 443, "/?x=1")),
    ],
)
def test_an_address_has_its_parts(url, parts):
    found = target(url)
    assert (found.is_tls, found.host, found.port, found.path) == parts


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("ftp://example.org/private", "no web address"),
        ("file:///etc/passwd", "no web address"),
        ("example.org/private", "no web address"),
        ("https:///private", "no web address"),
        ("https://user:private@example.org/", "has a user"),
        ("https://private@example.org/", "has a user"),
        ("https://example.org/#private", "behind #"),
        ("https://example.org:99999/private", "cannot be read"),
        ("https://[::1/private", "cannot be read"),
        ("https://example.org/pri vate", "a space"),
        ("https://example.org/private\r\nX-Evil: 1", "a space"),
        ("https://exämple.org/private", "outside ASCII"),
        ("http://example.org/private", "in plain text"),
        ("http://192.168.1.5/private", "in plain text"),
        ("http://127.0.0.1.example.org/private", "in plain text"),
        ("http://localhost.example.org/private", "in plain text"),
    ],
)
def test_what_is_no_address_of_a_receiver_is_refused_without_showing_it(url, words):
    with pytest.raises(SettingsInvalid, match=words) as caught:
        target(url)
    assert "private" not in f"{caught.value.message} {caught.value.hint}"


def test_plain_text_leaves_the_machine_only_where_a_setting_allows_it():
    assert target("http://192.168.1.5/x", allow_plain=True).host == "192.168.1.5"
    check_plain("mqtt", "broker", is_tls=True, allow_plain=False)
    check_plain("mqtt", "127.0.0.5", is_tls=False, allow_plain=False)
    with pytest.raises(SettingsInvalid, match=r"\[mqtt\] sends to broker") as caught:
        check_plain("mqtt", "broker", is_tls=False, allow_plain=False)
    assert "mqtt.tls" in caught.value.hint and "mqtt.allow_plain" in caught.value.hint


def test_what_is_this_machine():
    assert all(map(is_loopback, ["localhost", "LOCALHOST", "127.0.0.1", "127.9.9.9", "::1"]))
    assert not any(map(is_loopback, ["", "0.0.0.0", "::", "10.0.0.1", "2130706433", "localhost."]))


@given(st.text())
def test_any_text_is_a_target_or_refused(text):
    try:
        found = target(text, allow_plain=True)
    except SettingsInvalid as error:
        assert error.code == "settings-invalid"
        return
    assert found.path.startswith("/") and found.host and 0 <= found.port <= 65535


def test_a_secret_is_a_file_of_enough_bytes(tmp_path):
    file = tmp_path / "secret"
    file.write_bytes(b"  0123456789abcdef\n")
    assert secret_from(str(file), "webhook.secret_file") == b"0123456789abcdef"
    file.write_bytes(b"0123\n")
    with pytest.raises(SettingsInvalid, match="holds 4 bytes, expected 16 to") as caught:
        secret_from(str(file), "webhook.secret_file", least_bytes=16)
    assert "0123" not in caught.value.message
    file.write_bytes(b"x" * 100_000)
    with pytest.raises(SettingsInvalid, match="bytes, expected 1 to 65536"):
        secret_from(str(file), "mqtt.password_file")
    with pytest.raises(SettingsInvalid, match=r"webhook\.secret_file: .*gone cannot be read: no s"):
        secret_from(str(tmp_path / "gone"), "webhook.secret_file")
