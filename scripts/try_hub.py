"""Models of the Hub from their id to sentences: pinned, exported, run on a clip, one by one.

`make test-hub` calls it where there is internet. The first run finds out which commit a revision is
and writes it down; every later run takes that commit. With HF_HUB_OFFLINE=1 it takes what is in the
Hub's cache.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from pathlib import Path

from edgestream.models.hub import checkpoint_folder
from edgestream.runtime.errors import CheckpointMissing, EdgeStreamError

COMMIT = re.compile(r"[0-9a-f]{40}")
EDGESTREAM = (sys.executable, "-m", "edgestream.edge.cli")


def main(words: list[str] | None = None) -> int:
    """Try every model; returns 0, or the exit code of the first command that failed."""
    given = _parser().parse_args(words)
    worst = 0
    for model in given.models:
        print(f"== {model}", flush=True)
        try:
            commit = pinned(model, given.revision, given.lock)
        except EdgeStreamError as fault:
            print(f"error[{fault.code}]: {fault.message}", file=sys.stderr)
            print(f"try: {fault.hint}", file=sys.stderr)
            worst = worst or fault.exit_code
            continue
        print(f"commit {commit} ({given.lock})", flush=True)
        bundle = given.out / model.replace("/", "--")
        asked = [word for question in given.ask for word in ("--ask", question)]
        options = given.export.split()
        commands = (
            ("export", f"{model}@{commit}", "--out", str(bundle), "--force", *options),
            ("run", str(given.clip), "--bundle", str(bundle), *asked),
        )
        given.out.mkdir(parents=True, exist_ok=True)
        for command in commands:
            print(f"-- edgestream {' '.join(command)}", flush=True)
            code = subprocess.run([*EDGESTREAM, *command], check=False).returncode
            worst = worst or code
            if code:
                break
    return worst


def pinned(model: str, revision: str, lock: Path) -> str:
    """The commit of a model: the one that `lock` names, else that of `revision`, written down.

    Raises:
        CheckpointMissing: the model is neither in the Hub's cache nor can be downloaded.
    """
    known = dict(line.split() for line in _lines(lock))
    if model in known:
        return known[model]
    folder = checkpoint_folder(f"{model}@{revision}")
    if not COMMIT.fullmatch(folder.name):
        raise CheckpointMissing(
            f"{model} is the folder {folder}, expected a snapshot in the Hub's cache",
            hint="call it from another folder",
        )
    known[model] = folder.name
    lock.write_text("".join(f"{name} {commit}\n" for name, commit in sorted(known.items())))
    return folder.name


def _lines(lock: Path) -> list[str]:
    return lock.read_text().splitlines() if lock.exists() else []


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Models of the Hub from their id to sentences.")
    parser.add_argument("models", nargs="+", metavar="OWNER/NAME")
    parser.add_argument("--revision", default="main", help="Of a model that is not pinned yet.")
    parser.add_argument("--lock", type=Path, required=True, help="File of model and commit.")
    parser.add_argument("--out", type=Path, required=True, help="Folder of the bundles.")
    parser.add_argument("--clip", type=Path, required=True, help="What they watch.")
    parser.add_argument("--ask", action="append", default=[], metavar="SECONDS:QUESTION")
    parser.add_argument("--export", default="", help="More words for `edgestream export`.")
    return parser


if __name__ == "__main__":
    sys.exit(main())
