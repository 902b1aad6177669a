"""What a table of settings is made of: a frozen model, and values with unit, meaning and bounds."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field


class Table(BaseModel):
    """Settings of one stage: cannot be changed, knows no other keys, converts nothing."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


def setting(default: Any, unit: str, meaning: str, **bounds: Any) -> Any:
    """One setting.

    Args:
        default: where nothing else is said.
        unit: of the value; empty for a word or a claim.
        meaning: one or two sentences, the reason for the default among them.
        bounds: as pydantic's `Field` takes them; a number has both ends.
    """
    return Field(default, description=meaning, json_schema_extra={"unit": unit}, **bounds)
