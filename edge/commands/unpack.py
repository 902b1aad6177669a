"""`edgestream unpack`: take a bundle apart into plain ONNX files, to run it without EdgeStream."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from ..terminal import BOLD, GREEN, painted
from .inspect import BundleFolder


def unpack(
    bundle: BundleFolder,
    out: Annotated[
        Path, typer.Option("--out", metavar="DIR", help="Folder in the layout of the Hub.")
    ],
    checkpoint: Annotated[
        str | None,
        typer.Option(
            "--checkpoint",
            metavar="CHECKPOINT",
            help="What the bundle was exported from, a folder or owner/name on the Hub: its "
            "configs and chat template are taken over, its weights are not read.",
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace an older such folder.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on one line.")] = False,
) -> None:
    """Write BUNDLE as a folder of the Hub's layout: onnx/, configs, tokenizer, genai_config.json.

    onnxruntime, onnxruntime-genai and transformers.js run it without EdgeStream. Needs the package
    `onnx`, no PyTorch.
    """
    from ...runtime.bundle import open_bundle
    from ...runtime.errors import BackendMissing

    try:
        from ...export.hub_folder import TAKEN_OVER, unpack_bundle
    except ImportError as error:
        raise BackendMissing(
            f"unpack needs {error.name}, which is not installed here", hint="pip install onnx"
        ) from error
    opened = open_bundle(bundle)
    folder = None
    if checkpoint is not None:
        from ...models.hub import checkpoint_folder

        folder = checkpoint_folder(checkpoint, TAKEN_OVER)
    made = unpack_bundle(opened, out, folder, force=force)
    if as_json:
        print(json.dumps({"folder": str(out), "bytes": made.n_bytes, "files": made.files}))
        return
    written = painted("written", f"{BOLD};{GREEN}", sys.stdout)
    print(f"{written}  {out}, {len(made.files)} files, {made.n_bytes / 1e6:.1f} MB")
    print("  README.md says how it is run with numpy and onnxruntime alone")
