"""`tallygate status`: where everything is, and whether it keeps up."""

from __future__ import annotations

EXAMPLES = ""


def status() -> None:
    """x"""
