"""Dead letters: what could not be counted, why, and what people did about it."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import aiohttp
from clickhouse_connect.driver.exceptions import ClickHouseError

from metering.errors import Unavailable
from usage.ask import ask, query

_LETTERS = query("letters")
_LETTER = query("letter")
_MARK = query("letter_mark")
WHOLE_RECORD = -1
Action = Literal["replayed", "dropped"]


class LetterId(NamedTuple):
    """Where a letter comes from, and why: one line may be refused for one reason and conflict for another."""

    epoch: int
    partition: int
    offset: int
    line: int
    reason: str

    def __str__(self) -> str:
        line = "all" if self.line == WHOLE_RECORD else self.line
        return f"{self.epoch}.{self.partition}.{self.offset}.{line}.{self.reason}"

    @classmethod
    def parse(cls, text: str) -> LetterId:
        """What `str` gave. Raises ValueError."""
        epoch, partition, offset, line, reason = text.split(".", 4)
        return cls(int(epoch), int(partition), int(offset), WHOLE_RECORD if line == "all" else int(line), reason)


class Letter(NamedTuple):
    """`received` by the gateway and the partition's `clock`, in ms UTC; `action` is empty until somebody did something.

    `tenant` is the record's key, which may be no tenant at all.
    """

    id: LetterId
    tenant: str
    detail: str
    payload: str
    received: int
    clock: int
    action: str
    by: str
    at: int


class Behind(NamedTuple):
    """A cursor: letters behind this one."""

    clock: int
    epoch: int
    partition: int
    offset: int
    line: int
    reason: str


FIRST = Behind(2**62, 65535, 65535, 2**63, 2**31 - 1, "")


class Letters:
    """The letters in ClickHouse. Every method raises Unavailable when it does not answer."""

    def __init__(self, client: Any) -> None:
        self._client = client

    async def page(
        self, tenant: str | None, reason: str, start: int, end: int, everything: bool, behind: Behind, limit: int
    ) -> list[Letter]:
        """The newest first, of one tenant or of everybody; `everything`: replayed and dropped ones too."""
        rows = await ask(
            self._client,
            _LETTERS,
            everybody=tenant is None,
            tenant=tenant or "",
            reason=reason,
            start=start,
            end=end,
            all=everything,
            limit=limit,
            **{f"c{number}": value for number, value in enumerate(behind, 1)},
        )
        return [_letter(row) for row in rows]

    async def get(self, id: LetterId) -> Letter | None:
        """One letter."""
        rows = await ask(self._client, _LETTER, **id._asdict())
        return _letter(rows[0]) if rows else None

    async def mark(self, id: LetterId, action: Action, by: str) -> None:
        """Say what was done with a letter."""
        try:
            await self._client.command(_MARK, {**id._asdict(), "action": action, "by": by})
        except (ClickHouseError, aiohttp.ClientError, OSError, TimeoutError) as error:
            raise Unavailable(f"ClickHouse: {error}") from error


def _letter(row: tuple[Any, ...]) -> Letter:
    return Letter(LetterId(*row[:5]), *row[5:])
