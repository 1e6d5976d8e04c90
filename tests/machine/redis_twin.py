"""Redis in memory, as far as the writer uses it, behind redis-py's connections: what is sent is the real wire format.

tests/machine/test_twins.py holds it against a real Valkey.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from redis.exceptions import ConnectionError as RedisAway
from redis.exceptions import NoScriptError

from streams import state
from tests.machine.gate import Gate

Value = bytes | set[bytes] | dict[bytes, Any]
"""A string, a set, or a hash (texts) or sorted set (numbers) by member."""


class RedisStore:
    """What the server holds; `copy` and `put_back` are its backups."""

    def __init__(self) -> None:
        self.data: dict[bytes, Value] = {}
        self.scripts: set[bytes] = set()

    def copy(self) -> dict[bytes, Value]:
        """A backup."""
        return {key: value if isinstance(value, bytes) else value.copy() for key, value in self.data.items()}

    def put_back(self, data: dict[bytes, Value]) -> None:
        """The server comes back with a backup, or with nothing; scripts are never kept."""
        self.data = {key: value if isinstance(value, bytes) else value.copy() for key, value in data.items()}
        self.scripts.clear()

    def run(self, words: Sequence[bytes]) -> Any:
        """One command; raises redis-py's exceptions."""
        name, *arguments = words
        return _COMMANDS[name](self, *arguments)

    def hash(self, key: bytes) -> dict[bytes, Any]:
        """The hash or sorted set at `key`, an empty one that is not stored where there is none."""
        value = self.data.get(key, {})
        assert isinstance(value, dict)
        return value

    def members(self, key: bytes) -> set[bytes]:
        """The set at `key`."""
        value = self.data.get(key, set())
        assert isinstance(value, set)
        return value

    def text(self, key: bytes) -> bytes | None:
        """The string at `key`."""
        value = self.data.get(key)
        assert value is None or isinstance(value, bytes)
        return value


def _delete(store: RedisStore, *keys: bytes) -> int:
    return sum(store.data.pop(key, None) is not None for key in keys)


def _set(store: RedisStore, key: bytes, value: bytes) -> bytes:
    store.data[key] = value
    return b"OK"


def _hset(store: RedisStore, key: bytes, *pairs: bytes) -> int:
    found = store.hash(key)
    store.data[key] = found
    before = len(found)
    found.update(zip(pairs[::2], pairs[1::2], strict=True))
    return len(found) - before


def _drop(store: RedisStore, key: bytes, *members: bytes) -> int:
    """HDEL and ZREM: an empty hash or sorted set is none."""
    found = store.hash(key)
    gone = sum(found.pop(member, None) is not None for member in members)
    if not found:
        store.data.pop(key, None)
    return gone


def _sadd(store: RedisStore, key: bytes, *members: bytes) -> int:
    found = store.members(key)
    store.data[key] = found
    before = len(found)
    found.update(members)
    return len(found) - before


def _zadd(store: RedisStore, key: bytes, *pairs: bytes) -> int:
    found = store.hash(key)
    store.data[key] = found
    before = len(found)
    found.update((member, int(score)) for score, member in zip(pairs[::2], pairs[1::2], strict=True))
    return len(found) - before


def _zrange(store: RedisStore, key: bytes, first: bytes, last: bytes, *options: bytes) -> list[bytes]:
    """As asked for here: everything (0 -1), or the first by score (-inf X BYSCORE LIMIT 0 N)."""
    ordered = sorted(store.hash(key).items(), key=lambda item: (item[1], item[0]))
    if not options:
        assert (first, last) == (b"0", b"-1")
        return [member for member, _ in ordered]
    assert first == b"-inf" and options[:3] == (b"BYSCORE", b"LIMIT", b"0")
    return [member for member, score in ordered if score <= int(last)][: int(options[3])]


def _operations(store: RedisStore, keys: Sequence[bytes], arguments: Sequence[bytes]) -> None:
    """The loop of both Lua scripts."""
    at = 0
    while at < len(arguments):
        command, key, count = arguments[at], keys[int(arguments[at + 1]) - 1], int(arguments[at + 2])
        at += 3
        if count == 0:
            store.run([command, key])
        for first in range(at, at + count, 4000):
            store.run([command, key, *arguments[first : min(first + 4000, at + count)]])
        at += count


def _apply(store: RedisStore, keys: Sequence[bytes], arguments: Sequence[bytes]) -> int:
    """streams/lua/apply.lua."""
    expected, config, offset, checksum, clock = arguments[:5]
    if store.hash(keys[0]).get(b"offset") != expected or store.text(keys[1]) != config:
        return 0
    _delete(store, keys[0])
    _operations(store, keys, arguments[5:])
    _hset(store, keys[0], b"offset", offset, b"checksum", checksum, b"clock", clock)
    return 1


def _rebuild(store: RedisStore, keys: Sequence[bytes], arguments: Sequence[bytes]) -> int:
    """streams/lua/rebuild.lua."""
    token, before, this, offset, checksum, clock = arguments[:6]
    if store.text(keys[0]) != token + b":" + before:
        return 0
    _delete(store, keys[1])
    _operations(store, keys, arguments[6:])
    if this == b"done":
        _hset(store, keys[1], b"offset", offset, b"checksum", checksum, b"clock", clock)
        _delete(store, keys[0])
    else:
        store.data[keys[0]] = token + b":" + this
    return 1


_SCRIPTS = {state._APPLY.sha.encode(): _apply, state._REBUILD.sha.encode(): _rebuild}
_SOURCES = {script.text.encode(): script.sha.encode() for script in (state._APPLY, state._REBUILD)}


def _evalsha(store: RedisStore, sha: bytes, count: bytes, *rest: bytes) -> int:
    if sha not in store.scripts:
        raise NoScriptError("No matching script.")
    return _SCRIPTS[sha](store, rest[: int(count)], rest[int(count) :])


def _script(store: RedisStore, load: bytes, text: bytes) -> bytes:
    store.scripts.add(_SOURCES[text])
    return _SOURCES[text]


_COMMANDS: dict[bytes, Callable[..., Any]] = {
    b"DEL": _delete,
    b"UNLINK": _delete,
    b"SET": _set,
    b"GET": RedisStore.text,
    b"EXISTS": lambda store, key: int(key in store.data),
    b"HMGET": lambda store, key, *fields: [store.hash(key).get(field) for field in fields],
    b"HKEYS": lambda store, key: list(store.hash(key)),
    b"HVALS": lambda store, key: list(store.hash(key).values()),
    b"HSET": _hset,
    b"HDEL": _drop,
    b"SADD": _sadd,
    b"SMISMEMBER": lambda store, key, *members: [int(member in store.members(key)) for member in members],
    b"ZADD": _zadd,
    b"ZREM": _drop,
    b"ZRANGE": _zrange,
    b"TIME": lambda store: [b"0", b"0"],
    b"PUBLISH": lambda store, channel, message: 0,
    b"EVALSHA": _evalsha,
    b"SCRIPT": _script,
}


class RedisTwin:
    """What a process has of the server: `connection_pool` and `set`, as of redis-py's client."""

    def __init__(self, store: RedisStore, gate: Gate) -> None:
        self._store = store
        self._gate = gate
        self.connection_pool = self

    async def set(self, key: str, value: str) -> None:
        """SET."""
        words = [b"SET", key.encode(), value.encode()]
        await self._gate.through("SET", lambda: self._store.run(words), lambda: RedisAway("gone"))

    async def get_connection(self) -> _Connection:
        """A connection of the pool."""
        return _Connection(self._store, self._gate)

    async def release(self, connection: _Connection) -> None:
        """Give it back."""


class _Connection:
    def __init__(self, store: RedisStore, gate: Gate) -> None:
        self._store = store
        self._gate = gate
        self._replies: Iterator[Any] = iter(())

    async def send_packed_command(self, packed: Sequence[bytes]) -> None:
        """Commands as bytes; MULTI to EXEC, or a script, is one turn."""
        words = [_parsed(one) for one in packed]
        name = words[0][0].decode()
        self._replies = await self._gate.through(
            name, lambda: iter(self._run(packed, words)), lambda: RedisAway("gone")
        )

    def _run(self, packed: Sequence[bytes], commands: Sequence[list[bytes]]) -> list[Any]:
        if commands[0][0] != b"MULTI":
            return [_answer(self._store, words) for words in commands]
        answers = [self._store.run(words) for words in commands[1:-1]]
        return [b"OK", *([b"QUEUED"] * len(answers)), answers]

    async def read_response(self) -> Any:
        """The next answer."""
        reply = next(self._replies)
        if isinstance(reply, Exception):
            raise reply
        return reply

    async def disconnect(self, nowait: bool) -> None:
        """Forget the connection."""


def _answer(store: RedisStore, words: Sequence[bytes]) -> Any:
    try:
        return store.run(words)
    except NoScriptError as error:
        return error


def _parsed(packed: bytes) -> list[bytes]:
    """The words of one command in RESP."""
    end = packed.index(b"\r\n")
    words = []
    for _ in range(int(packed[1:end])):
        begin = end + 2
        end = packed.index(b"\r\n", begin)
        size = int(packed[begin + 1 : end])
        words.append(packed[end + 2 : end + 2 + size])
        end += 2 + size
    return words
