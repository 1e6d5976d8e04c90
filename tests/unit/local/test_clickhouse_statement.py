"""How a request to ClickHouse's HTTP interface is taken apart."""

from __future__ import annotations

import pytest

from local.clickhouse_statement import Session, Statement, parse


def post(body: bytes = b"", **fields: str) -> Statement:
    return parse(fields, body, readonly=False)


@pytest.mark.parametrize(
    ("query", "body"),
    [
        ("INSERT INTO t (a, b) FORMAT Native", b"\x00FORMAT\nx"),
        ("insert into `my FORMAT x`(a) settings s='FORMAT y' format\nNative", b"\n\n"),
        ("/* FORMAT CSV */ INSERT INTO t -- FORMAT TSV\n (`FORMAT`) FORMAT Native", b"VALUES"),
    ],
)
def test_an_inserts_body_is_its_data_untouched(query: str, body: bytes) -> None:
    statement = post(body, query=query)
    assert (statement.format, statement.data) == ("Native", body)
    assert statement.sql == query[: query.lower().rindex("format")]


@pytest.mark.parametrize("between", [b"\n", b" ", b"  \r\n"])
def test_data_may_follow_the_statement_in_the_body(between: bytes) -> None:
    statement = post(b"INSERT INTO t\n(a)\nFORMAT JSONEachRow" + between + b'{"a": 1}\n\n')
    assert (statement.sql, statement.format) == ("INSERT INTO t\n(a)\n", "JSONEachRow")
    assert statement.data == b'{"a": 1}\n\n'


def test_one_line_end_after_the_format_belongs_to_the_statement_and_no_more() -> None:
    assert post(b"INSERT INTO t FORMAT RowBinary\n\n\x01").data == b"\n\x01"


def test_data_in_the_query_string_comes_before_that_in_the_body() -> None:
    assert post(b"2,3", query="INSERT INTO t FORMAT CSV 0,1").data == b"0,1\n2,3"


def test_an_insert_without_rows_writes_none() -> None:
    assert post(query="INSERT INTO t FORMAT Native").data == b""


def test_values_that_follow_in_the_body_are_not_lost() -> None:
    statement = post(b"(1, 'x FORMAT Native')", query="INSERT INTO t VALUES")
    assert (statement.sql, statement.data) == ("INSERT INTO t VALUES\n(1, 'x FORMAT Native')", None)


def test_a_statement_may_begin_in_the_query_string_and_end_in_the_body() -> None:
    statement = post(b"(a) FORMAT CSV\n1", query="INSERT INTO t")
    assert (statement.sql, statement.format, statement.data) == ("INSERT INTO t\n(a) ", "CSV", b"1")


@pytest.mark.parametrize(
    "sql",
    [
        "INSERT INTO t SELECT 1 FORMAT Null",
        "INSERT INTO t (a) VALUES ({a:String})",
        "SELECT 'INSERT INTO t FORMAT CSV 1'",
    ],
)
def test_what_carries_no_data_is_left_to_the_engine_whole(sql: str) -> None:
    statement = post(sql.encode())
    assert (statement.sql, statement.data) == (sql, None)


@pytest.mark.parametrize(
    ("sql", "fields", "expected"),
    [
        ("SELECT 1", {}, "TabSeparated"),
        ("SELECT 1", {"default_format": "CSV"}, "CSV"),
        ("SELECT 1\n FORMAT Native", {"default_format": "CSV"}, "Native"),
        ("SELECT 1 format JSON;\n", {}, "JSON"),
        ("SELECT 1 FORMAT JSON SETTINGS max_threads = 1", {}, "JSON"),
        ("SELECT 'x FORMAT JSON'", {}, "TabSeparated"),
    ],
)
def test_the_answers_format_is_the_statements_or_the_default(sql: str, fields: dict[str, str], expected: str) -> None:
    assert post(sql.encode(), **fields).format == expected


def test_parameters_settings_and_transport_are_told_apart() -> None:
    statement = post(
        b"SELECT {x:String}",
        param_x="a\\tb",
        max_threads="1",
        session_id="s",
        wait_end_of_query="1",
        database="default",
    )
    assert statement.parameters == {"x": "a\\tb"}
    assert statement.session == Session(database="", settings=(("max_threads", "1"),), readonly=False)


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        (b"SELECT 1", False),
        (b"INSERT INTO set FORMAT CSV\n1", False),
        (b"\nset max_threads = 1", True),
        (b"USE other", True),
        (b"CREATE TEMPORARY TABLE x (a Int8)", True),
    ],
)
def test_what_would_leave_traces_for_the_next_request_says_so(sql: bytes, expected: bool) -> None:
    assert post(sql).changes_session is expected


@pytest.mark.parametrize("query", ["", "  \n"])
def test_an_empty_request_is_refused(query: str) -> None:
    with pytest.raises(ValueError, match=r"Code: 62\."):
        post(query=query)
