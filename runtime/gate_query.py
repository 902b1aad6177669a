"""What a gate is told to look for: a text, as the mean of the embeddings of its tokens."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from .errors import SettingsInvalid
from .manifest_values import Manifest
from .token_rows import TokenRows
from .values import Float32

if TYPE_CHECKING:
    from tokenizers import Tokenizer

SHOWN_CHARACTERS = 60
"""Of a query, in a message."""


@dataclass(frozen=True, slots=True, eq=False)
class GateQuery:
    """What is looked for.

    Attributes:
        text: in the user's words; empty for nothing.
        vector: (1, dim) float32, read-only: what the gate reads; all zeros for nothing.
    """

    text: str
    vector: Float32


def no_query(dim: int) -> GateQuery:
    """Nothing is looked for."""
    return _frozen("", np.zeros((1, dim), np.float32))


def gate_query(text: str, encode: Callable[[str], Sequence[int]], rows: TokenRows) -> GateQuery:
    """A text as a gate reads it.

    Args:
        text: what is looked for; empty for nothing.
        encode: text → token ids, nothing put before or after it.
        rows: of the table of embeddings. What a decoder adds behind an embedding is left out.

    Raises:
        InputMismatch: a token has no row.

    Cost: one row a token, once.
    """
    ids = list(encode(text)) if text else []
    if not ids:
        return GateQuery(text, no_query(rows.hidden).vector)
    mean = rows(ids)[:, : rows.hidden].mean(axis=0, dtype=np.float64)
    return _frozen(text, mean.astype(np.float32)[None])


def check_words(text: str, tokenizer: Tokenizer, key: str = "gate.query") -> None:
    """Refuse a query with a word that the tokenizer does not have: its vector would mean nothing.

    Args:
        text: what shall be looked for.
        tokenizer: of the bundle; one that can write every text refuses none.
        key: the setting that says so.

    Raises:
        SettingsInvalid: names the setting and the word.
    """
    unknown = getattr(tokenizer.model, "unk_token", None)
    coded = tokenizer.encode(text, add_special_tokens=False)
    unknown_id = None if unknown is None else tokenizer.token_to_id(unknown)
    if unknown_id is None or unknown_id not in coded.ids:
        return
    begin, end = coded.offsets[coded.ids.index(unknown_id)]
    raise SettingsInvalid(
        f"{key} is {shown(text)}, but the word {text[begin:end].strip()!r} is not in the "
        "vocabulary of this bundle",
        hint="say it in the words that its gate was trained with (tokenizer.json has them)",
    )


def check_query(text: str, manifest: Manifest, key: str = "gate.query") -> None:
    """Refuse to look for something with a gate that reads no query.

    Args:
        text: what shall be looked for; empty is never refused.
        manifest: of the bundle.
        key: the setting that says so.

    Raises:
        SettingsInvalid: names the setting and the bundle.
    """
    gate = manifest.gate
    if not text or (gate is not None and gate.query_dim is not None):
        return
    has = "has no gate of its own" if gate is None else "has a gate that reads no query"
    raise SettingsInvalid(
        f"{key} is {shown(text)}, but the bundle {manifest.name} {has}",
        hint=f"leave {key} out; `edgestream inspect` says whether a bundle's gate reads a query",
    )


def shown(text: str) -> str:
    """A query in a message, in quotes and no longer than a line."""
    cut = "…" if len(text) > SHOWN_CHARACTERS else ""
    return repr(text[:SHOWN_CHARACTERS] + cut)


def _frozen(text: str, vector: Float32) -> GateQuery:
    vector.setflags(write=False)
    return GateQuery(text, vector)
