"""Checkpoints by folder and by Hub id, without the network: a cache as the Hub lays it out."""

from __future__ import annotations

import errno
import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest

from edgestream.edge.cli import main
from edgestream.export.hub_folder import TAKEN_OVER
from edgestream.models.families import load_checkpoint
from edgestream.models.hub import checkpoint_folder
from edgestream.runtime.errors import CheckpointMissing, OutputUnwritable

from ..hub_checkpoints import in_hub_cache
from .test_smolvlm import tiny_folder

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture(scope="module")
def cached(tmp_path_factory):
    """(cache, snapshot) of acme/tiny-smolvlm."""
    work = tmp_path_factory.mktemp("hub")
    folder, _ = tiny_folder(work / "made")
    return work / "cache", in_hub_cache(folder, work / "cache", "acme/tiny-smolvlm", COMMIT)


@pytest.fixture
def hub_cache(cached, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(cached[0]))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    return cached[1]


def test_a_folder_is_taken_as_it_is(tmp_path, hub_cache, monkeypatch):
    assert checkpoint_folder(str(tmp_path)) == tmp_path
    (tmp_path / "acme" / "tiny-smolvlm").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert str(checkpoint_folder("acme/tiny-smolvlm")) == "acme/tiny-smolvlm"


@pytest.mark.parametrize("revision", ["", "@main", f"@{COMMIT}"])
def test_a_hub_id_is_its_snapshot_in_the_cache(hub_cache, revision):
    folder = checkpoint_folder(f"acme/tiny-smolvlm{revision}")
    assert folder == hub_cache
    source = load_checkpoint(folder).source
    assert (source.checkpoint, source.revision) == ("acme/tiny-smolvlm", COMMIT)


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("acme/other", "no folder acme/other, and the model of that id is not in the Hub's cache"),
        ("acme/tiny-smolvlm@v9", "the model of that id at v9 is not in the Hub's cache"),
        ("nothing-here", "there is no checkpoint folder nothing-here"),
        ("./acme/other", "there is no checkpoint folder ./acme/other"),
        ("/none/of/these", "there is no checkpoint folder /none/of/these"),
    ],
)
def test_what_is_nowhere_is_one_sentence(hub_cache, source, said):
    with pytest.raises(CheckpointMissing) as caught:
        checkpoint_folder(source)
    assert said in caught.value.message and "\n" not in caught.value.message
    assert caught.value.hint and caught.value.exit_code == 3


@pytest.mark.parametrize(
    ("fault", "kind", "said"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), OutputUnwritable, "No space left"),
        (RuntimeError("peer closed connection"), CheckpointMissing, "cannot be downloaded now"),
    ],
)
def test_a_full_disk_and_a_network_that_breaks_are_told_apart(monkeypatch, fault, kind, said):
    def broken(*_: object, **__: object) -> str:
        raise fault

    monkeypatch.setattr("huggingface_hub.snapshot_download", broken)
    with pytest.raises(kind) as caught:
        checkpoint_folder("acme/other")
    assert said in caught.value.message and caught.value.hint


@pytest.fixture
def loopback_hub(cached, tmp_path, monkeypatch):
    """Paths that a Hub on the loopback was asked for; it serves acme/tiny-smolvlm."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self):
            self._answer(b"")

        def do_GET(self):
            self._answer(None)

        def _answer(self, body):
            known, kind = self.path.startswith(("/api/models/", "/acme/")), "application/json"
            if "/tree/" in self.path:
                files = [(file.name, file.stat().st_size) for file in cached[1].iterdir()]
                told = [
                    {"type": "file", "path": name, "size": size, "oid": str(size)}
                    for name, size in files
                ]
                content = json.dumps(told).encode()
            elif "/resolve/" in self.path:
                asked.append(self.path.rpartition("/")[2])
                content, kind = (cached[1] / asked[-1]).read_bytes(), "application/octet-stream"
            else:
                content = json.dumps({"id": "acme/tiny-smolvlm", "sha": COMMIT}).encode()
            self.send_response(200 if known else 404)
            for name, value in (
                ("Content-Type", kind),
                ("Content-Length", len(content)),
                ("X-Repo-Commit", COMMIT),
                ("ETag", f'"{len(content)}"'),
            ):
                self.send_header(name, str(value))
            self.end_headers()
            self.wfile.write(content if body is None else body)

        def log_message(self, *words):
            """Nothing on stderr."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}"
        for name, value in (
            ("ENDPOINT", address),
            ("HF_HUB_OFFLINE", False),
            ("HUGGINGFACE_CO_URL_TEMPLATE", address + "/{repo_id}/resolve/{revision}/{filename}"),
            ("HF_HUB_CACHE", str(tmp_path / "cache")),
        ):
            monkeypatch.setattr(f"huggingface_hub.constants.{name}", value)
        yield asked
        server.shutdown()


@pytest.mark.medium
def test_of_what_describes_a_model_no_weights_are_downloaded(loopback_hub, cached):
    folder = checkpoint_folder("acme/tiny-smolvlm", TAKEN_OVER)
    there = {file.name for file in cached[1].iterdir()}
    assert {file.name for file in folder.iterdir()} == there & set(TAKEN_OVER)
    assert set(loopback_hub) <= set(TAKEN_OVER) and "model.safetensors" in there


@pytest.mark.slow
def test_the_command_takes_an_id_and_verifies_against_it(hub_cache, tmp_path, capsys):
    out = tmp_path / "bundle"
    chosen = ["--vision", "fp32", "--llm", "fp32", "--frame-px", "32", "--fps", "2"]
    assert main(["export", "acme/tiny-smolvlm", "--out", str(out), *chosen, "--json"]) == 0
    assert main(["verify", str(out), "--against", "acme/tiny-smolvlm"]) == 0
    assert f"checks against {COMMIT}" in capsys.readouterr().out
    again = ["export", "acme/tiny-smolvlm", "--out", str(tmp_path / "b"), "--tokens-per-frame"]
    assert main([*again, "7"]) == 2
    assert "1 at 16 px, 4 at 32 px" in capsys.readouterr().err
    out = ["--out", str(tmp_path / "b")]
    assert main(["export", "acme/tiny-smolvlm", *out, *chosen, "--capacity", "1000000"]) == 2
    assert "expected at most" in capsys.readouterr().err
    nowhere = ["--report", str(tmp_path / "none" / "r.html")]
    assert main(["export", "acme/tiny-smolvlm", *out, *chosen, *nowhere]) == 8
    assert "loading" not in capsys.readouterr().err, "told before anything is read"
    assert main(["export", "acme/none", "--out", str(tmp_path / "b")]) == 3
