"""Redis commands packed by hand where thousands of digests go with each batch.

redis-py packs arguments one by one in Python, which cost more than all decisions of the writer; connections, parsing
and reconnects stay its own.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from hashlib import sha1
from typing import Any, NamedTuple, TypeVar

from redis.asyncio import Redis
from redis.exceptions import NoScriptError, RedisError

from metering.errors import Unavailable
from metering.identity import DIGEST_BYTES

T = TypeVar("T")
_HEAD = b"$%d\r\n" % DIGEST_BYTES
_BETWEEN = b"\r\n" + _HEAD


class Packed(NamedTuple):
    """Arguments that are packed already."""

    size: int
    wire: bytes


def pack_digests(digests: Sequence[bytes]) -> Packed:
    """Digests of DIGEST_BYTES each, as arguments."""
    if not digests:
        return Packed(0, b"")
    return Packed(len(digests), _HEAD + _BETWEEN.join(digests) + b"\r\n")


def pack(arguments: Sequence[Any]) -> Packed:
    """Any bytes, texts and integers, as arguments."""
    parts = []
    for argument in arguments:
        data = argument if type(argument) is bytes else str(argument).encode()
        parts.append(b"$%d\r\n%b\r\n" % (len(data), data))
    return Packed(len(parts), b"".join(parts))


def command(*parts: Packed) -> bytes:
    """One command of all these arguments."""
    return b"*%d\r\n" % sum(part.size for part in parts) + b"".join([part.wire for part in parts])


class Wire:
    """Sends packed commands over redis-py's connections. Every method raises Unavailable."""

    def __init__(self, redis: Redis) -> None:
        self._pool = redis.connection_pool

    async def transaction(self, commands: Sequence[bytes]) -> list[Any]:
        """All in one MULTI: their answers."""

        async def send(connection: Any) -> list[Any]:
            await connection.send_packed_command([_MULTI, *commands, _EXEC])
            for _ in range(len(commands) + 1):
                await connection.read_response()
            return list(await connection.read_response())

        return await self._with_connection(send)

    async def script(self, script: Script, keys: Sequence[str], arguments: Sequence[Packed]) -> Any:
        """Run a Lua script, loading it where the server does not have it yet."""
        head = pack([b"EVALSHA", script.sha, len(keys), *keys])

        async def send(connection: Any) -> Any:
            packed = command(head, *arguments)
            try:
                await connection.send_packed_command([packed])
                return await connection.read_response()
            except NoScriptError:
                await connection.send_packed_command([command(pack([b"SCRIPT", b"LOAD", script.text]))])
                await connection.read_response()
                await connection.send_packed_command([packed])
                return await connection.read_response()

        return await self._with_connection(send)

    async def _with_connection(self, send: Callable[[Any], Awaitable[T]]) -> T:
        try:
            connection: Any = await self._pool.get_connection()  # type: ignore[no-untyped-call]
            try:
                return await send(connection)
            except BaseException:
                # Half-read answers must never be taken for those of the next command.
                await connection.disconnect(nowait=True)
                raise
            finally:
                await self._pool.release(connection)
        except (RedisError, OSError, TimeoutError) as error:
            raise Unavailable("Redis does not answer") from error


class Script:
    """A Lua script and its name on the server."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.sha = sha1(text.encode(), usedforsecurity=False).hexdigest()


_MULTI = command(pack([b"MULTI"]))
_EXEC = command(pack([b"EXEC"]))
