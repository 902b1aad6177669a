"""`edgestream merge`: write a checkpoint with a LoRA adapter merged into its own weights."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from ..terminal import BOLD, GREEN, painted


def merge(
    checkpoint: Annotated[
        str,
        typer.Argument(
            metavar="CHECKPOINT", help="Folder of the checkpoint, or owner/name of one on the Hub."
        ),
    ],
    adapter: Annotated[
        Path, typer.Option("--adapter", metavar="PEFT_DIR", help="LoRA adapter of this checkpoint.")
    ],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Folder that is written.")],
    force: Annotated[bool, typer.Option("--force", help="Replace an older such folder.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on one line.")] = False,
) -> None:
    """Write CHECKPOINT with an adapter merged in, in its own layout and types, as safetensors.

    It can be exported like the checkpoint, and loaded by whatever loads the checkpoint. Needs the
    extra `export`.
    """
    from ...runtime.errors import BackendMissing

    try:
        from ...models.hub import checkpoint_folder
        from ...models.merged_checkpoint import write_merged
    except ImportError as error:
        raise BackendMissing(
            f"merge needs {error.name}, which is not installed here",
            hint="pip install 'edgestream[export]'",
        ) from error
    made = write_merged(checkpoint_folder(checkpoint), adapter, out, force=force)
    if as_json:
        told = {"folder": str(out), "changed": made.changed, "bytes": made.n_bytes}
        print(json.dumps({**told, "assumed": made.assumed}))
        return
    written = painted("written", f"{BOLD};{GREEN}", sys.stdout)
    print(f"{written}  {out}, {made.n_bytes / 1e6:.1f} MB, {len(made.changed)} tensors changed")
    if made.assumed:
        print(f"note: {made.assumed}")
