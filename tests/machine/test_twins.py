"""The twins do not lie: whatever writers asked and wrote in a schedule, the real engines answer the same to.

Backups are left out (a twin's is a copy), and when a mark may be set, which hangs on the wall clock (tests/integration/
streams/test_marks.py).
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest_asyncio
from redis.asyncio import Redis
from redis.exceptions import RedisError

from local import valkey
from streams.inserts import Inserts
from streams.ledger import PartitionLedger, connect, migrate
from streams.wire import command, pack
from tests.engines import Program
from tests.machine.ledger_twin import LedgerTwin, Tables
from tests.machine.play import play
from tests.machine.redis_twin import RedisStore, _Connection
from tests.machine.schedule import draw
from tests.support import eventually, free_port

_SEEDS = range(40)
_TIME = command(pack([b"TIME"]))
_REDIS_CHANGES = ("fail", "old redis", "flush", "rebuild")
_LEDGER_CHANGES = ("fail", "old ledger", "power cut", "merge")
_TABLES = {
    "events": "usage_events",
    "voids": "usage_voids",
    "dead": "dead_letters",
    "frames": "usage_frames",
    "marks": "usage_marks",
}
_ASKED = (
    *("mark", "prefix", "accounted", "frame_at", "closing_at", "closed_partitions", "late_rows", "named_rows"),
    *("voids_since", "rows_match_frames", "clock_before_epoch", "counters"),
)


def played(seed: int, without: Sequence[str]) -> AssertionError | None:
    """Play a schedule without some actions: every call is heard, a store stays as it is. At its end a writer looks
    around."""
    actions = [action for action in draw(seed) if action[0] not in without]
    return play([*actions, *[("crash", 0)] * 3, ("start", -1, 0, 3), *[("step", 0, 60)] * 6])


@pytest_asyncio.fixture
async def redis(tmp_path: Path) -> AsyncIterator[Redis]:
    port = free_port()
    program = Program("redis", valkey.command(port, tmp_path / "redis"), tmp_path / "redis.log")
    program.start()
    client = Redis.from_url(f"redis://127.0.0.1:{port}/0", protocol=3)
    try:
        await eventually(client.ping, 30)
        yield client
    finally:
        await client.aclose()
        program.kill()


@pytest_asyncio.fixture
async def clickhouse(tmp_path: Path) -> AsyncIterator[Any]:
    port = free_port()
    argv = [sys.executable, "-m", "local.clickhouse", "--port", str(port), "--path", str(tmp_path / "clickhouse")]
    program = Program("clickhouse", argv, tmp_path / "clickhouse.log")
    program.start()
    try:
        client = await eventually(lambda: connect(f"http://127.0.0.1:{port}"), 30)
        await migrate(client)
        yield client
        await client.close()
    finally:
        program.kill()


Exchange = tuple[Sequence[bytes], list[Any]]


@contextmanager
def heard_by_redis() -> Iterator[list[Exchange]]:
    """What is sent to the twin, and what it answers."""
    heard: list[Exchange] = []
    run = _Connection._run

    def noted(self: _Connection, packed: Sequence[bytes], words: Sequence[list[bytes]]) -> list[Any]:
        answers = run(self, packed, words)
        heard.append((packed, list(answers)))
        return answers

    with patch.object(_Connection, "_run", noted):
        yield heard


async def test_redis_answers_every_command_of_a_schedule_like_its_twin(redis: Redis) -> None:
    commands = 0
    for seed in _SEEDS:
        with heard_by_redis() as heard:
            assert await asyncio.to_thread(played, seed, _REDIS_CHANGES) is None
        await redis.flushall()
        await redis.script_flush()
        pool: Any = redis.connection_pool
        connection = await pool.get_connection()
        for packed, expected in heard:
            await connection.send_packed_command(list(packed))
            answers = [await _answer(connection) for _ in expected]
            if _TIME in packed:  # the last of what a transaction asks: nobody expects the twin to know it
                answers[-1].pop()
                expected[-1].pop()
            assert _comparable(answers) == _comparable(expected), f"seed {seed}: {packed!r}"
            commands += len(packed)
        await pool.release(connection)
    assert commands > 5000


async def _answer(connection: Any) -> Any:
    try:
        return await connection.read_response()
    except RedisError as error:
        return error


def _comparable(answers: list[Any]) -> list[Any]:
    return [type(answer).__name__ if isinstance(answer, Exception) else answer for answer in answers]


Asked = tuple[str, tuple[int, int], int, tuple[Any, ...], Any]
"""A method of the ledger or an insert, of the writer of which partition of how many, with what, and the answer."""


@contextmanager
def heard_by_clickhouse() -> Iterator[list[Asked]]:
    """What writers and replays do with the ledger's twin, and what it answers; shadows are left out."""
    heard: list[Asked] = []
    ledgers: list[Tables] = []

    def hear(twin: LedgerTwin, name: str, arguments: tuple[Any, ...], answer: Any) -> None:
        if not ledgers:
            ledgers.append(twin.tables)
        if twin.tables is ledgers[0]:
            heard.append((name, twin.at, twin.partitions, arguments, answer))

    insert, digests_since, marked = LedgerTwin._insert, LedgerTwin.digests_since, Tables.insert

    def noting(name: str) -> Callable[..., Awaitable[Any]]:
        method = getattr(LedgerTwin, name)

        async def noted(self: LedgerTwin, *arguments: Any) -> Any:
            answer = await method(self, *arguments)
            hear(self, name, arguments, answer)
            return answer

        return noted

    async def inserted(self: LedgerTwin, table: Any, blocks: Sequence[bytes]) -> None:
        for block in blocks:
            await insert(self, table, [block])
            hear(self, "insert", (table, block), None)

    async def digests(self: LedgerTwin, *arguments: Any) -> AsyncIterator[Any]:
        async for rows in digests_since(self, *arguments):
            hear(self, "digests_since", arguments, rows)
            yield rows

    def mark(self: Tables, table: Any, rows: Any) -> None:
        marked(self, table, rows)
        if table == "marks":
            heard.append(("set_mark", (0, 0), 1, (rows[0],), None))

    with ExitStack() as patches:
        for name in _ASKED:
            patches.enter_context(patch.object(LedgerTwin, name, noting(name)))
        patches.enter_context(patch.object(LedgerTwin, "_insert", inserted))
        patches.enter_context(patch.object(LedgerTwin, "digests_since", digests))
        patches.enter_context(patch.object(Tables, "insert", mark))
        yield heard


async def test_clickhouse_answers_every_question_of_a_schedule_like_its_twin(clickhouse: Any) -> None:
    inserts, answered = Inserts(clickhouse), set()
    for seed in _SEEDS[:20]:
        with heard_by_clickhouse() as heard:
            assert await asyncio.to_thread(played, seed, _LEDGER_CHANGES) is None
        for table in _TABLES.values():
            await clickhouse.command(f"TRUNCATE TABLE {table}")
        for name, at, partitions, arguments, expected in heard:
            ledger = PartitionLedger(clickhouse, inserts, *at, partitions)
            if name == "insert":
                await inserts.insert(_TABLES[arguments[0]], [arguments[1]])
            elif name == "set_mark":
                await clickhouse.insert("usage_marks", [list(arguments[0].values())], column_names=list(arguments[0]))
            else:
                found = await _ask(ledger, name, arguments)
                assert _sorted(found) == _sorted(expected), f"seed {seed}: {name}{arguments} of {at}"
                answered.add((name, bool(found)))
    missing = {(name, True) for name in (*_ASKED, "digests_since")} - answered
    assert not missing, f"never asked, or never answered with anything: {missing}"


async def _ask(ledger: PartitionLedger, name: str, arguments: tuple[Any, ...]) -> Any:
    if name == "digests_since":
        return [row async for rows in ledger.digests_since(*arguments) for row in rows]
    return await getattr(ledger, name)(*arguments)


def _sorted(answer: Any) -> Any:
    """Rows come in any order."""
    if isinstance(answer, tuple) and type(answer) is tuple:
        return tuple(map(_sorted, answer))
    if isinstance(answer, dict):
        return {key: _sorted(value) for key, value in answer.items()}
    if isinstance(answer, list):
        return sorted(map(_row, answer), key=repr)
    return answer


def _row(row: Any) -> Any:
    return tuple(sorted(part) if isinstance(part, list) else part for part in row)


def test_a_backup_of_the_redis_twin_is_what_stood_in_it() -> None:
    store = RedisStore()
    store.run([b"SADD", b"set", b"a"])
    store.run([b"HSET", b"hash", b"f", b"1"])
    copy = store.copy()
    store.run([b"SADD", b"set", b"b"])
    store.run([b"HSET", b"hash", b"f", b"2"])
    store.put_back(copy)
    assert (store.members(b"set"), store.hash(b"hash")) == ({b"a"}, {b"f": b"1"})
