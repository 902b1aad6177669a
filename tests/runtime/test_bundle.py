"""Opening a bundle: one flipped byte anywhere is refused, and so is whatever does not belong."""

from __future__ import annotations

import hashlib
import json
import os
import shutil

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgestream.runtime.bundle import Bundle, hash_line, open_bundle, sha256_of_file
from edgestream.runtime.errors import (
    BundleError,
    BundleFileRefused,
    BundleMissing,
    FormatTooNew,
    HashMismatch,
    ManifestInvalid,
    VariantMissing,
)

from ..bundles import DIM, VOCABULARY, random_array, write_small_bundle


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return write_small_bundle(tmp_path_factory.mktemp("whole") / "small")


@pytest.fixture
def bundle(whole, tmp_path):
    return shutil.copytree(whole, tmp_path / "small")


def names_in(folder):
    return sorted(
        path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()
    )


def rewrite(folder, change):
    """Change the manifest and make its hash right again."""
    path = folder / "manifest.json"
    value = json.loads(path.read_bytes())
    change(value)
    content = json.dumps(value).encode()
    path.write_bytes(content)
    (folder / "manifest.json.sha256").write_bytes(hash_line(hashlib.sha256(content).hexdigest()))


def test_what_was_written_is_opened(whole):
    opened = open_bundle(whole)
    assert isinstance(opened, Bundle) and opened.is_checked
    assert opened.sha256 == hashlib.sha256((whole / "manifest.json").read_bytes()).hexdigest()
    assert opened.n_bytes == sum((whole / name).stat().st_size for name in opened.manifest.files)
    assert set(names_in(whole)) == {*opened.manifest.files, "manifest.json", "manifest.json.sha256"}


def test_the_hash_file_is_one_that_sha256sum_reads(whole):
    digest, name = (whole / "manifest.json.sha256").read_text().split()
    assert name == "manifest.json" and digest == sha256_of_file(whole / "manifest.json")


def test_embeddings_are_mapped_and_read_only(whole):
    table = open_bundle(whole).embeddings()
    assert isinstance(table, np.memmap) and table.shape == (VOCABULARY, DIM)
    assert np.array_equal(table, random_array(11, VOCABULARY, DIM).astype(np.float16))
    with pytest.raises(ValueError):
        table[0, 0] = 1


def test_rows_are_as_wide_as_the_manifest_says(bundle):
    rewrite(bundle, lambda value: value["embeddings"].update(width=3 * DIM))
    opened = open_bundle(bundle)
    rows = opened.token_rows()
    assert (rows.hidden, rows.width) == (DIM, 3 * DIM)
    assert np.array_equal(rows([3])[0, :DIM], opened.embeddings()[3].astype(np.float32))


@pytest.mark.medium
@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_one_flipped_bit_in_any_file_is_refused(whole, data):
    name = data.draw(st.sampled_from([n for n in names_in(whole) if (whole / n).stat().st_size]))
    path = whole / name
    content = path.read_bytes()
    place = data.draw(st.integers(0, len(content) * 8 - 1))
    flipped = bytearray(content)
    flipped[place // 8] ^= 1 << place % 8
    try:
        path.write_bytes(flipped)
        with pytest.raises(HashMismatch) as fault:
            open_bundle(whole)
    finally:
        path.write_bytes(content)
    guarded = "manifest.json" if name == "manifest.json.sha256" else name
    assert f"/{guarded}: got " in fault.value.message
    assert fault.value.exit_code == 3 and fault.value.code == "bundle-hash-mismatch"


def test_one_byte_in_every_file_by_name(bundle):
    for name in names_in(bundle):
        content = (bundle / name).read_bytes()
        (bundle / name).write_bytes(content + b"\0")
        with pytest.raises(HashMismatch):
            open_bundle(bundle)
        (bundle / name).write_bytes(content)
    assert open_bundle(bundle).is_checked


def test_a_missing_file_is_named(bundle):
    for name in sorted(open_bundle(bundle).manifest.files):
        content = (bundle / name).read_bytes()
        (bundle / name).unlink()
        with pytest.raises(BundleFileRefused, match=f"small/{name} is missing"):
            open_bundle(bundle)
        (bundle / name).write_bytes(content)


@pytest.mark.parametrize("name", ["notes.txt", "adapters/more.onnx_adapter", "decoder.onnx.data"])
def test_a_file_that_is_not_listed_is_named(bundle, name):
    (bundle / name).write_bytes(b"")
    with pytest.raises(BundleFileRefused, match=f"small/{name} is not listed"):
        open_bundle(bundle)


def test_a_link_is_refused_wherever_it_leads(bundle, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    shutil.move(bundle / "vision.onnx", elsewhere)
    (bundle / "vision.onnx").symlink_to(elsewhere)
    with pytest.raises(BundleFileRefused, match=r"vision\.onnx is reached through a link"):
        open_bundle(bundle)
    (bundle / "vision.onnx").unlink()
    shutil.move(elsewhere, bundle / "vision.onnx")
    shutil.move(bundle / "adapters", elsewhere)
    (bundle / "adapters").symlink_to(elsewhere)
    with pytest.raises(BundleFileRefused, match="is reached through a link"):
        open_bundle(bundle)


@pytest.mark.parametrize("check", ["all", "manifest"])
def test_a_listed_file_behind_a_link_is_never_read(check, bundle, tmp_path):
    (bundle / "vision.onnx").rename(tmp_path / "elsewhere.onnx")
    (bundle / "vision.onnx").symlink_to(tmp_path / "elsewhere.onnx")
    with pytest.raises(BundleFileRefused, match="is reached through a link"):
        open_bundle(bundle, check=check)


def test_a_linked_folder_that_is_not_listed_is_refused(bundle, tmp_path):
    (bundle / "more").symlink_to(tmp_path)
    with pytest.raises(BundleFileRefused, match="small/more is not listed"):
        open_bundle(bundle)


def test_a_wrong_size_in_the_manifest_is_named(bundle):
    rewrite(bundle, lambda value: value["files"]["parity.json"].update(bytes=1))
    with pytest.raises(HashMismatch, match=r"parity\.json: got \d+ bytes, expected 1"):
        open_bundle(bundle)


def test_the_folder_itself_may_be_a_link(bundle, tmp_path):
    (tmp_path / "latest").symlink_to(bundle)
    assert open_bundle(tmp_path / "latest").is_checked


@pytest.mark.parametrize("name", ["gate.onnx", "manifest.json", "manifest.json.sha256"])
def test_a_pipe_in_place_of_a_file_does_not_hang(bundle, name):
    (bundle / name).unlink()
    os.mkfifo(bundle / name)
    with pytest.raises(BundleFileRefused, match="is no plain file"):
        open_bundle(bundle)


def test_a_file_that_leads_out_is_refused(bundle):
    facts = {"sha256": "0" * 64, "bytes": 1}
    rewrite(bundle, lambda value: value["files"].update({"../../etc/passwd": facts}))
    with pytest.raises(ManifestInvalid, match="stay in the bundle"):
        open_bundle(bundle)


def test_there_is_no_bundle(tmp_path):
    for place, why in (
        ("none", "no such folder"),
        ("file", "no folder"),
        ("empty", "manifest.json"),
    ):
        (tmp_path / "file").write_text("")
        (tmp_path / "empty").mkdir(exist_ok=True)
        with pytest.raises(BundleMissing, match=why):
            open_bundle(tmp_path / place)


@pytest.mark.parametrize(
    "content", [b"", b"{", b"\xff\xfe", b"[" * 100_000, b'{"format": NaN}', b'"text"', b"null"]
)
def test_a_manifest_that_is_none(bundle, content):
    (bundle / "manifest.json").write_bytes(content)
    digest = hashlib.sha256(content).hexdigest()
    (bundle / "manifest.json.sha256").write_bytes(hash_line(digest))
    with pytest.raises(ManifestInvalid):
        open_bundle(bundle)


def test_a_newer_format_says_so(bundle):
    rewrite(bundle, lambda value: value.update(format=2))
    with pytest.raises(FormatTooNew):
        open_bundle(bundle)


def test_an_embedding_table_has_the_size_of_its_shape(bundle):
    rewrite(bundle, lambda value: value["embeddings"].update(shape=[VOCABULARY, DIM + 1]))
    with pytest.raises(ManifestInvalid, match=r"embeddings\.bin has 256 bytes, expected 288"):
        open_bundle(bundle)


def test_checking_the_manifest_alone_reads_nothing_else(bundle):
    (bundle / "vision.onnx").write_bytes(b"changed")
    opened = open_bundle(bundle, check="manifest")
    assert not opened.is_checked and opened.manifest.name == "small"
    (bundle / "manifest.json.sha256").unlink()
    with pytest.raises(BundleFileRefused, match="sha256 is missing"):
        open_bundle(bundle, check="manifest")


def test_only_proven_variants_are_used(bundle):
    def add(value):
        variants = value["parts"][-1]["variants"]
        variants.append(
            {**variants[0], "id": "cuda", "provider": "cuda", "proof": "pending-device"}
        )
        variants.append({**variants[0], "id": "cpu-2"})

    rewrite(bundle, add)
    opened = open_bundle(bundle)
    assert opened.variant("decoder").id == "cpu"
    assert opened.variant("decoder", variant_id="cpu-2").id == "cpu-2"
    with pytest.raises(VariantMissing, match=r"cuda \(cuda, pending-device\).*proven .* cuda"):
        opened.variant("decoder", "cuda")
    with pytest.raises(VariantMissing, match="got none for the part indexer"):
        opened.variant("indexer")


def test_progress_ends_at_the_whole(whole):
    told = []
    opened = open_bundle(whole, on_bytes=lambda done, total: told.append((done, total)))
    assert told[-1] == (opened.n_bytes, opened.n_bytes)
    assert [done for done, _ in told] == sorted(done for done, _ in told)


def test_an_unlisted_path_is_not_given(whole):
    with pytest.raises(BundleError):
        open_bundle(whole).path("../secret")
