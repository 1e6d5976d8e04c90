"""An HTTP/1.1 client for load: one request under way per connection, keep-alive, almost no work per request."""

from __future__ import annotations

import asyncio
from typing import cast

_END = b"\r\n\r\n"
_LENGTH = b"content-length: "


def request(host: str, key: str, content_type: str, body: bytes) -> bytes:
    """POST /v1/events as it goes over the wire."""
    head = (
        f"POST /v1/events HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {key}\r\n"
        f"Content-Type: {content_type}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def parse(received: bytes) -> tuple[int, bytes] | None:
    """(status, body) of an answer with Content-Length; None while it has not come whole."""
    head_end = received.find(_END)
    if head_end < 0:
        return None
    at = received[:head_end].lower().find(_LENGTH)
    if at < 0:
        raise ValueError("an answer without Content-Length")
    at += len(_LENGTH)
    body_at = head_end + len(_END)
    length = int(received[at : received.find(b"\r", at)])
    if len(received) < body_at + length:
        return None
    return int(received[9:12]), received[body_at : body_at + length]


class Connection(asyncio.Protocol):
    """One keep-alive connection."""

    def __init__(self) -> None:
        self._received = b""
        self._answer: asyncio.Future[tuple[int, bytes]] | None = None
        self._transport: asyncio.Transport | None = None

    @classmethod
    async def open(cls, host: str, port: int) -> Connection:
        """Connect."""
        _, connection = await asyncio.get_running_loop().create_connection(cls, host, port)
        return connection

    async def send(self, request: bytes) -> tuple[int, bytes]:
        """(status, body) of the answer. Raises ConnectionError when the connection ends before it."""
        assert self._transport is not None
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return await self._answer

    def close(self) -> None:
        """Close the connection."""
        assert self._transport is not None
        self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by the loop."""
        self._transport = cast(asyncio.Transport, transport)  # uvloop's are none by class

    def data_received(self, data: bytes) -> None:
        """Called by the loop."""
        self._received += data
        answer = parse(self._received)
        if answer is not None and self._answer is not None:
            self._received = b""
            self._answer.set_result(answer)

    def connection_lost(self, error: Exception | None) -> None:
        """Called by the loop."""
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(ConnectionError(f"the gateway closed the connection: {error}"))
