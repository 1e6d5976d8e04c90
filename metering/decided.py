"""What a gate has decided, counted: the messages of `usage.decisions`. Pure.

A message bears the name of the gate that counted and a number of its own: told again it is the same message.
"""

from __future__ import annotations

import msgspec


class Slot(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What is counted together. `minute` since 1970; names that nobody knows are empty."""

    minute: int
    tenant: str
    feature: str
    reason: str
    source: str
    allowed: bool
    shadowed: bool


class Decided(msgspec.Struct, frozen=True, array_like=True):
    """`counts`: (slot, how many checks), none of them zero."""

    sender: str
    number: int
    counts: tuple[tuple[Slot, int], ...]


encode = msgspec.json.Encoder().encode
"""A Decided → what is sent."""

decode = msgspec.json.Decoder(Decided).decode
"""What `encode` wrote → Decided. Raises msgspec.DecodeError."""
