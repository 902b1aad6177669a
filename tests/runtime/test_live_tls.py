"""Cameras over TLS: a certificate that is not trusted is refused, one that is named is enough."""

from __future__ import annotations

import shutil
import ssl
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from edgestream.runtime.live_rules import LiveRules

from ..live_watching import QUICK, Watching, wait_no_readers
from ..rtsp_server import Clip, RtspServer, texture_clip


@pytest.fixture(scope="module")
def certificate(tmp_path_factory) -> Path:
    """A self-signed certificate for localhost, with its key beside it."""
    program = shutil.which("openssl")
    if program is None:
        pytest.skip("openssl is not installed: no certificate can be made")
    folder = tmp_path_factory.mktemp("tls")
    words = [
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-days",
        "2",
        "-subj",
        "/CN=localhost",
    ]
    words += ["-addext", "subjectAltName=DNS:localhost"]
    files = ["-keyout", str(folder / "key.pem"), "-out", str(folder / "camera.pem")]
    subprocess.run([program, *words, *files], check=True, capture_output=True)
    return folder / "camera.pem"


@pytest.fixture(scope="module")
def clip(tmp_path_factory) -> Clip:
    folder = tmp_path_factory.mktemp("clip")
    return texture_clip(folder / "texture.mp4", (160, 96), seconds=2, fps=20)


@pytest.fixture
def url(certificate, clip):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, certificate.with_name("key.pem"))
    with RtspServer(clip, tls=context, user="me:s3cretword") as server:
        yield server.url("me:s3cretword").replace("127.0.0.1", "localhost")
    wait_no_readers()


@pytest.mark.medium
def test_a_certificate_that_nobody_vouches_for_is_refused(url):
    with Watching(url) as watching:
        reason = watching.wait_state("lost")
    assert "live.tls_ca_file" in reason and "s3cretword" not in watching.text()
    assert not watching.given


@pytest.mark.medium
@pytest.mark.parametrize("how", ["named", "not asked"])
def test_a_certificate_that_is_named_or_not_asked_for(url, certificate, how):
    more = {"tls_ca_file": str(certificate)} if how == "named" else {"tls_verify": False}
    with Watching(url, rules=replace(QUICK, **more)) as watching:
        watching.wait_frames(2)
    assert watching.source.name == "localhost/live"


def test_a_certificate_of_another_host_is_refused(url, certificate):
    rules = replace(QUICK, tls_ca_file=str(certificate))
    with Watching(url.replace("localhost", "127.0.0.1"), rules=rules) as watching:
        watching.wait_state("lost")
        assert not watching.given


def test_a_file_of_certificates_that_is_not_there(tmp_path):
    rules = LiveRules(tls_ca_file=str(tmp_path / "none.pem"), backoff_s=0.1)
    with Watching("https://localhost:9/x", rules=rules) as watching:
        assert "there is no such file" in watching.wait_state("lost")
