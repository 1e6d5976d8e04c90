"""All Redis state of one partition. Redis stores and compares; every value in it was computed by the writer."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from importlib import resources
from typing import Any, NamedTuple

from redis.asyncio import Redis
from redis.exceptions import RedisError

from metering import keys
from metering.errors import Unavailable

_APPLY = resources.files("streams").joinpath("lua/apply.lua").read_text()
_REBUILD = resources.files("streams").joinpath("lua/rebuild.lua").read_text()
_EXPIRED_AT_ONCE = 5000


class Applied(NamedTuple):
    """Up to where the state is a function of the log: offset (-1: nothing), checksum of that record, clock in ms."""

    offset: int
    checksum: int
    clock: int


class Operation(NamedTuple):
    """One Redis command that a script runs: `command key arguments...`."""

    command: bytes
    key: str
    arguments: Sequence[Any]


class Answer(NamedTuple):
    """What step 2 learns: where the state stands, digests found per bucket, and the names of what the clock closes."""

    applied: Applied | None
    digests: list[tuple[int, Sequence[int]]]
    expired: list[bytes]


class CounterAnswer(NamedTuple):
    """Texts of counters (None: absent) and which of the values asked for stand in their sets (1: there)."""

    applied: Applied | None
    texts: list[list[bytes | None]]
    members: list[Sequence[int]]


class PartitionState:
    """The state of one partition of one epoch. Every method raises Unavailable when Redis does not answer."""

    def __init__(self, redis: Redis, epoch: int, partition: int) -> None:
        self._redis = redis
        self._at = (epoch, partition)
        self._applied = keys.applied(epoch, partition)
        self._rebuild = keys.rebuild(epoch, partition)
        self._expiries = keys.expiries(epoch, partition)
        self._config = keys.config(epoch, partition)
        self._run_apply = redis.register_script(_APPLY)
        self._run_rebuild = redis.register_script(_REBUILD)

    async def applied(self) -> Applied | None:
        """Where the state stands; None while there is none or it is being rebuilt."""
        try:
            answer: Any = await self._redis.hmget(self._applied, ["offset", "checksum", "clock"])
            return _applied(answer)
        except (RedisError, OSError) as error:
            raise Unavailable("Redis does not answer") from error

    async def ask(self, buckets: Iterable[int], digests: Sequence[bytes], clock: int) -> Answer:
        """Step 2 in one MULTI: `applied`, the digests in every bucket, and what is closed at `clock`."""
        numbers = list(buckets) if digests else []
        pipe = self._redis.pipeline(transaction=True)
        pipe.hmget(self._applied, ["offset", "checksum", "clock"])
        pipe.zrange(self._expiries, "-inf", clock, byscore=True, offset=0, num=_EXPIRED_AT_ONCE)
        for number in numbers:
            pipe.execute_command("SMISMEMBER", keys.digests(*self._at, number), *digests)
        applied, expired, *found = await self._execute(pipe)
        return Answer(_applied(applied), list(zip(numbers, found, strict=True)), expired)

    async def ask_counters(
        self, counters: Sequence[tuple[str, list[str]]], members: Sequence[tuple[str, str, list[bytes]]]
    ) -> CounterAnswer:
        """The counters (tenant, fields) that aren't cached, and for `unique` ones (tenant, field, values)."""
        pipe = self._redis.pipeline(transaction=True)
        pipe.hmget(self._applied, ["offset", "checksum", "clock"])
        for tenant, fields in counters:
            pipe.hmget(keys.counters(*self._at, tenant), fields)
        for tenant, field, values in members:
            pipe.execute_command("SMISMEMBER", keys.uniques(*self._at, tenant, field), *values)
        applied, *answers = await self._execute(pipe)
        return CounterAnswer(_applied(applied), answers[: len(counters)], answers[len(counters) :])

    async def apply(self, expected: int, new: Applied, operations: Sequence[Operation]) -> bool:
        """Step 4: all of it if `applied` stands at offset `expected`, else nothing (False)."""
        names, arguments = _encode(operations, first_key=2)
        return await self._script(self._run_apply, [self._applied, *names], [expected, *new, *arguments])

    async def begin_rebuild(self, token: str) -> bool:
        """Remove `applied`, so that nobody trusts the state, then (chunk 1) drop the state itself.

        Fences off older rebuilds; False when a newer one has begun.
        """
        pipe = self._redis.pipeline(transaction=True)
        pipe.delete(self._applied)
        pipe.set(self._rebuild, f"{token}:0")
        pipe.zrange(self._expiries, 0, -1)
        _, _, names = await self._execute(pipe)
        tenants = {name.split(b":", 2)[1].decode() for name in names if name.startswith(b"c:")}
        doomed = [Operation(b"UNLINK", keys.counters(*self._at, tenant), ()) for tenant in tenants]
        doomed += [operation for operation in self.drop(names) if operation.command == b"UNLINK"]
        doomed.append(Operation(b"UNLINK", self._expiries, ()))
        return await self.rebuild_chunk(token, 1, doomed)

    async def rebuild_chunk(self, token: str, number: int, operations: Sequence[Operation]) -> bool:
        """Chunk `number` (from 1) of the rebuild `token`; False when another rebuild has begun."""
        names, arguments = _encode(operations, first_key=3)
        fixed: list[Any] = [token, number - 1, number, "", "", ""]
        return await self._script(self._run_rebuild, [self._rebuild, self._applied, *names], fixed + arguments)

    async def finish_rebuild(self, token: str, chunks: int, applied: Applied) -> bool:
        """The last chunk: the state is valid from now on; False when another rebuild has begun."""
        return await self._script(self._run_rebuild, [self._rebuild, self._applied], [token, chunks, "done", *applied])

    def add_digests(self, bucket: int, digests: Sequence[bytes], ends: int) -> list[Operation]:
        """Operations that put digests into a bucket that ends at clock `ends`."""
        return [
            Operation(b"SADD", keys.digests(*self._at, bucket), digests),
            Operation(b"ZADD", self._expiries, [ends, f"d:{bucket}"]),
        ]

    def set_counters(self, tenant: str, texts: Sequence[str]) -> Operation:
        """`texts`: field, value, field, value..."""
        return Operation(b"HSET", keys.counters(*self._at, tenant), texts)

    def add_uniques(self, tenant: str, field: str, values: Sequence[bytes]) -> Operation:
        """Values behind a `unique` counter."""
        return Operation(b"SADD", keys.uniques(*self._at, tenant, field), values)

    def expire_counters(self, ends: Sequence[tuple[int, str, str]]) -> Operation:
        """(clock at which it is dropped, tenant, field) of counters that are new."""
        flat: list[Any] = []
        for end, tenant, field in ends:
            flat += (end, f"c:{tenant}:{field}")
        return Operation(b"ZADD", self._expiries, flat)

    def set_config(self, fingerprint: str) -> Operation:
        """Remember by which meters and terms the counters are counted."""
        return Operation(b"SET", self._config, [fingerprint])

    async def config(self) -> str | None:
        """The fingerprint that `set_config` left."""
        try:
            text: Any = await self._redis.get(self._config)
        except (RedisError, OSError) as error:
            raise Unavailable("Redis does not answer") from error
        return None if text is None else text.decode()

    async def counter_names(self, tenant: str | None) -> list[bytes]:
        """Names in `expiries` of the counters that exist, of one tenant or of all: for `drop`."""
        pipe = self._redis.pipeline(transaction=True)
        if tenant is None:
            pipe.zrange(self._expiries, 0, -1)
            (names,) = await self._execute(pipe)
            return [name for name in names if name.startswith(b"c:")]
        pipe.hkeys(keys.counters(*self._at, tenant))
        (fields,) = await self._execute(pipe)
        return [b"c:" + tenant.encode() + b":" + field for field in fields]

    def drop(self, expired: Sequence[bytes]) -> list[Operation]:
        """Operations that drop what the clock has closed."""
        if not expired:
            return []
        operations: list[Operation] = []
        fields: dict[str, list[str]] = {}
        for name in expired:
            kind, _, rest = name.decode().partition(":")
            if kind == "d":
                operations.append(Operation(b"UNLINK", keys.digests(*self._at, int(rest)), ()))
            else:
                tenant, _, field = rest.partition(":")
                fields.setdefault(tenant, []).append(field)
                operations.append(Operation(b"UNLINK", keys.uniques(*self._at, tenant, field), ()))
        for tenant, closed in fields.items():
            operations.append(Operation(b"HDEL", keys.counters(*self._at, tenant), closed))
        operations.append(Operation(b"ZREM", self._expiries, expired))
        return operations

    async def _execute(self, pipe: Any) -> list[Any]:
        try:
            return list(await pipe.execute())
        except (RedisError, OSError) as error:
            raise Unavailable("Redis does not answer") from error

    async def _script(self, script: Any, names: list[str], arguments: list[Any]) -> bool:
        try:
            return bool(await script(keys=names, args=arguments) == 1)
        except (RedisError, OSError) as error:
            raise Unavailable("Redis does not answer") from error


def _applied(answer: Sequence[bytes | None]) -> Applied | None:
    offset, checksum, clock = answer
    if offset is None or checksum is None or clock is None:
        return None
    return Applied(int(offset), int(checksum), int(clock))


def _encode(operations: Sequence[Operation], first_key: int) -> tuple[list[str], list[Any]]:
    """Key names, and the flat arguments in which operations name keys by their index in KEYS."""
    index: dict[str, int] = {}
    arguments: list[Any] = []
    for command, key, given in operations:
        number = index.setdefault(key, len(index) + first_key)
        arguments += (command, number, len(given))
        arguments += given
    return list(index), arguments
