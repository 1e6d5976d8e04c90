"""What must be so: ledger, accounts, dead letters and counters as the interpreter has them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Protocol

from metering import keys
from metering.identity import digest
from metering.partition import partition_of
from metering.period import DEFAULT_TERMS, BillingTerm, period_of, terms_from
from metering.position import version_of
from metering.quantity import render
from streams.control import ControlPlane
from streams.counters import value_digest
from tests.machine.control_twin import CatalogsTwin, SubscriptionsTwin
from tests.machine.interpreter import BUCKET_MS, Account, Interpreter, Row
from tests.machine.ledger_twin import Tables, in_stretch, place

if TYPE_CHECKING:
    from tests.machine.process import Process
    from tests.machine.world import World

_LIVE = 5
Terms = Mapping[str, tuple[BillingTerm, ...]]


class Compared(Protocol):
    """A world, as far as replays are compared in it."""

    interpreter: Interpreter

    def now_ms(self) -> int:
        """The wall clock."""


def ledger(world: World) -> None:
    """All tables hold what the interpreter has, and nothing else."""
    reader = world.interpreter
    _rows({(row["tenant"], row["version"]): row for row in world.tables.final()}, reader.rows.values())
    tenants = {row.at: row.name[0] for row in reader.rows.values()}
    voids = {(tenants[row], _cut(row), _cut(void)) for row, its in reader.taken.items() for void in its}
    _same("voids", {(tenant, place(target), place(version)) for tenant, target, version in world.tables.voids}, voids)
    letters = {(*at, reason) for at, reason in reader.dead.items()}
    _same("dead letters", set(world.tables.dead) | (letters & world.lost_letters), letters)
    _same("records", set(world.tables.frames), set(reader.accounts))
    for at in reader.accounts:
        account(world, at)


def replayed(world: Compared, tables: Tables, at: tuple[int, int], stretch: tuple[int, int]) -> None:
    """Of a stretch of a partition's log, `tables` hold what the interpreter has, dead letters too."""
    first, last = stretch
    reader, found = world.interpreter, in_stretch(tables, at, first, last)
    _rows(found["events"], [row for row in reader.rows.values() if row.at[:2] == at and first <= row.at[2] <= last])
    voids = [void for its in reader.taken.values() for void in its if void[:2] == at and first <= void[2] <= last]
    _same("voids", sorted(place(version) for _, _, version in found["voids"]), sorted(map(_cut, voids)))
    letters = {(*where, reason) for where, reason in reader.dead.items() if where[:2] == at}
    _same("dead letters", set(found["dead"]), {key for key in letters if first <= key[2] <= last})
    for offset in range(first, last + 1):
        _same_account(at, found["frames"].get((*at, offset)), reader.accounts[*at, offset])


def _rows(found: Mapping[tuple[str, int], Any], expected: Iterable[Row]) -> None:
    wanted = {(row.name[0], _version(row)): row for row in expected}
    _same("rows", set(found), set(wanted))
    for slot, row in wanted.items():
        its = found[slot]
        values = (its["tenant"], its["source"], its["id"], its["type"], its["time"], its["clock"], bool(its["voided"]))
        _same("row", values, (*row.name, row.type, row.time, row.clock, row.voided))
        _same("quantities", its["quantities"], row.given.quantities)
        _same("distinct values", its["uniques"], row.given.uniques)


def vouched_for(world: World) -> None:
    """Where a writer has halted: what the ledger vouches for is as the interpreter has it."""
    for at in world.logs:
        for offset in range(world.prefix(at) + 1):
            account(world, (*at, offset))


def account(world: World, at: tuple[int, int, int]) -> None:
    """One row of usage_frames."""
    _same_account(at, world.tables.frames[at], world.interpreter.accounts[at])


def _same_account(at: tuple[int, ...], row: Any, its: Account) -> None:
    assert row is not None, f"no account of {at}"
    values = [row[name] for name in ("events", "counted", "duplicates", "voided", "dead", "voids", "hours", "checksum")]
    _same(f"account of {at}", [*values, row["clock"], bool(row["closing"])], list(its))


def state(world: World, at: tuple[int, int]) -> None:
    """What Redis holds of a partition is a function of the log up to `applied`, which the ledger vouches for."""
    applied = world.applied(at)
    if applied is None:
        return
    assert applied <= world.prefix(at), f"applied {applied} has passed the ledger's {world.prefix(at)}"
    reader, upto = world.interpreter, (*at, applied)
    clock = reader.accounts[upto].clock if applied >= 0 else reader.begins(at[0])
    stored = world.redis.hash(keys.applied(*at).encode())
    _same("clock of applied", int(stored[b"clock"]), clock)
    rows = [row for row in reader.rows.values() if row.at[0] < at[0] or (row.at[:2] == at and row.at[2] <= applied)]
    rows = [row for row in rows if _lives(world, at, row.name[0])]
    _digests(world, at, rows, clock)
    _waits(world, at, applied, clock)
    config = (world.redis.text(keys.config(*at).encode()) or b"").decode()
    texts = world.redis.hash(keys.counted_terms(*at).encode())
    counted_by = {tenant.decode(): terms_from(text.decode()) for tenant, text in texts.items()}
    if config == _config(world, at):
        own = {name: terms for name, terms in world.plane.terms.items() if _lives(world, at, name)}
        _same("terms", counted_by, own)
    if config == _config(world, at, counted_by):
        _counters(world, at, applied, rows, clock, counted_by)


def counted_as_heard(world: World, process: Process) -> None:
    """No change that a writer has heard of before its last batch has got lost."""
    at = process.at
    wanted = process.control.counting(at[1], world.partitions(at[0]), BUCKET_MS).fingerprint
    _same("config", (world.redis.text(keys.config(*at).encode()) or b"").decode(), wanted)
    state(world, at)


def settled(world: World, at: tuple[int, int]) -> None:
    """At the end the state is there, and counted as the newest catalog and terms want it."""
    assert world.applied(at) is not None, f"{at} has no state"
    _same("config", (world.redis.text(keys.config(*at).encode()) or b"").decode(), _config(world, at))
    state(world, at)


def _digests(world: World, at: tuple[int, int], rows: list[Row], clock: int) -> None:
    expected: dict[int, set[bytes]] = {}
    for row in rows:
        if clock // BUCKET_MS - row.clock // BUCKET_MS < _LIVE:
            expected.setdefault(row.clock // BUCKET_MS, set()).add(digest(*row.name))
    head = keys.digests(*at, 0)[:-1].encode()
    found = {int(key[len(head) :]): set(world.redis.members(key)) for key in world.redis.data if key.startswith(head)}
    _same("digests", found, expected)


def _waits(world: World, at: tuple[int, int], applied: int, clock: int) -> None:
    expected: dict[bytes, dict[int, int]] = {}
    for wait in world.interpreter.waits:
        inside = wait.at[0] < at[0] or (wait.at[:2] == at and wait.at[2] <= applied)
        mine = _lives(world, at, wait.name[0])
        if inside and mine and clock < wait.until:
            expected.setdefault(digest(*wait.name), {})[-1 if wait.hour is None else wait.hour] = wait.until
    found: dict[bytes, dict[int, int]] = {}
    for mark, text in world.redis.hash(keys.voids(*at).encode()).items():
        hours = {int(hour): int(until) for hour, until in (one.split(":") for one in text.decode().split(","))}
        if open := {hour: until for hour, until in hours.items() if clock < until}:
            found[mark] = open
    _same("void index", found, expected)


def _lives(world: World, at: tuple[int, int], tenant: str) -> bool:
    return partition_of(tenant, world.partitions(at[0])) == at[1]


def _config(world: World, at: tuple[int, int], terms: Terms | None = None) -> str:
    """That of what counts by the newest catalog, and by these terms or the newest."""
    views: tuple[Any, Any] = (CatalogsTwin(world.plane), SubscriptionsTwin(world.plane, terms))
    return ControlPlane(*views, world).counting(at[1], world.partitions(at[0]), BUCKET_MS).fingerprint


def _counters(world: World, at: tuple[int, int], applied: int, rows: list[Row], clock: int, counted_by: Terms) -> None:
    reader, catalog = world.interpreter, world.plane.current(world.now).catalog
    groups: dict[tuple[str, str, str], list[Row]] = {}
    for row in rows:
        below = [v for v in reader.taken.get(row.at, ()) if v[0] < at[0] or (v[:2] == at and v[2] <= applied)]
        if row.voided or below:
            continue
        terms = counted_by.get(row.name[0], DEFAULT_TERMS)
        for meter in row.given.quantities:
            for kind in catalog.periods_of(meter):
                period = period_of(kind, row.time, terms)
                if period.is_open(clock):
                    groups.setdefault((row.name[0], meter, f"{kind}:{period.start}"), []).append(row)
    expected = {}
    for (tenant, meter, which), its in groups.items():
        expected[tenant, f"{meter}:{which}"] = _text(catalog.meters[meter].aggregation, meter, its)
    found: dict[tuple[str, str], str] = {}
    head = keys.counters(*at, "").encode()
    for key in world.redis.data:
        if key.startswith(head):
            tenant = key[len(head) :].decode()
            found |= {(tenant, field.decode()): text.decode() for field, text in world.redis.hash(key).items()}
    zero = {slot for slot, text in found.items() if text == "0" and slot not in expected}
    _same("counters", {slot: text for slot, text in found.items() if slot not in zero}, expected)
    for (tenant, field), text in found.items():
        meter, _, which = field.partition(":")
        if text != "0" and catalog.meters[meter].aggregation == "unique":
            members = world.redis.members(keys.uniques(*at, tenant, field).encode())
            values = {value_digest(row.given.uniques[meter]) for row in groups[tenant, meter, which]}
            _same(f"values of {field}", set(members), values)


def _text(aggregation: str, meter: str, rows: list[Row]) -> str:
    """A counter by hand, as metering/counter.py writes it."""
    nanos = [row.given.quantities[meter] for row in rows]
    if aggregation == "sum":
        return render(sum(nanos))
    if aggregation == "count":
        return str(len(rows))
    if aggregation == "min":
        return render(min(nanos))
    if aggregation == "max":
        return render(max(nanos))
    if aggregation == "avg":
        return f"{render(sum(nanos))}/{len(rows)}"
    if aggregation == "unique":
        return str(len({row.given.uniques[meter] for row in rows}))
    last = max(rows, key=lambda row: (row.time, row.at))
    return f"{render(last.given.quantities[meter])}@{last.time}@{'.'.join(map(str, last.at))}"


def halt(world: World, process: Process) -> None:
    """A writer may only stop where the log is gone before the ledger had it, or went away under it."""
    log, next = world.logs[process.at], world.prefix(process.at) + 1
    behind = process.log_twin.next < log.start
    assert next < log.start or behind, f"halted without need: {process.halted}"


def _version(row: Row) -> int:
    epoch, _, offset, line = row.at
    return version_of(epoch, offset, line)


def _cut(at: tuple[int, int, int, int]) -> tuple[int, int, int]:
    return at[0], at[2], at[3]


def _same(what: str, found: Any, expected: Any) -> None:
    if found != expected:
        raise AssertionError(f"{what}: found {_only(found, expected)}, expected {_only(expected, found)}")


def _only(one: Any, other: Any) -> Any:
    if isinstance(one, set) and isinstance(other, set):
        return sorted(one - other)
    if isinstance(one, dict) and isinstance(other, dict):
        return {key: value for key, value in one.items() if key not in other or other[key] != value}
    return one
