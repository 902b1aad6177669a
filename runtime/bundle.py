"""Opening a bundle: nothing in it is used before its hashes have been found to be right."""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NoReturn

import numpy as np

from .errors import (
    BundleFileRefused,
    BundleMissing,
    HashMismatch,
    ManifestInvalid,
    VariantMissing,
)
from .file_names import HASH_FILE, MANIFEST_FILE
from .manifest import FileFacts, Manifest, Variant, manifest_from_json
from .token_rows import TokenRows

if TYPE_CHECKING:
    from numpy.typing import NDArray

CHUNK_BYTES = 1 << 20
LARGEST_MANIFEST_BYTES = 64 << 20
"""A manifest is some kilobytes; what is larger is none, and is not read into memory."""
_AGAIN = "export the bundle again, or copy it again from where it came"

Check = Literal["all", "manifest"]
Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True, eq=False)
class Bundle:
    """An opened bundle.

    Attributes:
        folder: where it lies.
        manifest: what it says of itself.
        sha256: of the manifest, and so of the whole bundle (`bundle_sha256`).
        is_checked: every file was hashed, not the manifest alone.
    """

    folder: Path
    manifest: Manifest
    sha256: str
    is_checked: bool

    @property
    def n_bytes(self) -> int:
        """Size of all files but the manifest and its hash, bytes."""
        return sum(facts.n_bytes for facts in self.manifest.files.values())

    def path(self, name: str) -> Path:
        """Where a listed file lies.

        Raises:
            BundleFileRefused: the manifest lists no such file.
        """
        if name not in self.manifest.files:
            raise BundleFileRefused(f"{self.folder.name} lists no file {name!r}")
        return self.folder / name

    def variant(
        self, role: str, provider: str = "cpu", *, variant_id: str | None = None
    ) -> Variant:
        """The first variant of a part that is proven for a provider.

        Args:
            role: of the part, for example `decoder`.
            provider: that shall run it.
            variant_id: this very variant; None for the first.

        Raises:
            VariantMissing: there is none; the message lists those there are.
        """
        part = self.manifest.part(role)
        variants = part.variants if part is not None else ()
        for one in variants:
            if one.provider == provider and one.is_proven and variant_id in (None, one.id):
                return one
        there = ", ".join(f"{one.id} ({one.provider}, {one.proof})" for one in variants) or "none"
        wanted = f"variant {variant_id!r}" if variant_id is not None else "variant"
        raise VariantMissing(
            f"{self.folder.name}: got {there} for the part {role}, "
            f"expected a proven {wanted} for {provider}",
            hint="`edgestream inspect` shows what a bundle holds; `export --target` adds variants",
        )

    def embeddings(self) -> NDArray[Any]:
        """The table of token embeddings, (vocabulary, dim), read-only and mapped, not read.

        Raises:
            BundleFileRefused: the bundle has none.
        """
        facts = self.manifest.embeddings
        if facts is None:
            raise BundleFileRefused(f"{self.folder.name} has no token embeddings")
        dtype = np.dtype(facts.dtype)
        return np.memmap(self.path(facts.file), dtype, mode="r", shape=facts.shape)

    def token_rows(self) -> TokenRows:
        """Token ids in, rows out, as wide as the decoder reads them; see `embeddings`."""
        table, facts = self.embeddings(), self.manifest.embeddings
        assert facts is not None
        return TokenRows(table, facts.row_width)


def open_bundle(
    folder: Path | str, *, check: Check = "all", on_bytes: Progress | None = None
) -> Bundle:
    """The bundle in a folder, after its hashes have been checked.

    Args:
        folder: of the bundle.
        check: `all` hashes every file and refuses missing, changed, unlisted and linked ones;
            `manifest` hashes the manifest alone, for who only wants to read it; links are refused.
        on_bytes: told (bytes hashed, bytes in all) about once per megabyte.

    Raises:
        BundleMissing: there is no bundle.
        HashMismatch: a file is not the one that was written; the message names it.
        BundleFileRefused: a file is missing, unlisted, a link, special, or cannot be read.
        FormatTooNew, ManifestInvalid: as `manifest_from_json` says.

    Cost: `all` reads every byte. Measured on files in memory: 800 MB/s with half of a core that has
    SHA instructions, so 0.2 s for a bundle of 160 MB; a slower disk or core takes longer.
    """
    place = Path(folder)
    if not (place / MANIFEST_FILE).exists():
        _refuse_missing(place)
    found = _bytes_of(place, MANIFEST_FILE)
    sha256 = hashlib.sha256(found).hexdigest()
    if _bytes_of(place, HASH_FILE) != hash_line(sha256):
        raise HashMismatch(
            f"{place.name}/{MANIFEST_FILE}: got SHA-256 {sha256}, expected the one in {HASH_FILE}",
            hint=_AGAIN,
        )
    manifest = manifest_from_json(_parsed(found))
    _check_embeddings(manifest)
    _refuse_links(place, manifest)
    if check == "all":
        _check_files(place, manifest, on_bytes)
    return Bundle(place, manifest, sha256, is_checked=check == "all")


def hash_line(sha256: str) -> bytes:
    """What `manifest.json.sha256` holds: a line that `sha256sum --check` reads."""
    return f"{sha256}  {MANIFEST_FILE}\n".encode()


def sha256_of_file(path: Path, on_bytes: Callable[[int], None] | None = None) -> str:
    """SHA-256 of a file, read in pieces of one megabyte; `on_bytes` is told the size of each."""
    digest = hashlib.sha256()
    with open(path, "rb", buffering=0) as file:
        while piece := file.read(CHUNK_BYTES):
            digest.update(piece)
            if on_bytes is not None:
                on_bytes(len(piece))
    return digest.hexdigest()


def files_in(folder: Path) -> Iterator[str]:
    """Paths of all that is no folder, sorted; links are named, not followed."""
    for root, folders, names in os.walk(folder):
        linked = [name for name in folders if os.path.islink(os.path.join(root, name))]
        folders[:] = sorted(set(folders) - set(linked))
        for name in sorted([*names, *linked]):
            yield Path(root, name).relative_to(folder).as_posix()


def _refuse_missing(place: Path) -> NoReturn:
    got = "there is no such folder"
    if place.is_dir():
        got = f"it has no {MANIFEST_FILE}"
    elif place.exists():
        got = "it is no folder"
    raise BundleMissing(
        f"got the bundle {str(place)!r}, but {got}",
        hint="give the folder that `edgestream export` wrote",
    )


def _bytes_of(folder: Path, name: str) -> bytes:
    path = folder / name
    status = _status(folder, name)
    if status.st_size > LARGEST_MANIFEST_BYTES:
        raise ManifestInvalid(f"{folder.name}/{name}: got {status.st_size} bytes, expected less")
    try:
        return path.read_bytes()
    except OSError as error:
        raise _unreadable(folder, name, error) from error


def _parsed(found: bytes) -> Any:
    def refuse(constant: str) -> NoReturn:
        raise ValueError(f"{constant} is no JSON")

    try:
        return json.loads(found, parse_constant=refuse)
    except (ValueError, RecursionError) as error:
        raise ManifestInvalid(f"{MANIFEST_FILE}: it is no JSON: {error}", hint=_AGAIN) from error


def _check_embeddings(manifest: Manifest) -> None:
    facts = manifest.embeddings
    if facts is None:
        return
    rows, dim = facts.shape
    expected = rows * dim * np.dtype(facts.dtype).itemsize
    got = manifest.files[facts.file].n_bytes
    if got != expected:
        raise ManifestInvalid(
            f"{MANIFEST_FILE}: {facts.file} has {got} bytes, "
            f"expected {expected} for {rows} x {dim} {facts.dtype}"
        )


def _check_files(folder: Path, manifest: Manifest, on_bytes: Progress | None) -> None:
    """Sizes and kinds of all files first, since that costs nothing; then every byte."""
    for name, facts in manifest.files.items():
        got = _status(folder, name).st_size
        if got != facts.n_bytes:
            raise _changed(folder, name, f"{got} bytes", f"{facts.n_bytes}")
    for name in files_in(folder):
        if name not in manifest.files and name not in (MANIFEST_FILE, HASH_FILE):
            raise BundleFileRefused(
                f"{folder.name}/{name} is not listed in {MANIFEST_FILE}",
                hint="move it out of the bundle",
            )
    total, done = sum(facts.n_bytes for facts in manifest.files.values()), 0

    def count(n_bytes: int) -> None:
        nonlocal done
        done += n_bytes
        if on_bytes is not None:
            on_bytes(done, total)

    for name, facts in manifest.files.items():
        _check_hash(folder, name, facts, count)


def _refuse_links(folder: Path, manifest: Manifest) -> None:
    """Nobody reads a file that a bundle lists outside of its folder."""
    for name in manifest.files:
        place = Path(name)
        if any(os.path.islink(folder / one) for one in (place, *list(place.parents)[:-1])):
            _status(folder, name)  # says so


def _check_hash(folder: Path, name: str, facts: FileFacts, count: Callable[[int], None]) -> None:
    try:
        got = sha256_of_file(folder / name, count)
    except OSError as error:
        raise _unreadable(folder, name, error) from error
    if got != facts.sha256:
        raise _changed(folder, name, f"SHA-256 {got}", facts.sha256)


def _status(folder: Path, name: str) -> os.stat_result:
    """Of a plain file that lies in the folder itself, reached through no link."""
    place = folder
    try:
        for part in Path(name).parts:
            place = place / part
            status = os.lstat(place)
            if stat.S_ISLNK(status.st_mode):
                raise BundleFileRefused(
                    f"{folder.name}/{name} is reached through a link, expected a file",
                    hint="copy the bundle with its links resolved (cp -rL)",
                )
    except (FileNotFoundError, NotADirectoryError) as error:
        raise BundleFileRefused(f"{folder.name}/{name} is missing", hint=_AGAIN) from error
    except OSError as error:
        raise _unreadable(folder, name, error) from error
    if not stat.S_ISREG(status.st_mode):
        raise BundleFileRefused(f"{folder.name}/{name} is no plain file")
    return status


def _changed(folder: Path, name: str, got: str, expected: str) -> HashMismatch:
    return HashMismatch(f"{folder.name}/{name}: got {got}, expected {expected}", hint=_AGAIN)


def _unreadable(folder: Path, name: str, error: OSError) -> BundleFileRefused:
    return BundleFileRefused(f"{folder.name}/{name} cannot be read: {error.strerror}")
