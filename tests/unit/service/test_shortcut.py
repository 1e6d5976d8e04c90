"""What a shortcut may look at: whole, plain requests; anything else is for the web framework to read."""

from __future__ import annotations

import pytest

from service.shortcut import Head, plain

HEAD = "POST /v1/check HTTP/1.1\r\nHost: gate\r\nAuthorization: Bearer tg_x\r\n"


def request(more: str = "", body: str = "{}", head: str = HEAD) -> bytes:
    return f"{head}{more}Content-Length: {len(body)}\r\n\r\n{body}".encode()


def test_a_plain_request_is_read() -> None:
    assert plain(request()) == (Head("POST", "/v1/check", 2, "Bearer tg_x"), b"{}")
    assert plain(b"GET /x?y=1 HTTP/1.1\r\nhost:gate\r\n\r\n") == (Head("GET", "/x?y=1", 0, ""), b"")
    assert plain(request("Connection: Keep-Alive\r\nUser-Agent: a b/1.0 (c)\r\n")) is not None


def test_a_part_of_a_request_or_more_than_one_is_not_plain() -> None:
    whole = request()
    assert all(plain(whole[:end]) is None for end in range(len(whole)))
    assert all(plain(whole[start:]) is None for start in range(len("POST"), len(whole) + 1))
    assert plain(whole + b" ") is None
    assert plain(whole + whole) is None


@pytest.mark.parametrize(
    "more",
    [
        "Transfer-Encoding: chunked\r\n",
        "Expect: 100-continue\r\n",
        "Upgrade: websocket\r\n",
        "Connection: close\r\n",
        "Content-Encoding: gzip\r\n",
        "Content-Length: 2\r\n",
        "content-length : 2\r\n",
        "Host: another\r\n",
        " folded: x\r\n",
        "Accept: a\n\r\n",
        "Accept: a\nTransfer-Encoding: chunked\r\n",
        "Accept: a\rb\r\n",
        "Accept: ä\r\n",
        "Accept: \x00\r\n",
        "Accept:\r\n",
    ],
)
def test_whatever_could_be_read_in_another_way_is_not_plain(more: str) -> None:
    assert plain(request(more)) is None


@pytest.mark.parametrize("length", ["+2", "-2", "0x2", " 2", "2 ", "02a", "²", "99999", "999999", ""])
def test_a_length_is_digits_and_small(length: str) -> None:
    assert plain(f"{HEAD}Content-Length: {length}\r\n\r\n{{}}".encode()) is None or length.strip() == "2"


@pytest.mark.parametrize(
    "head",
    [
        "POST /v1/check HTTP/1.0\r\nHost: gate\r\n",
        "POST /v1/check HTTP/1.1\r\n",
        "POST  /v1/check HTTP/1.1\r\nHost: gate\r\n",
        "POST http://gate/v1/check HTTP/1.1\r\nHost: gate\r\n",
        "post /v1/check HTTP/1.1\r\nHost: gate\r\n",
        "POST /v1/check HTTP/1.1\nHost: gate\r\n",
        "\r\nPOST /v1/check HTTP/1.1\r\nHost: gate\r\n",
        "POST /v1/check HTTP/1.1\r\nHost: gate\r\nAccept: " + "a" * 3000 + "\r\n",
    ],
)
def test_other_first_lines_are_not_plain(head: str) -> None:
    assert plain(request(head=head)) is None
