from __future__ import annotations

import asyncio
import errno
import json
import logging
import os
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from ingest.client import EmitterFull, Refusal, SpoolInUse
from ingest.client import spool as spool_module
from ingest.client.segment import packed
from ingest.client.spool import Spool
from metering.errors import Unavailable
from tests.support import SetClock

NOON = 1_795_435_200_000
ALL = (1000, 1 << 30)


@asynccontextmanager
async def opened(directory: Path, most_bytes: int = 80_000) -> AsyncIterator[Spool]:
    """Closing a spool writes nothing, so leaving this is what a SIGKILL leaves behind."""
    spool = await Spool.open(directory, most_bytes, SetClock(NOON))
    try:
        yield spool
    finally:
        spool.close()


def _files(directory: Path, pattern: str) -> list[Path]:
    return sorted(directory.glob(pattern))


def _segments(directory: Path) -> list[Path]:
    return _files(directory, "*.events")


async def _filled(directory: Path, *records: bytes, answered: int = 0) -> None:
    async with opened(directory) as spool:
        for record in records:
            spool.append(record)
        if answered:
            spool.read(answered, 1 << 30)
            spool.acknowledge()


async def test_the_next_process_finds_what_was_not_acknowledged_and_goes_on_counting(tmp_path: Path) -> None:
    await _filled(tmp_path, b"a", b"b", b"c", answered=1)

    async with opened(tmp_path) as spool:
        assert (spool.acknowledged, spool.appended) == (1, 3)
        spool.append(b"d")
        assert spool.read(*ALL) == [b"b", b"c", b"d"]


@pytest.mark.parametrize("bytes_written", range(1, len(packed(b"torn"))))
async def test_a_record_that_was_being_written_is_cut_off(tmp_path: Path, bytes_written: int) -> None:
    await _filled(tmp_path, b"whole")
    (file,) = _segments(tmp_path)
    file.write_bytes(file.read_bytes() + packed(b"torn")[:bytes_written])

    async with opened(tmp_path) as spool:
        spool.append(b"next")
        assert spool.read(*ALL) == [b"whole", b"next"]

    async with opened(tmp_path) as spool:
        assert spool.read(*ALL) == [b"whole", b"next"]


async def test_zeros_that_a_power_cut_left_are_no_records(tmp_path: Path) -> None:
    await _filled(tmp_path, b"whole")
    (file,) = _segments(tmp_path)
    file.write_bytes(file.read_bytes() + bytes(100))

    async with opened(tmp_path) as spool:
        assert spool.read(*ALL) == [b"whole"]


async def test_damage_is_moved_out_of_the_way_and_said_and_what_comes_after_is_read(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    records = [b"%d" % number * 3000 for number in range(10)]
    await _filled(tmp_path, *records)
    first = _segments(tmp_path)[0]
    content = bytearray(first.read_bytes())
    content[len(packed(records[0])) + 100] ^= 1  # in the second record
    first.write_bytes(content)
    in_first = len(content) // len(packed(records[0]))
    assert 2 < in_first < 10

    async with opened(tmp_path) as spool:
        with caplog.at_level(logging.WARNING):
            assert spool.read(*ALL) == [records[0], *records[in_first:]]
        spool.acknowledge()
        assert spool.acknowledged == spool.appended == 10

    (aside,) = _files(tmp_path, "*.damaged")
    assert aside.read_bytes() == content[len(packed(records[0])) :]
    assert str(aside) in caplog.text


async def test_damage_at_the_very_end_of_a_spool_in_use_does_not_hold_up_what_comes_later(tmp_path: Path) -> None:
    async with opened(tmp_path) as spool:
        spool.append(b"bad")
        (file,) = _segments(tmp_path)
        file.write_bytes(file.read_bytes()[:-1] + b"?")

        assert spool.read(*ALL) == []
        assert spool.acknowledged == spool.appended
        spool.append(b"good")
        assert spool.read(*ALL) == [b"good"]


async def test_after_a_power_cut_that_took_answered_records_new_ones_do_not_pass_for_answered(tmp_path: Path) -> None:
    await _filled(tmp_path, b"a", b"b", b"c", answered=3)
    (file,) = _segments(tmp_path)
    os.truncate(file, len(packed(b"a")))

    async with opened(tmp_path) as spool:
        spool.append(b"d")

    async with opened(tmp_path) as spool:
        assert spool.read(*ALL) == [b"d"]


@pytest.mark.parametrize("note", [b"", b"\x01", bytes(11), b"\xff" * 12])
async def test_if_it_is_not_known_what_was_answered_all_is_sent_again(tmp_path: Path, note: bytes) -> None:
    await _filled(tmp_path, b"a", b"b", answered=1)
    (tmp_path / "acknowledged").write_bytes(note)

    async with opened(tmp_path) as spool:
        assert spool.read(*ALL) == [b"a", b"b"]


async def test_a_second_emitter_is_told_that_the_spool_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spool_module, "_LOCK_SECONDS", 0.1)
    async with opened(tmp_path):
        with pytest.raises(SpoolInUse, match="a directory of its own"):
            await Spool.open(tmp_path, 1000, SetClock(NOON))

    async with opened(tmp_path):
        pass


async def test_an_owner_that_is_just_ending_is_waited_for(tmp_path: Path) -> None:
    first = await Spool.open(tmp_path, 1000, SetClock(NOON))
    asyncio.get_running_loop().call_later(0.1, first.close)

    async with opened(tmp_path):
        pass


async def test_answered_segments_are_removed(tmp_path: Path) -> None:
    async with opened(tmp_path) as spool:
        for number in range(20):
            spool.append(b"%d" % number * 1500)
        assert len(_segments(tmp_path)) > 3
        spool.read(*ALL)
        spool.acknowledge()

        assert len(_segments(tmp_path)) == 1


async def test_a_full_disk_takes_nothing_and_breaks_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = os.write
    half = 6

    def write_half_then_fail(descriptor: int, data: Any) -> int:
        if len(data) <= half:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(descriptor, data[: len(data) - half])

    async with opened(tmp_path) as spool:
        spool.append(b"before")
        monkeypatch.setattr(os, "write", write_half_then_fail)
        with pytest.raises(Unavailable, match="No space left on device"):
            spool.append(b"too much")
        monkeypatch.undo()
        spool.append(b"after")

        assert spool.read(*ALL) == [b"before", b"after"]


async def test_a_directory_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(Unavailable, match=r"file/spool cannot be used: Not a directory"):
        await Spool.open(tmp_path / "file" / "spool", 1000, SetClock(NOON))


async def test_refused_events_are_kept_with_their_reason_for_their_owner_only(tmp_path: Path) -> None:
    directory = tmp_path / "new" / "spool"
    async with opened(directory) as spool:
        spool.append(b"{}")
        spool.set_aside([])
        spool.set_aside(
            [Refusal(b'{"id": "1", "data": 1.50}', "negative", "say more"), Refusal(b"\xff{", "no", "json")]
        )

    lines = (directory / "refused.ndjson").read_bytes().splitlines()
    assert lines[0] == (
        b'{"at":"2026-11-23T12:00:00.000Z","code":"negative","detail":"say more","event":{"id":"1","data":1.50}}'
    )
    assert json.loads(lines[1])["event"] == "\ufffd{"
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert {stat.S_IMODE(file.stat().st_mode) for file in directory.iterdir()} == {0o600}


async def test_a_refusal_that_was_being_written_is_cut_off(tmp_path: Path) -> None:
    (tmp_path / "refused.ndjson").write_bytes(b'{"whole":1}\n{"to')

    async with opened(tmp_path) as spool:
        spool.set_aside([Refusal(b"{}", "code", "detail")])

    lines = (tmp_path / "refused.ndjson").read_bytes().splitlines()
    assert [next(iter(json.loads(line))) for line in lines] == ["whole", "at"]


async def test_refused_events_fill_the_spool_until_they_are_moved_away(tmp_path: Path) -> None:
    async with opened(tmp_path) as spool:
        spool.set_aside([Refusal(b"x" * 90_000, "code", "detail")])
        with pytest.raises(EmitterFull, match=r"refused\.ndjson takes most of its 80000 bytes: move it away"):
            spool.append(b"a")

        (tmp_path / "refused.ndjson").rename(tmp_path / "elsewhere")
        spool.append(b"a")
        assert spool.read(*ALL) == [b"a"]


async def test_syncing_reaches_every_segment_that_was_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[str] = []
    fsync = os.fsync

    def noted(descriptor: int) -> None:
        synced.append(os.path.basename(os.readlink(f"/proc/self/fd/{descriptor}")))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", noted)
    async with opened(tmp_path) as spool:
        for number in range(20):
            spool.append(b"%d" % number * 1500)
        await spool.sync()
        assert {file.name for file in _segments(tmp_path)} <= set(synced)
        assert tmp_path.name in synced

        synced.clear()
        await spool.sync()
        assert synced == []
        spool.append(b"a")
        await spool.sync()
        assert _segments(tmp_path)[-1].name in synced
