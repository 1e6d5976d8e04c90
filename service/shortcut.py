"""A way past the web framework for requests that come all the time and can be answered at once.

What such a request costs by way of aiohttp goes mostly into objects that nobody looks at. Whatever is not plain and
whole, whatever has to wait, and whatever is wrong goes the usual way: a shortcut never says no, it only does not know.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache
from time import gmtime, strftime, time
from typing import Any, NamedTuple, cast

from aiohttp import web
from aiohttp.http import SERVER_SOFTWARE
from aiohttp.web_protocol import RequestHandler

_LONGEST_HEAD, _LONGEST_BODY = 2048, 8192
_REQUEST_LINE = re.compile(rb"([A-Z]+) (/[!-~]*) HTTP/1\.1")
_HEADER = re.compile(rb"([A-Za-z-]+): ?([!-~]+(?: [!-~]+)*)")
_PLAIN = frozenset(
    b"host authorization content-type content-length user-agent accept accept-encoding connection".split()
)
"""Headers that change nothing about how a request is read. With any other one it goes the usual way."""
_KEPT = b"keep-alive"


class Head(NamedTuple):
    """A plain request's head: `path` with its query; `length` of the body."""

    method: str
    path: str
    length: int
    authorization: str


Answer = Callable[[Head, bytes, bool], bytes | None]
"""The head, the body, and whether it came by the Unix socket → the JSON of a 200; None: it has to go the usual way."""


class Runner(web.AppRunner):
    """An AppRunner whose connections ask `answer` first."""

    def __init__(self, app: web.Application, answer: Answer, **options: Any) -> None:
        super().__init__(app, **options)
        self._answer = answer

    async def _make_server(self) -> web.Server:
        usual = await super()._make_server()
        return _Server(usual, self._answer)


class _Server(web.Server):
    def __init__(self, usual: web.Server, answer: Answer) -> None:
        super().__init__(usual.request_handler, request_factory=usual.request_factory, **usual._kwargs)
        self._answer = answer

    def __call__(self) -> RequestHandler:
        return _Connection(self, self._answer, loop=self._loop, **self._kwargs)


class _Connection(RequestHandler):
    __slots__ = ("_answer", "_plain")

    def __init__(self, server: _Server, answer: Answer, **options: Any) -> None:
        super().__init__(server, **options)
        self._answer = answer
        self._plain = True
        """Whether the parser has had whole requests only: else what comes next may be the rest of one."""

    def data_received(self, data: bytes) -> None:
        """Called by the loop."""
        if self._plain and data:
            request = plain(data)
            if request is None:
                self._plain = False
            elif self._idle():
                content = self._answer(*request, isinstance(self.sockname, str | bytes))
                if content is not None:
                    assert self.transport is not None
                    cast(Any, self.transport).write(_response(content))
                    self._next_keepalive_close_time = self._loop.time() + self._keepalive_timeout
                    return
        super().data_received(data)

    def _idle(self) -> bool:
        """Whether all requests before are answered, and the client reads the answers."""
        waits = self._waiter is not None and not self._waiter.done()
        return waits and not self._messages and not self._paused and not self._close and not self._force_close


def plain(data: bytes) -> tuple[Head, bytes] | None:
    """Head and body of one whole, plain request; None: it is something else, or not whole, or more than one."""
    text, end, body = data.partition(b"\r\n\r\n")
    head = _head(text) if end and len(text) <= _LONGEST_HEAD else None
    if head is None or head.length != len(body):
        return None
    return head, body


@lru_cache(maxsize=1024)
def _head(text: bytes) -> Head | None:
    """Clients send the same head again and again. None: it is not plain."""
    first, *lines = text.split(b"\r\n")
    asked = _REQUEST_LINE.fullmatch(first)
    found = [_HEADER.fullmatch(line) for line in lines]
    headers = {match[1].lower(): match[2] for match in found if match}
    if asked is None or len(headers) != len(lines) or not headers.keys() <= _PLAIN or b"host" not in headers:
        return None
    if headers.get(b"connection", _KEPT).lower() != _KEPT:
        return None
    length = headers.get(b"content-length", b"0")
    if not length.isdigit() or len(length) > 5 or int(length) > _LONGEST_BODY:
        return None
    return Head(asked[1].decode(), asked[2].decode(), int(length), headers.get(b"authorization", b"").decode())


def _response(content: bytes) -> bytes:
    return (
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\nDate: %b\r\nServer: %b\r\n\r\n%b"
        % (len(content), _date(int(time())), _SERVER, content)
    )


_SERVER = SERVER_SOFTWARE.encode()


@lru_cache(maxsize=1)
def _date(second: int) -> bytes:
    return strftime("%a, %d %b %Y %H:%M:%S GMT", gmtime(second)).encode()
