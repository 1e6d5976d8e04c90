"""ClickHouse's own HTTP interface over the embedded engine chDB: `python -m local.clickhouse --port P --path DIR`.

Enough of it for clickhouse-connect's sync and async clients: statements in the query string, the body or a form;
INSERT data in any format, passed to the engine as it came; query parameters, settings, compressed bodies, errors with
their codes. Not here: sessions (each request stands alone), users, compressed answers. One process per path.

Measured on two busy cores, bodies of 10,000 rows of usage_events (400 bytes a row), one after the other, six runs:
Native 157,000 to 241,000 rows/s (median 168,000), RowBinary 114,000 to 267,000 (median 160,000).
"""

from __future__ import annotations

import argparse
import asyncio
import gzip
import json
import os
import re
import signal
import sys
import threading
import uuid
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import lz4.frame
import uvloop
from aiohttp import web
from backports import zstd

from local.clickhouse_statement import Session, Statement, parse
from local.ports import HOST

_READERS = 6
_INSERTERS = 4
_MAX_BODY = 1 << 30
_MAX_LINE = 1 << 20
_DRAIN_SECONDS = 10
_CODE = re.compile(r"Code: (\d+)\..*", re.DOTALL)
_UNKNOWN = "1002"
_STATUS = {
    **dict.fromkeys((6, 8, 15, 25, 26, 27, 36, 38, 41, 44, 53, 62, 72, 117, 167, 168, 223, 321, 376, 427), 400),
    **dict.fromkeys((46, 47, 50, 56, 60, 63, 73, 78, 81, 115, 336), 404),
    48: 501,
    76: 503,
    159: 408,
}
"""Error code → HTTP status, as a ClickHouse server has them; 500 for the others."""


class Answer(NamedTuple):
    """What a statement gave: bytes in its format, and the counts of X-ClickHouse-Summary."""

    body: bytes
    summary: dict[str, int]


class Engine:
    """chDB behind threads with a connection each. Inserts have threads of their own: long reads do not hold them up."""

    def __init__(self, path: Path) -> None:
        """Raises RuntimeError when `path` cannot be opened, as when another process has it open."""
        import chdb  # takes its time zone from the environment when it is loaded

        self._connect: Callable[[], Any] = lambda: chdb.connect(str(path))
        self._first = self._connect()  # while it is open the engine stays up
        self._local = threading.local()
        self._readers = ThreadPoolExecutor(_READERS, thread_name_prefix="read")
        self._inserters = ThreadPoolExecutor(_INSERTERS, thread_name_prefix="insert")

    async def run(self, statement: Statement) -> Answer:
        """Raises RuntimeError with the engine's text."""
        pool = self._readers if statement.data is None else self._inserters
        return await asyncio.get_running_loop().run_in_executor(pool, self._run, statement)

    def close(self) -> None:
        """Wait for what runs."""
        for pool in (self._readers, self._inserters):
            pool.shutdown(cancel_futures=True)

    def _run(self, statement: Statement) -> Answer:
        connection = self._connection(statement.session)
        try:
            return _execute(connection, statement)
        finally:
            if statement.changes_session:
                self._forget()

    def _connection(self, session: Session) -> Any:
        """This thread's connection. It is kept while requests bring the same settings, as one client's do."""
        if getattr(self._local, "session", None) != session:
            self._forget()
            connection = self._connect()
            try:
                _prepare(connection, session)
            except RuntimeError:
                connection.close()
                raise
            self._local.connection, self._local.session = connection, session
        return self._local.connection

    def _forget(self) -> None:
        if getattr(self._local, "session", None) is not None:
            self._local.session = None
            self._local.connection.close()


def _prepare(connection: Any, session: Session) -> None:
    if session.database:
        connection.query(f"USE {_quoted(session.database, '`')}")
    settings = dict(session.settings)
    if session.readonly:
        settings["readonly"] = "2"  # last: it forbids no setting, but that of itself
    if settings:
        # A name that is not one must not become part of the statement.
        parts = [f"{_quoted(name, '`')} = {_quoted(value, chr(39))}" for name, value in settings.items()]
        connection.query(f"SET {', '.join(parts)}")


def _execute(connection: Any, statement: Statement) -> Answer:
    if statement.data is None:
        result = connection.query(statement.sql, statement.format, params=statement.parameters or None)
        counts = {name: getattr(result, name)() for name in ("rows_read", "bytes_read", "rows_written")}
        return Answer(bytes(result.bytes() or b""), _summary(**counts, seconds=result.elapsed()))
    inserter = connection.send_insert(statement.sql, statement.format)
    inserter.append(statement.data)
    written = inserter.finish()
    return Answer(b"", _summary(0, 0, written.rows_written, written.elapsed))


def _summary(rows_read: int, bytes_read: int, rows_written: int, seconds: float) -> dict[str, int]:
    return {
        "read_rows": rows_read,
        "read_bytes": bytes_read,
        "written_rows": rows_written,
        "elapsed_ns": int(seconds * 1e9),
    }


def _quoted(text: str, mark: str) -> str:
    return mark + text.replace("\\", "\\\\").replace(mark, "\\" + mark) + mark


def _lz4(body: bytes) -> bytes:
    """All frames of `body`: lz4.frame.decompress stops after the first in silence."""
    parts = []
    while body:
        frame = lz4.frame.LZ4FrameDecompressor()
        parts.append(frame.decompress(body))
        if not frame.eof:
            raise ValueError("the last lz4 frame is not complete")
        body = frame.unused_data or b""
    return b"".join(parts)


_UNCOMPRESS: dict[str, Callable[[bytes], bytes]] = {
    "lz4": _lz4,
    "gzip": gzip.decompress,
    "deflate": zlib.decompress,
    "zstd": zstd.decompress,
}


def _uncompressed(body: bytes, encoding: str) -> bytes:
    if encoding not in _UNCOMPRESS:
        raise ValueError(f"Code: 89. DB::Exception: Unknown compression method {encoding}.")
    try:
        return _UNCOMPRESS[encoding](body)
    except (ValueError, RuntimeError, OSError, EOFError, zlib.error, zstd.ZstdError) as error:
        raise ValueError(f"Code: 271. DB::Exception: Cannot decompress the body as {encoding}: {error}.") from error


async def read_statement(request: web.Request) -> Statement:
    """The statement of a request. Raises ValueError for what makes none."""
    fields: dict[str, str] = dict(request.query)
    body = b""
    if request.content_type == "multipart/form-data":
        for name, value in (await request.post()).items():
            fields[name] = value.file.read().decode() if isinstance(value, web.FileField) else str(value)
    else:
        body = await request.read()
        encoding = request.headers.get("Content-Encoding", "identity").lower()
        if body and encoding != "identity":
            body = await asyncio.to_thread(_uncompressed, body, encoding)
    return parse(fields, body, readonly=request.method in ("GET", "HEAD"))


ENGINE = web.AppKey("engine", Engine)


async def handle(request: web.Request) -> web.Response:
    """Any statement."""
    headers = {
        "X-ClickHouse-Server-Display-Name": "chdb",
        "X-ClickHouse-Query-Id": request.query.get("query_id") or str(uuid.uuid4()),
        "X-ClickHouse-Timezone": "UTC",
        "X-ClickHouse-Summary": "{}",
    }
    try:
        statement = await read_statement(request)
        answer = await request.app[ENGINE].run(statement)
    except (RuntimeError, ValueError) as error:
        found = _CODE.search(str(error))
        code = found[1] if found else _UNKNOWN
        status = _STATUS.get(int(code), 400 if isinstance(error, ValueError) else 500)
        headers["X-ClickHouse-Exception-Code"] = code
        return web.Response(status=status, text=f"{found[0] if found else error}\n", headers=headers)
    headers["X-ClickHouse-Format"] = statement.format
    headers["X-ClickHouse-Summary"] = json.dumps({name: str(value) for name, value in answer.summary.items()})
    return web.Response(body=answer.body, headers=headers)


async def ping(request: web.Request) -> web.Response:
    """ClickHouse's own health check."""
    return web.Response(text="Ok.\n")


async def serve(engine: Engine, port: int) -> None:
    """Run until SIGTERM or SIGINT."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    app = web.Application(client_max_size=_MAX_BODY)
    app[ENGINE] = engine
    app.router.add_get("/ping", ping)
    app.router.add_route("*", "/", handle)
    runner = web.AppRunner(
        app,
        access_log=None,
        auto_decompress=False,
        max_line_size=_MAX_LINE,
        max_field_size=_MAX_LINE,
        shutdown_timeout=_DRAIN_SECONDS,
    )
    await runner.setup()
    try:
        await web.TCPSite(runner, HOST, port).start()
        await stop.wait()
    finally:
        await runner.cleanup()
        engine.close()


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--path", type=Path, required=True, help="where the data is kept")
    options = parser.parse_args()
    options.path.mkdir(parents=True, exist_ok=True)
    os.environ["TZ"] = "UTC"  # what times without a zone mean must not depend on the machine
    try:
        engine = Engine(options.path)
    except RuntimeError as error:
        sys.exit(f"cannot open {options.path}: does another process have it open? {error}")
    try:
        uvloop.run(serve(engine, options.port))
    except OSError as error:
        sys.exit(f"cannot listen on {HOST}:{options.port}: {error}")


if __name__ == "__main__":
    main()
