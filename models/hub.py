"""Where a checkpoint comes from: a folder, or a model of the Hugging Face Hub by its id."""

from __future__ import annotations

import errno
import re
from collections.abc import Sequence
from pathlib import Path

from ..runtime.errors import CheckpointMissing, OutputUnwritable

# Weights as safetensors and what describes them; never pickled weights, never code.
PATTERNS = (
    *("*.json", "*.safetensors", "*.jinja", "README.md"),
    *("merges.txt", "vocab.txt", "tokenizer.model", "*.tiktoken"),
)
FULL = (errno.ENOSPC, errno.EDQUOT)
_HUB_ID = re.compile(r"(?P<id>[\w.-]+/[\w.-]+)(@(?P<revision>[\w./-]+))?", re.ASCII)


def checkpoint_folder(source: str, files: Sequence[str] = PATTERNS) -> Path:
    """The folder of a checkpoint, downloaded first where the source is a Hub id.

    Args:
        source: a folder, or `owner/name` or `owner/name@revision` of the Hugging Face Hub; a
            folder of that name goes first.
        files: names or patterns of what is needed of a model on the Hub.

    Returns:
        The folder as it was given, or the snapshot in the Hub's cache: with HF_HUB_OFFLINE=1, or
        where the Hub cannot be reached, the one that is there already.

    Raises:
        CheckpointMissing: no such folder, and no such model on the Hub or in its cache.

    Cost: the first time a download of these files: of the whole model, but for pickled weights and
    code, where none are named.
    """
    folder = Path(source).expanduser()
    if folder.exists():
        return folder
    named = _HUB_ID.fullmatch(source)
    if named is None or source.startswith("."):
        raise CheckpointMissing(
            f"there is no checkpoint folder {source}",
            hint="give the folder with config.json, or owner/name of a model on the Hub",
        )
    return _snapshot(named["id"], named["revision"], files)


def _snapshot(model: str, revision: str | None, files: Sequence[str]) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        GatedRepoError,
        HFValidationError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    try:
        found = snapshot_download(model, revision=revision, allow_patterns=list(files))
    except GatedRepoError as error:
        raise CheckpointMissing(
            f"the model {model} is gated: its owner lets in only who asked",
            hint=f"ask for access on https://huggingface.co/{model}, then `hf auth login`",
        ) from error
    except RevisionNotFoundError as error:
        raise CheckpointMissing(
            f"the model {model} has no revision {revision!r}",
            hint=f"see https://huggingface.co/{model}/commits for those there are",
        ) from error
    except (RepositoryNotFoundError, HFValidationError) as error:
        raise CheckpointMissing(
            f"there is neither a folder {model} nor a model of that id on the Hub",
            hint="check the spelling; a private model needs `hf auth login`",
        ) from error
    except Exception as error:  # the client of the network has faults of its own, which change
        if isinstance(error, OSError) and error.errno in (*FULL, errno.EACCES, errno.EPERM):
            raise OutputUnwritable(
                f"the model {model} cannot be kept in the Hub's cache: {error.strerror}",
                hint="free some space, or name another folder in HF_HOME",
            ) from error
        at = "" if revision is None else f" at {revision}"
        raise CheckpointMissing(
            f"there is no folder {model}, and the model of that id{at} is not in the Hub's cache "
            "and cannot be downloaded now",
            hint=f"on a machine with internet: hf download {model}, then copy the folder or cache",
        ) from error
    return Path(found)
