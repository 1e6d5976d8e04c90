"""All Redis state of one partition. Redis stores and compares; every value in it was computed by the writer."""

from __future__ import annotations

from collections.abc import Collection, Container, Iterable, Mapping, Sequence
from importlib import resources
from typing import Any, NamedTuple

from redis.asyncio import Redis

from metering import feed, keys
from metering.clock import SECOND_MS
from metering.crossing import Crossing, encode
from metering.feed import FeedMessage
from metering.period import terms_text
from streams.tally import Counting
from streams.voids import VoidIndex
from streams.wire import Packed, Script, Wire, command, pack, pack_digests

_APPLY = Script(resources.files("streams").joinpath("lua/apply.lua").read_text())
_REBUILD = Script(resources.files("streams").joinpath("lua/rebuild.lua").read_text())
_EXPIRED_AT_ONCE = 5000
_DIGESTS_AT_ONCE = 2000
_FIELDS = ("HKEYS", "HVALS")  # their order is the same within one transaction


class Applied(NamedTuple):
    """Up to where the state is a function of the log: offset (-1: nothing), checksum of that record, clock in ms."""

    offset: int
    checksum: int
    clock: int


class Operation(NamedTuple):
    """One Redis command that a script runs: `command key arguments...`."""

    command: bytes
    key: str
    arguments: Packed


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


class Snapshot(NamedTuple):
    """A partition's state at one moment: billing terms by tenant and counters by (tenant, field) as texts, when these
    end (instants of the clock), how many values stand behind those of distinct values, and how many digests in each
    bucket."""

    applied: Applied | None
    config: str | None
    terms: dict[str, str]
    counters: dict[tuple[str, str], str]
    ends: dict[tuple[str, str], int]
    values: dict[tuple[str, str], int]
    digests: dict[int, int]
    voids: VoidIndex


class PartitionState:
    """The state of one partition of one epoch. Every method raises Unavailable when Redis does not answer."""

    def __init__(self, redis: Redis, epoch: int, partition: int) -> None:
        self._wire = Wire(redis)
        self._at = (epoch, partition)
        self._applied = keys.applied(epoch, partition)
        self._rebuild = keys.rebuild(epoch, partition)
        self._expiries = keys.expiries(epoch, partition)
        self._config = keys.config(epoch, partition)
        self._terms = keys.counted_terms(epoch, partition)
        self._voids = keys.voids(epoch, partition)
        self._outbox = keys.outbox(epoch, partition)
        self._sequence = keys.sequence(epoch, partition)
        self._feed = keys.feed(epoch, partition)
        self._vouched = keys.vouched(epoch, partition)
        self._ask_applied = _command("HMGET", self._applied, "offset", "checksum", "clock")

    async def applied(self) -> Applied | None:
        """Where the state stands; None while there is none or it is being rebuilt."""
        (applied,) = await self._wire.transaction([self._ask_applied])
        return _applied(applied)

    async def look(self) -> tuple[Applied | None, int, int]:
        """`applied`, the number of the last change of a hold (metering/keys.py: holding), and what time it is for
        Redis (ms UTC)."""
        holding = _command("HMGET", keys.holding(*self._at), "number")
        applied, (number,), (seconds, micros) = await self._wire.transaction(
            [self._ask_applied, holding, _command("TIME")]
        )
        return _applied(applied), int(number or 0), int(seconds) * SECOND_MS + int(micros) // 1000

    async def ask(self, buckets: Iterable[int], digests: Sequence[bytes], clock: int) -> Answer:
        """Step 2: `applied`, the digests in every bucket that has any, and what is closed at `clock`.

        In several MULTIs, each of which reads `applied` too: the state is a function of it, so answers with the same
        `applied` are of one state. None if they differ. One large MULTI would make Redis hold all arguments at once.
        """
        numbers = list(buckets)
        names = [keys.digests(*self._at, number) for number in numbers]
        applied, expired, *there = await self._wire.transaction(
            [
                self._ask_applied,
                _command("ZRANGE", self._expiries, "-inf", clock, "BYSCORE", "LIMIT", 0, _EXPIRED_AT_ONCE),
                *(_command("EXISTS", name) for name in names),
            ]
        )
        known = {number: list[int]() for number, exists in zip(numbers, there, strict=True) if exists}
        questions = [pack(["SMISMEMBER", keys.digests(*self._at, number)]) for number in known]
        for first in range(0, len(digests) if known else 0, _DIGESTS_AT_ONCE):
            packed = pack_digests(digests[first : first + _DIGESTS_AT_ONCE])
            again, *found = await self._wire.transaction(
                [self._ask_applied, *(command(question, packed) for question in questions)]
            )
            if again != applied:
                return Answer(None, [], [])
            for answers, more in zip(known.values(), found, strict=True):
                answers += more
        return Answer(_applied(applied), list(known.items()), expired)

    async def ask_counters(
        self, counters: Sequence[tuple[str, list[str]]], members: Sequence[tuple[str, str, list[bytes]]]
    ) -> CounterAnswer:
        """The counters (tenant, fields) that aren't cached, and for `unique` ones (tenant, field, values)."""
        applied, *answers = await self._wire.transaction(
            [
                self._ask_applied,
                *(_command("HMGET", keys.counters(*self._at, tenant), *fields) for tenant, fields in counters),
                *(
                    _command("SMISMEMBER", keys.uniques(*self._at, tenant, field), *values)
                    for tenant, field, values in members
                ),
            ]
        )
        return CounterAnswer(_applied(applied), answers[: len(counters)], answers[len(counters) :])

    async def voids(self) -> tuple[Applied | None, VoidIndex]:
        """The whole void index, and where the state stands."""
        applied, marks, texts = await self._wire.transaction(
            [self._ask_applied, _command("HKEYS", self._voids), _command("HVALS", self._voids)]
        )
        index = {mark: _hours(text.decode()) for mark, text in zip(marks, texts, strict=True)}
        return _applied(applied), index

    async def forget(self) -> None:
        """Remove `applied`: nobody trusts the state any more, and its writer rebuilds it from the ledger."""
        await self.counted_upto()
        await self._wire.transaction([_command("DEL", self._applied, self._vouched)])

    async def counted_upto(self) -> int | None:
        """Up to which offset holds were ended because their usage was counted; None: of none that are still known.
        Remembered, for it is asked again when `applied` is gone."""
        asked = _command("HMGET", keys.holding(*self._at), "counted")
        applied, (counted,) = await self._wire.transaction([self._ask_applied, asked])
        found = _applied(applied)
        if found is None:
            return None if counted is None else int(counted)
        await self._wire.transaction([_command("HSET", keys.holding(*self._at), "counted", found.offset)])
        return found.offset

    async def snapshot(self, unique: Container[str]) -> Snapshot:
        """The whole state but its members, as it stands at one moment; `unique`: meters that count distinct values."""
        names, *_ = await self._wire.transaction([_command("ZRANGE", self._expiries, 0, -1, "WITHSCORES")])
        fields = [(*name[2:].decode().split(":", 1), int(ends)) for name, ends in names if name.startswith(b"c:")]
        tenants = sorted({tenant for tenant, _, _ in fields})
        sets = [(tenant, field) for tenant, field, _ in fields if field.split(":", 1)[0] in unique]
        buckets = [int(name[2:]) for name, _ in names if name.startswith(b"d:")]
        applied, config, counted, by, voids, *answers = await self._wire.transaction(
            [
                self._ask_applied,
                _command("GET", self._config),
                *(_command(name, self._terms) for name in _FIELDS),
                _command("HGETALL", self._voids),
                *(_command("HGETALL", keys.counters(*self._at, tenant)) for tenant in tenants),
                *(_command("SCARD", keys.uniques(*self._at, tenant, field)) for tenant, field in sets),
                *(_command("SCARD", keys.digests(*self._at, bucket)) for bucket in buckets),
            ]
        )
        ends = {(tenant, field): at for tenant, field, at in fields}
        texts = {
            (tenant, field.decode()): text.decode()
            for tenant, hash in zip(tenants, answers, strict=False)
            for field, text in hash.items()
        }
        sizes = answers[len(tenants) :]
        return Snapshot(
            _applied(applied),
            None if config is None else config.decode(),
            {tenant.decode(): text.decode() for tenant, text in zip(counted, by, strict=True)},
            texts,
            ends,
            dict(zip(sets, sizes, strict=False)),
            dict(zip(buckets, sizes[len(sets) :], strict=True)),
            {mark: _hours(text.decode()) for mark, text in voids.items()},
        )

    async def apply(self, expected: int, config: str, new: Applied, operations: Sequence[Operation]) -> bool:
        """Step 4: all of it if `applied` stands at offset `expected` and the counters are counted by `config`, else
        nothing (False)."""
        names, arguments = _encode(operations, first_key=3)
        fixed = pack([expected, config, *new])
        answer = await self._wire.script(_APPLY, [self._applied, self._config, *names], [fixed, *arguments])
        return bool(answer == 1)

    async def begin_rebuild(self, token: str) -> bool:
        """Remove `applied`, so that nobody trusts the state, then (chunk 1) drop the state itself.

        Fences off older rebuilds; False when a newer one has begun.
        """
        _, _, names = await self._wire.transaction(
            [
                _command("DEL", self._applied, self._vouched),
                _command("SET", self._rebuild, f"{token}:0"),
                _command("ZRANGE", self._expiries, 0, -1),
            ]
        )
        tenants = {name.split(b":", 2)[1].decode() for name in names if name.startswith(b"c:")}
        doomed = [_operation("UNLINK", keys.counters(*self._at, tenant)) for tenant in tenants]
        tenants = {name.split(b":", 2)[1].decode() for name in names if name.startswith(b"h:")}
        doomed += [_operation("UNLINK", keys.counted(*self._at, tenant)) for tenant in tenants]
        doomed += [one for one in self.drop(names) if one.command == b"UNLINK"]
        doomed += [_operation("UNLINK", key) for key in (self._voids, self._expiries, self._terms)]
        return await self.rebuild_chunk(token, 1, doomed)

    async def rebuild_chunk(self, token: str, number: int, operations: Sequence[Operation]) -> bool:
        """Chunk `number` (from 1) of the rebuild `token`; False when another rebuild has begun."""
        names, arguments = _encode(operations, first_key=3)
        fixed = pack([token, number - 1, number, "", "", ""])
        answer = await self._wire.script(_REBUILD, [self._rebuild, self._applied, *names], [fixed, *arguments])
        return bool(answer == 1)

    async def finish_rebuild(self, token: str, chunks: int, applied: Applied) -> bool:
        """The last chunk: the state is valid from now on; False when another rebuild has begun."""
        fixed = pack([token, chunks, "done", *applied])
        return bool(await self._wire.script(_REBUILD, [self._rebuild, self._applied], [fixed]) == 1)

    def add_digests(self, bucket: int, digests: Sequence[bytes], ends: int) -> list[Operation]:
        """Operations that put digests into a bucket that ends at clock `ends`."""
        return [
            Operation(b"SADD", keys.digests(*self._at, bucket), pack_digests(digests)),
            _operation("ZADD", self._expiries, ends, f"d:{bucket}"),
        ]

    def set_counters(self, tenant: str, texts: Sequence[str]) -> Operation:
        """`texts`: field, value, field, value..."""
        return _operation("HSET", keys.counters(*self._at, tenant), *texts)

    def add_uniques(self, tenant: str, field: str, values: Sequence[bytes]) -> Operation:
        """Values behind a `unique` counter, as digests."""
        return Operation(b"SADD", keys.uniques(*self._at, tenant, field), pack_digests(values))

    def expire_counters(self, ends: Sequence[tuple[int, str, str]]) -> Operation:
        """(clock at which it is dropped, tenant, field) of counters that are new."""
        flat: list[Any] = []
        for end, tenant, field in ends:
            flat += (end, f"c:{tenant}:{field}")
        return _operation("ZADD", self._expiries, *flat)

    def count_holds(self, fields: Mapping[str, Collection[str]], ends: int) -> list[Operation]:
        """Reservations (tenant → fields) whose usage is in the counters: they hold nothing, and are forgotten at clock
        `ends`."""
        if not fields:
            return []
        operations = []
        marks: list[Any] = []
        for tenant, own in fields.items():
            operations.append(_operation("HDEL", keys.holds(*self._at, tenant), *own))
            operations.append(
                _operation("HSET", keys.counted(*self._at, tenant), *(p for field in own for p in (field, "")))
            )
            marks += (part for field in own for part in (ends, f"h:{tenant}:{field}"))
        return [*operations, _operation("ZADD", self._expiries, *marks)]

    async def distrust_holds(self) -> None:
        """What was held may be used and not counted any more: nothing is reserved until none of it can last."""
        await self._wire.transaction([_command("HDEL", keys.holding(*self._at), "run")])

    def set_voids(self, index: VoidIndex) -> list[Operation]:
        """Replace these entries of the void index."""
        if not index:
            return []
        texts: list[Any] = []
        ends: list[Any] = []
        for mark, hours in index.items():
            texts += (mark, ",".join(f"{hour}:{end}" for hour, end in hours.items()))
            ends += (max(hours.values()), f"v:{mark.hex()}")
        return [_operation("HSET", self._voids, *texts), _operation("ZADD", self._expiries, *ends)]

    def drop_counter(self, tenant: str, field: str) -> Operation:
        """Remove a counter; what stands in `expiries` is dropped in its time."""
        return _operation("HDEL", keys.counters(*self._at, tenant), field)

    def set_counting(self, counting: Counting, tenants: Collection[str]) -> list[Operation]:
        """Remember how the counters are counted, those of these tenants by other terms than before."""
        told = {tenant: terms_text(counting.terms[tenant]) for tenant in tenants if tenant in counting.terms}
        gone = [tenant for tenant in tenants if tenant not in told]
        operations = [_operation("SET", self._config, counting.fingerprint)]
        if told:
            operations.append(_operation("HSET", self._terms, *(part for pair in told.items() for part in pair)))
        if gone:
            operations.append(_operation("HDEL", self._terms, *gone))
        return operations

    async def config(self) -> str | None:
        """The fingerprint that `set_counting` left."""
        (text,) = await self._wire.transaction([_command("GET", self._config)])
        return None if text is None else text.decode()

    def set_sequence(self, sequence: str) -> Operation:
        """Say that counters were replaced, though `applied` may stay (metering/feed.py)."""
        return _operation("SET", self._sequence, sequence)

    async def sequence(self) -> str:
        """What `set_sequence` left."""
        (text,) = await self._wire.transaction([_command("GET", self._sequence)])
        return "" if text is None else str(text.decode())

    async def publish(self, message: FeedMessage) -> None:
        """Tell the partition's readers, and vouch as the message does for who reads later."""
        vouch = _command("SET", self._vouched, message.as_of)
        await self._wire.transaction([vouch, _command("PUBLISH", self._feed, feed.encode(message))])

    async def counter_names(self, tenant: str | None) -> list[bytes]:
        """Names in `expiries` of the counters that exist, of one tenant or of all: for `drop`."""
        if tenant is None:
            (names,) = await self._wire.transaction([_command("ZRANGE", self._expiries, 0, -1)])
            return [name for name in names if name.startswith(b"c:")]
        (fields,) = await self._wire.transaction([_command("HKEYS", keys.counters(*self._at, tenant))])
        return [b"c:" + tenant.encode() + b":" + field for field in fields]

    def push(self, crossings: Sequence[Crossing]) -> Operation:
        """Put crossings into the outbox; one that is there already stays one."""
        return _operation("HSET", self._outbox, *(part for each in crossings for part in (each.id, encode(each))))

    async def push_now(self, crossings: Sequence[Crossing]) -> None:
        """`push` apart from a batch: needs no fence, for whoever finds a crossing finds the same."""
        if crossings:
            push = self.push(crossings)
            await self._wire.transaction([command(pack([push.command, push.key]), push.arguments)])

    async def counters(self, tenants: Sequence[str]) -> tuple[Applied | None, str | None, list[dict[bytes, bytes]]]:
        """Where the state stands and how it is counted (the fingerprint), and each tenant's counters, field → text."""
        questions = [(_command(name, keys.counters(*self._at, tenant))) for tenant in tenants for name in _FIELDS]
        asked = [self._ask_applied, _command("GET", self._config), *questions]
        applied, config, *found = await self._wire.transaction(asked)
        both = zip(found[::2], found[1::2], strict=True)
        counting = None if config is None else config.decode()
        return _applied(applied), counting, [dict(zip(fields, texts, strict=True)) for fields, texts in both]

    async def outbox(self) -> dict[bytes, bytes]:
        """Id → message of the crossings that wait."""
        ids, messages = await self._wire.transaction([_command("HKEYS", self._outbox), _command("HVALS", self._outbox)])
        return dict(zip(ids, messages, strict=True))

    async def remove_from_outbox(self, ids: Sequence[bytes]) -> None:
        """Crossings that Kafka has."""
        await self._wire.transaction([_command("HDEL", self._outbox, *ids)])

    def drop(self, expired: Sequence[bytes]) -> list[Operation]:
        """Operations that drop what the clock has closed."""
        if not expired:
            return []
        operations: list[Operation] = []
        fields: dict[str, list[str]] = {}
        counted: dict[str, list[str]] = {}
        for name in expired:
            kind, _, rest = name.decode().partition(":")
            if kind == "d":
                operations.append(_operation("UNLINK", keys.digests(*self._at, int(rest))))
            elif kind == "v":
                operations.append(_operation("HDEL", self._voids, *voids_of([name])))
            elif kind == "h":
                tenant, _, field = rest.partition(":")
                counted.setdefault(tenant, []).append(field)
            else:
                tenant, _, field = rest.partition(":")
                fields.setdefault(tenant, []).append(field)
                operations.append(_operation("UNLINK", keys.uniques(*self._at, tenant, field)))
        for tenant, closed in fields.items():
            operations.append(_operation("HDEL", keys.counters(*self._at, tenant), *closed))
        for tenant, closed in counted.items():
            operations.append(_operation("HDEL", keys.counted(*self._at, tenant), *closed))
        operations.append(_operation("ZREM", self._expiries, *expired))
        return operations


def _command(*words: Any) -> bytes:
    return command(pack(words))


def _operation(name: str, key: str, *arguments: Any) -> Operation:
    return Operation(name.encode(), key, pack(arguments))


def _applied(answer: Sequence[bytes | None]) -> Applied | None:
    offset, checksum, clock = answer
    if offset is None or checksum is None or clock is None:
        return None
    return Applied(int(offset), int(checksum), int(clock))


def voids_of(expired: Sequence[bytes]) -> list[bytes]:
    """The marks of void index entries among names that have expired."""
    return [bytes.fromhex(name[2:].decode()) for name in expired if name.startswith(b"v:")]


def _hours(text: str) -> dict[int, int]:
    return {int(hour): int(end) for hour, _, end in (entry.partition(":") for entry in text.split(","))}


def _encode(operations: Sequence[Operation], first_key: int) -> tuple[list[str], list[Packed]]:
    """Key names, and the arguments in which operations name keys by their index in KEYS."""
    index: dict[str, int] = {}
    arguments: list[Packed] = []
    for name, key, given in operations:
        number = index.setdefault(key, len(index) + first_key)
        arguments += (pack([name, number, given.size]), given)
    return list(index), arguments
