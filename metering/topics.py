"""Kafka names. A topic per epoch: a log never begins anew under an old name."""

from __future__ import annotations

CROSSINGS = "usage.crossings"
DECISIONS = "usage.decisions"


def events(epoch: int) -> str:
    """The topic that holds the usage events of `epoch`."""
    return f"usage.events.{epoch}"


def epoch_of(topic: str) -> int | None:
    """The epoch whose events `topic` holds, None for other topics."""
    prefix, _, number = topic.rpartition(".")
    return int(number) if prefix == "usage.events" and number.isdecimal() else None
