"""`edgestream inspect`: what is in a bundle."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from ..terminal import columns_of

BundleFolder = Annotated[
    Path, typer.Argument(metavar="BUNDLE", help="The folder that `edgestream export` wrote.")
]


def inspect(
    bundle: BundleFolder,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on one line.")] = False,
) -> None:
    """Show what is in BUNDLE: its model, parts, sizes, memory and proof.

    Only the manifest is checked against its hash; `verify` checks every file.
    """
    from ...runtime.bundle import open_bundle
    from ..bundle_text import inspection_lines

    opened = open_bundle(bundle, check="manifest")
    if as_json:
        told = {"bundle_sha256": opened.sha256, "bytes": opened.n_bytes}
        print(json.dumps({**told, "manifest": opened.manifest.as_json()}))
        return
    print("\n".join(inspection_lines(opened, columns_of(sys.stdout))))
