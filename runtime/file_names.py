"""Names of the files in a bundle, and which paths may name one."""

from __future__ import annotations

MANIFEST_FILE = "manifest.json"
HASH_FILE = "manifest.json.sha256"
GOLDEN_FILE = "golden.npz"


def path_is_plain(path: str) -> bool:
    """Whether a path stays in its folder: no `..`, no root, no drive, nothing unprintable."""
    parts = path.split("/")
    is_inside = all(parts) and not {".", ".."} & set(parts)
    return is_inside and path.isprintable() and not {"\\", ":"} & set(path)
