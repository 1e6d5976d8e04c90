"""Scalars as text: what filters, dimensions and distinct values compare."""

from __future__ import annotations

from decimal import Decimal
from typing import Any


def text_of(value: Any) -> str | None:
    """A string as it is, a boolean as in JSON, a number without trailing zeros; None for anything else."""
    if type(value) is str:
        return value
    if type(value) is bool:
        return "true" if value else "false"
    if type(value) is int:
        return str(value)
    if type(value) is Decimal:
        if not value:
            return "0"
        if abs(value.adjusted()) > 64:  # 1e400 must not become 400 digits
            return None
        text = format(value, "f")
        return text.rstrip("0").rstrip(".") if "." in text else text
    return None
