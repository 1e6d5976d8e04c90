"""TCP ports on the loopback address."""

from __future__ import annotations

import asyncio
import random
import socket

HOST = "127.0.0.1"
_AUTO = range(15_000, 32_000)
"""Below the range that Linux takes for outgoing connections: a port whose process restarts stays free meanwhile."""


class NoFreePort(RuntimeError):
    """Every port that was tried is in use."""


def is_free(port: int) -> bool:
    """Whether a server can listen on `port` now."""
    with socket.socket() as probe:
        # Connections that ended a moment ago (TIME_WAIT) do not stop a server; one that listens does.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def free_ports(count: int) -> list[int]:
    """`count` different ports that nobody listens on. Raises NoFreePort."""
    found: list[int] = []
    for port in random.sample(_AUTO, k=min(len(_AUTO), 50 * count + 200)):
        if len(found) == count:
            break
        if is_free(port):
            found.append(port)
    if len(found) < count:
        raise NoFreePort(f"{count} free ports between {_AUTO.start} and {_AUTO.stop} were not found")
    return found


async def taken_ports(ports: dict[str, int], patience_s: float) -> dict[str, int]:
    """Those of `ports` (name → port) that are still in use after `patience_s`, for what is just ending."""
    deadline = asyncio.get_running_loop().time() + patience_s
    while True:
        taken = {name: port for name, port in ports.items() if not is_free(port)}
        if not taken or asyncio.get_running_loop().time() >= deadline:
            return taken
        await asyncio.sleep(0.1)
