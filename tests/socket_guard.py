"""Tests that promised to touch nothing may open no socket, also where the code under test swallows the refusal.

An audit hook sees every use of `socket` in the process, by whatever name it was imported and in any thread. An event
loop's own socket pair is neither bound nor connected and stays allowed.
"""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager

_EVENTS = frozenset(
    {
        "socket.bind",
        "socket.connect",
        "socket.getaddrinfo",
        "socket.gethostbyname",
        "socket.gethostbyaddr",
        "socket.sendto",
        "socket.sendmsg",
    }
)
_attempts: list[str] | None = None
_installed = False


class SocketOpened(RuntimeError):
    """A test without leave to do so used the network."""


@contextmanager
def no_sockets() -> Iterator[None]:
    """Refuse every bind, connect and name lookup inside; raise SocketOpened at the end if there was one."""
    global _attempts, _installed
    if not _installed:
        sys.addaudithook(_refuse)
        _installed = True
    attempts: list[str] = []
    _attempts = attempts
    try:
        yield
    finally:
        _attempts = None
    if attempts:
        raise SocketOpened(f"this test may open no socket, but did: {attempts[0]}")


def _refuse(event: str, arguments: tuple[object, ...]) -> None:
    if _attempts is None or event not in _EVENTS:
        return
    attempt = f"{event} {[argument for argument in arguments if not isinstance(argument, socket.socket)]}"
    _attempts.append(attempt)
    raise SocketOpened(f"this test may open no socket: {attempt}")
