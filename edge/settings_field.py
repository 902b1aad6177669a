"""What a table of settings is made of: a frozen model, and values with unit, meaning and bounds."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

Text = Annotated[str, Field(max_length=4096)]
"""One entry of a table of texts, `dict[str, Text]`."""


class Table(BaseModel):
    """Settings of one stage: cannot be changed, knows no other keys, converts nothing."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


def setting(
    default: Any, unit: str, meaning: str, *, entries: str | None = None, **bounds: Any
) -> Any:
    """One setting.

    Args:
        default: where nothing else is said.
        unit: of the value; empty for a word or a claim.
        meaning: one or two sentences, the reason for the default among them.
        entries: of a table, what its entries are named after, for many of them.
        bounds: as pydantic's `Field` takes them; a number has both ends.
    """
    said: dict[str, Any] = {"unit": unit} if entries is None else {"unit": unit, "entries": entries}
    return Field(default, description=meaning, json_schema_extra=said, **bounds)
