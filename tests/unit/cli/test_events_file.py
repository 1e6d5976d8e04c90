from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from cli.errors import WRONG_USE, CommandError
from cli.events_file import EventsFile

EVENTS = [{"id": str(number), "data": {"text": "Grüße, \n [{}]", "n": 1.50}} for number in range(7)]


def _events(path: Path, max_events: int = 3, max_bytes: int = 1 << 20) -> list[bytes]:
    return [event for batch in EventsFile(path).batches(max_events, max_bytes) for event in batch.events]


def _ids(events: list[bytes]) -> list[str]:
    return [json.loads(event)["id"] for event in events]


FORMS = {
    "lines": "\n".join(map(json.dumps, EVENTS)),
    "lines with blank ones and carriage returns": "\r\n\r\n".join(map(json.dumps, EVENTS)) + "\r\n",
    "an array": json.dumps(EVENTS, ensure_ascii=False),
    "a pretty-printed array": json.dumps(EVENTS, indent=4, ensure_ascii=False),
    "pretty-printed objects one after the other": "\n".join(json.dumps(event, indent=1) for event in EVENTS),
}


@pytest.mark.parametrize("zipped", [False, True], ids=["plain", "gzip"])
@pytest.mark.parametrize("form", FORMS)
def test_each_form_of_a_file_gives_the_same_events_each_on_one_line(form: str, zipped: bool, tmp_path: Path) -> None:
    path = tmp_path / "events"
    content = FORMS[form].encode()
    path.write_bytes(gzip.compress(content) if zipped else content)

    events = _events(path)

    assert [json.loads(event) for event in events] == EVENTS
    assert not any(b"\n" in event for event in events)


def test_a_number_keeps_the_digits_it_was_written_with(tmp_path: Path) -> None:
    path = tmp_path / "events.json"
    path.write_text('[\n {"n": 12345678901234567890.1234567890}\n]')

    assert _events(path) == [b'{"n": 12345678901234567890.1234567890}']


def test_elements_longer_than_a_read_are_put_together(tmp_path: Path) -> None:
    path = tmp_path / "events.json"
    events = [{"id": str(n), "text": "é" * 1_500_000} for n in range(3)]
    path.write_text(json.dumps(events, ensure_ascii=False), encoding="utf-8")

    assert _ids(_events(path)) == ["0", "1", "2"]


def test_batches_respect_both_limits_and_say_where_they_begin(tmp_path: Path) -> None:
    path = tmp_path / "events.ndjson"
    lines = [b"x" * size for size in (10, 10, 10, 500, 10)]
    path.write_bytes(b"\n".join(lines))

    batches = list(EventsFile(path).batches(max_events=2, max_bytes=100))

    assert [(batch.first, len(batch.events)) for batch in batches] == [(0, 2), (2, 1), (3, 1), (4, 1)]


def test_bad_lines_of_ndjson_are_sent_as_they_are_for_the_gateway_to_judge(tmp_path: Path) -> None:
    path = tmp_path / "events.ndjson"
    path.write_bytes(b'{"id":\n\xff\xfe\n{"id":"ok"}\n')

    assert _events(path) == [b'{"id":', b"\xff\xfe", b'{"id":"ok"}']


def test_an_empty_file_has_no_events(tmp_path: Path) -> None:
    path = tmp_path / "events.json"
    path.write_bytes(b"")

    assert _events(path) == []


@pytest.mark.parametrize("content", ['[{"id": 1}, {"id":', '{\n "id": 1\n', "[[[[", "[" * 5000])
def test_json_that_stops_is_named_with_what_to_do(content: str, tmp_path: Path) -> None:
    path = tmp_path / "events.json"
    path.write_text(content)

    with pytest.raises(CommandError) as refused:
        _events(path)
    assert refused.value.exit_code == WRONG_USE
    assert "one event a line" in refused.value.next_step


def test_damaged_gzip_is_named(tmp_path: Path) -> None:
    path = tmp_path / "events.ndjson.gz"
    path.write_bytes(gzip.compress(b'{"id":"1"}\n' * 5000)[:-20])

    with pytest.raises(CommandError, match="damaged gzip"):
        _events(path)


def test_a_missing_file_is_wrong_use(tmp_path: Path) -> None:
    with pytest.raises(CommandError) as refused:
        EventsFile(tmp_path / "nowhere")
    assert refused.value.exit_code == WRONG_USE
