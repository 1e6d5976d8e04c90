"""A file of events as single JSON texts: NDJSON or JSON (an object, an array), plain or gzip, read as a stream."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import re
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, NamedTuple, cast

from cli.errors import WRONG_USE, CommandError

_CHUNK = 1 << 20


class Batch(NamedTuple):
    """Consecutive events: index of the first in the file, their JSON texts, and how many bytes of the file are read."""

    first: int
    events: list[bytes]
    read: int


class EventsFile:
    """`batches` may be called again; the file is read anew."""

    def __init__(self, path: Path) -> None:
        """Raises CommandError if the file cannot be read."""
        self.path = path
        try:
            self.size = path.stat().st_size
            self.digest = _digest(path)
        except OSError as error:
            raise CommandError(WRONG_USE, f"{path} cannot be read: {error.strerror}.") from None

    def batches(self, max_events: int, max_bytes: int) -> Iterator[Batch]:
        """Batches of at most `max_events`, and at most `max_bytes` unless one event is larger.

        The same limits give the same batches. Raises CommandError where the file stops being JSON or gzip.
        """
        with self.path.open("rb") as file:
            events: list[bytes] = []
            size = first = 0
            for event in self._events(file):
                if events and (len(events) == max_events or size + len(event) > max_bytes):
                    yield Batch(first, events, file.tell())
                    first, events, size = first + len(events), [], 0
                events.append(event)
                size += len(event) + 1
            if events:
                yield Batch(first, events, file.tell())

    def _events(self, file: IO[bytes]) -> Iterator[bytes]:
        zipped = file.read(2) == b"\x1f\x8b"
        file.seek(0)
        stream: IO[bytes] = cast(IO[bytes], io.BufferedReader(gzip.GzipFile(fileobj=file))) if zipped else file
        try:
            head = _first_line(stream)
            if set(self.path.suffixes) & {".ndjson", ".jsonl"} or _stands_alone(head):
                yield from _lines(head, stream)
            else:
                yield from self._documents(head, stream)
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise CommandError(
                WRONG_USE,
                f"{self.path} is damaged gzip: {error}.",
                "Mend the file and send it again: what was counted already counts once.",
            ) from None

    def _documents(self, head: bytes, stream: IO[bytes]) -> Iterator[bytes]:
        """Elements of an array, or objects one after the other, across lines."""
        decode = json.JSONDecoder(parse_float=str, parse_int=str).raw_decode
        rest = io.TextIOWrapper(cast(Any, stream), encoding="utf-8", errors="surrogateescape", newline="")
        text = head.decode("utf-8", "surrogateescape") + rest.read(_CHUNK)
        rest_ended = False
        at = _skip(text, 0)
        in_array = text.startswith("[", at)
        at += in_array
        count = 0
        try:
            while True:
                at = _skip(text, at)
                if in_array and text.startswith("]", at):
                    return
                try:
                    _, end = decode(text, at)
                    whole = end < len(text) or rest_ended
                except json.JSONDecodeError:
                    whole = False
                if whole:
                    yield _one_line(text[at:end]).encode("utf-8", "surrogateescape")
                    at, count = end, count + 1
                elif rest_ended:
                    if at == len(text) and not in_array:
                        return
                    break
                else:
                    more = rest.read(max(_CHUNK, len(text) - at))
                    text, at, rest_ended = text[at:] + more, 0, not more
        except RecursionError:
            pass
        finally:
            rest.detach()
        raise CommandError(
            WRONG_USE,
            f"{self.path} is neither NDJSON nor JSON: it cannot be read on after {count} events.",
            "Write one event a line (NDJSON): then a bad one is reported and all others are sent.",
        )


_BETWEEN = re.compile(r"[ \t\r\n,]*")


def _skip(text: str, at: int) -> int:
    found = _BETWEEN.match(text, at)
    return found.end() if found else at


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _first_line(stream: IO[bytes]) -> bytes:
    """The first line with something on it, with its line end."""
    for line in stream:
        if line.strip():
            return line.removeprefix(b"\xef\xbb\xbf")
    return b""


def _stands_alone(line: bytes) -> bool:
    """Whether a line is an event by itself, if perhaps a broken one, and not the beginning of a longer JSON text."""
    text = line.strip()
    if not text.startswith((b"{", b"[")):
        return True
    try:
        return text.startswith(b"{") and bool(json.loads(text))
    except (ValueError, RecursionError):
        return text.startswith(b"{") and len(text) > 1 and text.endswith(b"}")


def _lines(head: bytes, stream: IO[bytes]) -> Iterator[bytes]:
    if head:
        yield head.strip()
    for line in stream:
        text = line.strip()
        if text:
            yield text


def _one_line(event: str) -> str:
    """Line ends in JSON stand between tokens only, so each can become a space."""
    return event.replace("\r", " ").replace("\n", " ")
