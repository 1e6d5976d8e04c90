"""Questions that tell whether a process serves: each answers True or False, or raises OSError when nobody listens."""

from __future__ import annotations

import asyncio
import struct
from urllib.parse import urlsplit

from local.ports import HOST

_ANSWER_SECONDS = 5.0
_API_VERSIONS = struct.pack(">hhih", 18, 0, 1, -1)
"""Kafka's ApiVersions request, version 0: key, version, correlation id, no client id."""


async def http_ok(url: str) -> bool:
    """Whether GET `url` answers 200."""
    address = urlsplit(url)
    path = address.path or "/"
    request = f"GET {path} HTTP/1.1\r\nHost: {address.netloc}\r\nConnection: close\r\n\r\n"
    answer = await _ask(address.hostname or HOST, address.port or 80, request.encode(), 12)
    return answer[9:12] == b"200"


async def http_text(url: str) -> str:
    """The body of GET `url`, headers included; for small answers."""
    address = urlsplit(url)
    request = f"GET {address.path or '/'} HTTP/1.0\r\nHost: {address.netloc}\r\n\r\n"
    return (await _ask(address.hostname or HOST, address.port or 80, request.encode(), None)).decode()


async def redis_answers(port: int) -> bool:
    """Whether Redis or Valkey has loaded its data: while it loads, PING is refused."""
    return await _ask(HOST, port, b"PING\r\n", 5) == b"+PONG"


async def kafka_answers(host: str, port: int) -> bool:
    """Whether a broker speaks the Kafka protocol there."""
    answer = await _ask(host, port, struct.pack(">i", len(_API_VERSIONS)) + _API_VERSIONS, 10)
    correlation, error = struct.unpack(">ih", answer[4:10])
    return (correlation, error) == (1, 0)


async def _ask(host: str, port: int, request: bytes, length: int | None) -> bytes:
    """The first `length` bytes of the answer, None: all until the connection ends."""
    async with asyncio.timeout(_ANSWER_SECONDS):
        reader, writer = await asyncio.open_connection(host, port)
        try:
            writer.write(request)
            if length is None:
                return await reader.read()
            return await reader.readexactly(length)
        except asyncio.IncompleteReadError as error:
            raise ConnectionResetError("the answer was cut short") from error
        finally:
            writer.close()
