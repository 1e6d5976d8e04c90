"""The embedded ClickHouse as clients see it: what production's server does with the same requests, this one does."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import json
import os
import signal
import subprocess
import sys
import zlib
from collections.abc import AsyncIterator, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import aiohttp
import clickhouse_connect
import lz4.frame
import pytest
from backports import zstd
from clickhouse_connect.driver.exceptions import DatabaseError

from local.ports import HOST, free_ports
from local.probes import http_ok
from streams.ledger import connect, migrate
from tests.support import eventually

_ROOT = Path(__file__).parents[3]
_HUGE = Decimal("12345678901234567890123456789.123456789")
_HUGE_NANOS = 12345678901234567890123456789123456789


class Server:
    """The process, on a port and a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.port = folder, free_ports(1)[0]
        self.url = f"http://{HOST}:{self.port}"
        self._process: subprocess.Popen[bytes] | None = None

    def begin(self) -> subprocess.Popen[bytes]:
        argv = [sys.executable, "-m", "local.clickhouse", "--port", str(self.port), "--path", str(self.folder)]
        environment = {**os.environ, "TZ": "Asia/Tokyo"}
        self._process = subprocess.Popen(argv, cwd=_ROOT, env=environment, stderr=subprocess.PIPE)
        return self._process

    async def start(self) -> None:
        self.begin()
        await eventually(lambda: http_ok(f"{self.url}/ping"), timeout=60, what="the server's ping")

    def end(self, number: signal.Signals) -> int:
        """Send the signal; the exit code."""
        assert self._process is not None
        self._process.send_signal(number)
        self._process.communicate(timeout=30)
        return self._process.returncode


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("clickhouse"))
    asyncio.run(server.start())
    yield server
    server.end(signal.SIGTERM)


@pytest.fixture
async def client(server: Server) -> AsyncIterator[Any]:
    """As the ledger connects; with its tables."""
    client = await connect(server.url)
    await migrate(client)
    yield client
    await client.close()


@pytest.fixture
async def http(server: Server) -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(server.url) as session:
        yield session


@pytest.fixture
async def table(client: Any) -> AsyncIterator[str]:
    await client.command("CREATE TABLE pairs (a UInt64, b String) ENGINE = MergeTree ORDER BY a")
    yield "pairs"
    await client.command("DROP TABLE pairs")


async def rows_of(client: Any, table: str) -> list[tuple[int, str]]:
    return list((await client.query(f"SELECT a, b FROM {table} ORDER BY a")).result_rows)


def test_the_sync_client_queries_inserts_and_commands(server: Server) -> None:
    client = clickhouse_connect.get_client(host=HOST, port=server.port)
    client.command("CREATE TABLE sync (a UInt64, b String) ENGINE = MergeTree ORDER BY a")
    assert client.insert("sync", [[1, "x"], [2, "y"]], column_names=["a", "b"]).written_rows == 2
    client.raw_insert("sync", ["a", "b"], b"3\tz\n", fmt="TabSeparated")
    assert client.query("SELECT * FROM sync WHERE b > {b:String} ORDER BY a", parameters={"b": "x"}).result_rows == [
        (2, "y"),
        (3, "z"),
    ]
    assert client.raw_query("SELECT count() FROM sync", fmt="CSV") == b"3\n"
    client.command("DROP TABLE sync")
    client.close()


@pytest.mark.parametrize("compression", [False, "lz4", "zstd", "gzip"])
async def test_the_async_client_inserts_columns_however_it_compresses_them(
    server: Server, client: Any, table: str, compression: str | bool
) -> None:
    other = await clickhouse_connect.get_async_client(host=HOST, port=server.port, compress=compression)
    expected = [(number, f"é\t{number}" * 50) for number in range(20_000)]
    summary = await other.insert(table, expected, column_names=["a", "b"])
    assert summary.written_rows == len(expected)
    assert await rows_of(other, table) == expected
    async with await other.raw_stream(f"SELECT a FROM {table} ORDER BY a LIMIT 3", fmt="CSV") as stream:
        assert b"".join([chunk async for chunk in stream]) == b"0\n1\n2\n"
    await other.close()


@pytest.mark.parametrize(
    ("encoding", "body"),
    [
        ("lz4", lz4.frame.compress(b"1\tx\n") + lz4.frame.compress(b"2\ty\n")),
        ("gzip", gzip.compress(b"1\tx\n") + gzip.compress(b"2\ty\n")),
        ("zstd", zstd.compress(b"1\tx\n") + zstd.compress(b"2\ty\n")),
        ("deflate", zlib.compress(b"1\tx\n2\ty\n")),
    ],
    ids=["lz4", "gzip", "zstd", "deflate"],  # gzip's bytes tell the time, and processes side by side compare ids
)
async def test_every_frame_of_a_compressed_body_counts(
    http: aiohttp.ClientSession, client: Any, table: str, encoding: str, body: bytes
) -> None:
    query = {"query": f"INSERT INTO {table} FORMAT TabSeparated"}
    async with http.post("/", params=query, data=body, headers={"Content-Encoding": encoding}) as answer:
        assert answer.status == 200, await answer.text()
        assert json.loads(answer.headers["X-ClickHouse-Summary"])["written_rows"] == "2"
    assert await rows_of(client, table) == [(1, "x"), (2, "y")]
    async with http.post("/", params=query, data=body[:-5], headers={"Content-Encoding": encoding}) as answer:
        assert (answer.status, answer.headers["X-ClickHouse-Exception-Code"]) == (400, "271")
    assert await rows_of(client, table) == [(1, "x"), (2, "y")], "a body cut short writes nothing"


async def test_an_unknown_compression_is_refused(http: aiohttp.ClientSession, table: str) -> None:
    async with http.post("/", data=b"SELECT 1", headers={"Content-Encoding": "snappy"}) as answer:
        assert (answer.status, answer.headers["X-ClickHouse-Exception-Code"]) == (400, "89")


async def test_exact_quantities_go_through_native_and_row_binary_and_final(client: Any) -> None:
    await client.command(
        "CREATE TABLE exact (k String, q Map(LowCardinality(String), Decimal(38, 9)), version UInt64) "
        "ENGINE = ReplacingMergeTree(version) ORDER BY k"
    )
    await client.insert("exact", [["a", {"m": _HUGE}, 1]], column_names=["k", "q", "version"])
    row = b"\x01b" + b"\x01\x01m" + _HUGE_NANOS.to_bytes(16, "little") + (1).to_bytes(8, "little")
    await client.raw_insert("exact", ["k", "q", "version"], row, fmt="RowBinary")
    for version in (3, 2):
        await client.insert("exact", [["a", {"m": _HUGE.copy_negate()}, version]], column_names=["k", "q", "version"])
    rows = (await client.query("SELECT k, q['m'], version FROM exact FINAL ORDER BY k")).result_rows
    assert rows == [("a", _HUGE.copy_negate(), 3), ("b", _HUGE, 1)]
    await client.command("DROP TABLE exact")


async def test_ten_thousand_tuples_are_one_parameter(client: Any, table: str) -> None:
    await client.insert(table, [[number, f"it's\t{number}"] for number in range(0, 20_000, 2)], column_names=["a", "b"])
    asked = [(number, f"it's\t{number}") for number in range(10_000)]
    result = await client.query(
        f"SELECT count() FROM {table} WHERE (a, b) IN {{keys:Array(Tuple(UInt64, String))}}", parameters={"keys": asked}
    )
    assert result.result_rows == [(5000,)]


@pytest.mark.parametrize("value", ["", "it's", 'a\t"b"\n\\N', "\\'); DROP TABLE x", "☃" * 1000])
async def test_a_text_parameter_arrives_as_it_was(server: Server, value: str) -> None:
    for form in (True, False):
        client = await clickhouse_connect.get_async_client(
            host=HOST, port=server.port, form_encode_query_params=form, autogenerate_session_id=False
        )
        assert (await client.query("SELECT {value:String}", parameters={"value": value})).result_rows == [(value,)]
        await client.close()


async def test_a_long_url_is_read(http: aiohttp.ClientSession) -> None:
    async with http.post("/", params={"query": f"SELECT length('{'x' * 200_000}')"}) as answer:
        assert await answer.text() == "200000\n"


async def test_settings_hold_for_their_own_statement_only(client: Any, table: str) -> None:
    line = b'{"a": 1, "b": "x", "unknown": 1}'
    with pytest.raises(DatabaseError, match="Unknown field"):
        await client.raw_insert(table, None, line, fmt="JSONEachRow", settings={"input_format_skip_unknown_fields": 0})
    await client.raw_insert(table, None, line, fmt="JSONEachRow", settings={"input_format_skip_unknown_fields": 1})
    assert await rows_of(client, table) == [(1, "x")]
    usual = (await client.query("SELECT getSetting('max_block_size')")).result_rows
    changed = await client.query("SELECT getSetting('max_block_size')", settings={"max_block_size": 777})
    assert changed.result_rows == [(777,)]
    for number in range(20):
        if number < 10:
            await client.command("SET max_block_size = 778")
        assert (await client.query("SELECT getSetting('max_block_size')")).result_rows == usual


async def test_a_setting_is_no_way_into_the_statement(http: aiohttp.ClientSession) -> None:
    for name, value in (("max_threads = 1, max_rows_to_read", "1"), ("max_threads", "1', max_rows_to_read = '1")):
        async with http.post("/", params={name: value}, data=b"SELECT 1") as answer:
            assert answer.status >= 400, "an unknown name, or no number"


async def test_the_database_of_a_request_is_used_for_it_alone(http: aiohttp.ClientSession, client: Any) -> None:
    await client.command("CREATE DATABASE IF NOT EXISTS other")
    for database in ("other", "default", "other", ""):
        async with http.post("/", params={"database": database}, data=b"SELECT currentDatabase()") as answer:
            assert await answer.text() == f"{database or 'default'}\n"


async def test_answers_carry_the_servers_headers(http: aiohttp.ClientSession) -> None:
    async with http.post("/", params={"query_id": "q1"}, data=b"SELECT timezone(), toDateTime(0) FORMAT CSV") as answer:
        assert await answer.text() == '"UTC","1970-01-01 00:00:00"\n', "whatever the machine's own zone is"
        assert {name: answer.headers[f"X-ClickHouse-{name}"] for name in ("Query-Id", "Format", "Timezone")} == {
            "Query-Id": "q1",
            "Format": "CSV",
            "Timezone": "UTC",
        }
        assert json.loads(answer.headers["X-ClickHouse-Summary"])["read_rows"] == "1"
        assert "X-ClickHouse-Server-Display-Name" in answer.headers


@pytest.mark.parametrize(
    ("statement", "status", "code"),
    [
        ("SELEC 1", 400, "62"),
        ("", 400, "62"),
        ("SELECT * FROM nowhere", 404, "60"),
        ("SELECT nothing", 404, "47"),
        ("SELECT 1 FORMAT Nothing", 404, "73"),
        ("SELECT throwIf(1)", 500, "395"),
        ("INSERT INTO nowhere FORMAT CSV\n1", 404, "60"),
    ],
)
async def test_an_error_has_the_servers_status_code_and_text(
    http: aiohttp.ClientSession, statement: str, status: int, code: str
) -> None:
    async with http.post("/", data=statement.encode()) as answer:
        assert (answer.status, answer.headers["X-ClickHouse-Exception-Code"]) == (status, code)
        assert (await answer.text()).startswith(f"Code: {code}. DB::Exception: ")


@pytest.mark.parametrize("form", ["Native", "RowBinary", "JSONEachRow"])
async def test_broken_rows_write_nothing_and_the_next_request_works(
    http: aiohttp.ClientSession, client: Any, table: str, form: str
) -> None:
    for _ in range(6):
        async with http.post("/", params={"query": f"INSERT INTO {table} FORMAT {form}"}, data=b"\x01\x02{") as answer:
            assert answer.status >= 400
    assert await rows_of(client, table) == []


async def test_a_get_only_reads(http: aiohttp.ClientSession, client: Any, table: str) -> None:
    for query in (f"INSERT INTO {table} VALUES (1, 'x')", f"INSERT INTO {table} FORMAT CSV 1,x", f"TRUNCATE {table}"):
        async with http.get("/", params={"query": query}) as answer:
            assert answer.headers["X-ClickHouse-Exception-Code"] == "164"
    async with http.get("/", params={"query": f"SELECT count() FROM {table}"}) as answer:
        assert await answer.text() == "0\n"


async def test_long_reads_hold_up_no_insert(client: Any, table: str) -> None:
    slow = "SELECT sleepEachRow(1) FROM numbers(2) SETTINGS max_block_size = 1"
    reads = [asyncio.create_task(client.query(slow)) for _ in range(12)]
    try:
        for _ in range(5):
            await client.raw_insert(table, None, b"1,x", fmt="CSV")
        assert not any(read.done() for read in reads)
    finally:
        for read in reads:
            read.cancel()
        await asyncio.gather(*reads, return_exceptions=True)


@pytest.mark.parametrize(("number", "exit_code"), [(signal.SIGTERM, 0), (signal.SIGKILL, -signal.SIGKILL)])
async def test_acknowledged_rows_survive_the_end(tmp_path: Path, number: signal.Signals, exit_code: int) -> None:
    server = Server(tmp_path)
    await server.start()
    client = await connect(server.url)
    await client.command("CREATE TABLE kept (a UInt64) ENGINE = MergeTree ORDER BY a")
    for value in range(20):
        await client.raw_insert("kept", None, str(value).encode(), fmt="CSV")
    with contextlib.suppress(Exception):  # the end may cut the connection
        await client.close()
    assert server.end(number) == exit_code
    await server.start()
    try:
        client = await connect(server.url)
        assert (await client.query("SELECT count(), max(a) FROM kept")).result_rows == [(20, 19)]
        await client.close()
    finally:
        server.end(signal.SIGTERM)


def test_a_second_process_on_the_same_data_is_refused(server: Server) -> None:
    second = Server(server.folder)
    try:
        _, said = second.begin().communicate(timeout=60)
        assert f"cannot open {server.folder}: does another process have it open?" in said.decode()
    finally:
        assert second.end(signal.SIGTERM) == 1


def test_a_port_in_use_is_named(server: Server, tmp_path: Path) -> None:
    second = Server(tmp_path)
    second.port = server.port
    try:
        _, said = second.begin().communicate(timeout=60)
        assert f"cannot listen on {HOST}:{server.port}" in said.decode()
    finally:
        assert second.end(signal.SIGTERM) == 1
