"""HTTP as clients of Tallygate need it: one request, one whole reply."""

from __future__ import annotations

from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import NamedTuple, Protocol

import aiohttp


class Reply(NamedTuple):
    """Status, headers (case-insensitive) and the whole body."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class NoAnswerError(Exception):
    """Nobody answered: refused, reset, unknown host or too slow. The request may or may not have had its effect."""


class Transport(Protocol):
    """Port: sends a request. Raises NoAnswerError."""

    async def request(self, method: str, url: str, headers: Mapping[str, str], body: bytes | None) -> Reply: ...

    async def close(self) -> None: ...


class HttpTransport:
    """aiohttp with kept connections."""

    def __init__(self, connections: int = 16, timeout_seconds: float = 60.0) -> None:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=connections),
            timeout=aiohttp.ClientTimeout(total=timeout_seconds, connect=10.0),
        )

    async def request(self, method: str, url: str, headers: Mapping[str, str], body: bytes | None) -> Reply:
        """See Transport."""
        try:
            async with self._session.request(method, url, headers=headers, data=body) as response:
                return Reply(response.status, response.headers, await response.read())
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise NoAnswerError(str(error) or type(error).__name__) from error

    async def close(self) -> None:
        """Close kept connections."""
        await self._session.close()


def retry_after(reply: Reply) -> float | None:
    """Seconds of the Retry-After field (RFC 9110: seconds, or a date, read by the reply's own Date); None without."""
    text = reply.headers.get("Retry-After", "").strip()
    if text.isascii() and text.isdigit():
        return float(text)
    try:
        until, now = parsedate_to_datetime(text), parsedate_to_datetime(reply.headers.get("Date", ""))
        return max(0.0, (until - now).total_seconds())
    except (ValueError, TypeError):
        return None
