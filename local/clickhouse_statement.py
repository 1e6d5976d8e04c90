"""What one request to ClickHouse's HTTP interface asks for, taken from its query string, form fields and body."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

_TRANSPORT = frozenset(
    (
        *("query", "database", "default_format", "query_id", "user", "password", "role", "quota_key", "session_id"),
        *("session_timeout", "session_check", "compress", "decompress", "enable_http_compression", "buffer_size"),
        *("wait_end_of_query", "send_progress_in_http_headers", "http_headers_progress_interval_ms"),
        "client_protocol_version",
    )
)
"""Fields that speak about the connection and not about the statement."""

_TOKEN = re.compile(
    rb"""\s+|--[^\n]*|/\*.*?\*/|'(?:[^'\\]|\\.)*'|`(?:[^`\\]|\\.)*`|"(?:[^"\\]|\\.)*"|(?P<word>\w+)|(?P<mark>.)""",
    re.DOTALL,
)
_FORMAT_NAME = re.compile(rb"\s+(\w+)[ \t\f]*\r?\n?")
_OUTPUT_FORMAT = re.compile(r"(?is)\bFORMAT\s+(\w+)(?:\s+SETTINGS\b[^']*)?\s*;?\s*\Z")
_SESSION = re.compile(r"(?is)\s*(?:SET|USE|CREATE\s+TEMPORARY)\b")


class Session(NamedTuple):
    """What a connection must have been told before it runs a statement: nothing else, and nothing of earlier ones."""

    database: str = ""
    settings: tuple[tuple[str, str], ...] = ()
    readonly: bool = False


class Statement(NamedTuple):
    """One request. `data` is what an INSERT writes, in `format`; None: the engine finds all it needs in `sql`.

    Without `data`, `format` is that of the answer. Parameters are as sent: escaped as in TabSeparated.
    """

    sql: str
    format: str
    data: bytes | None
    parameters: dict[str, str]
    session: Session

    @property
    def changes_session(self) -> bool:
        """Whether it leaves traces in the connection that runs it, which a later request must not find."""
        return _SESSION.match(self.sql) is not None


def parse(fields: Mapping[str, str], body: bytes, readonly: bool) -> Statement:
    """The statement of a request with these fields and this uncompressed body. Raises ValueError for what makes none.

    As on a server, the statement is `query` and the body behind it, and INSERT data begins after the format's name.
    """
    query = fields.get("query", "").encode()
    data: bytes | None = None
    insert = _split_insert(query)
    if insert is not None:
        head, form, rest = insert
        data = rest + b"\n" + body if rest and body else rest or body
    else:
        query = query + b"\n" + body if query and body else query or body
        insert = _split_insert(query)
        if insert is not None:
            head, form, data = insert
    if insert is None:
        head, form = query, b""
    sql = head.decode()
    if not sql.strip():
        raise ValueError("Code: 62. DB::Exception: Syntax error: the query is empty. (SYNTAX_ERROR)")
    output = _OUTPUT_FORMAT.search(sql) if insert is None else None
    database = fields.get("database", "")
    settings = tuple((name, value) for name, value in fields.items() if _is_setting(name))
    return Statement(
        sql=sql,
        format=form.decode() or (output[1] if output else fields.get("default_format") or "TabSeparated"),
        data=data,
        parameters={name[6:]: value for name, value in fields.items() if name.startswith("param_")},
        session=Session("" if database == "default" else database, settings, readonly),
    )


def _is_setting(name: str) -> bool:
    return name not in _TRANSPORT and not name.startswith("param_")


def _split_insert(text: bytes) -> tuple[bytes, bytes, bytes] | None:
    """Statement, format and data of `INSERT … FORMAT name data`, None for anything else.

    INSERT … VALUES and INSERT … SELECT are left to the engine: their values may use parameters.
    """
    depth = words = 0
    for token in _TOKEN.finditer(text):
        word, mark = token["word"], token["mark"]
        if mark == b"(":
            depth += 1
        elif mark == b")":
            depth -= 1
        if word is None or depth:
            continue
        words += 1
        keyword = word.upper()
        if (words == 1) != (keyword == b"INSERT") or keyword in (b"VALUES", b"SELECT", b"WITH"):
            return None
        name = _FORMAT_NAME.match(text, token.end()) if keyword == b"FORMAT" else None
        if name is not None:
            return text[: token.start()], name[1], text[name.end() :]
    return None
