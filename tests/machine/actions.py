"""What the actions of a schedule do to its world. Each makes sense in any state, so that others can be left out."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from metering import keys
from metering.clock import DAY_MS
from metering.period import BillingTerm
from streams.reconcile import Stretch
from tests.machine import check
from tests.machine.catalogs import VERSIONS
from tests.machine.process import Process
from tests.machine.schedule import PROCESSES
from tests.machine.senders import Event, made
from tests.machine.stepped import Stepped
from tests.machine.world import BEGIN, TENANTS, World


async def _send(world: World, tenant: int, form: str, events: Sequence[tuple[Any, ...]]) -> None:
    name = TENANTS[tenant]
    lines = []
    for one in events:
        event = made(one, world.now, name, world.sent)
        lines.append(event if isinstance(event, bytes) else event.encode())
        if isinstance(event, Event):
            world.sent.append((name, event))
    world.send(name, lines, form != "foreign", form == "stale", form == "astray")


async def _pass(world: World, ms: int) -> None:
    world.now += ms


async def _start(world: World, back: int, partition: int, batch: int) -> None:
    if len(world.processes) < PROCESSES:
        epoch = world.plane.epochs[max(back, -len(world.plane.epochs))]
        world.start((epoch.epoch, partition % epoch.partitions), batch)


async def _replay(
    world: World, back: int, partition: int, stretch: tuple[float, float], batch: int, applies: bool, count: int
) -> None:
    """`tallygate replay` of what has been counted, and the first calls of it."""
    epoch = world.plane.epochs[max(back, -len(world.plane.epochs))]
    at = (epoch.epoch, partition % epoch.partitions)
    counted = sorted(offset for *its, offset in world.tables.frames if tuple(its) == at)
    if counted and not world.replays:
        first, last = sorted(counted[int(part * len(counted))] for part in stretch)
        world.replay(at, Stretch(first, last), batch, applies)
        await _step(world, len(world.processes), count)


def _any(world: World, number: int) -> Stepped | None:
    """A writer or a replay."""
    running = world.running()
    return running[number % len(running)] if running else None


def _process(world: World, number: int) -> Process | None:
    """A writer."""
    return world.processes[number % len(world.processes)] if world.processes else None


async def _step(world: World, number: int, count: int) -> None:
    if process := _any(world, number):
        idle = 0
        for _ in range(count):
            call = await world.step(process)
            idle = idle + 1 if call == "read" and process.idle else 0
            if not call or idle > 1:
                break


async def _until(world: World, number: int, effect: str) -> None:
    """Up to the moment right after an effect."""
    if process := _process(world, number):
        for _ in range(60):
            await process.settle()
            if process.gate.waiting is not None and process.gate.call == f"effect {effect}":
                return
            call = await world.step(process)
            if not call or (call == "read" and process.idle):
                return


async def _fail(world: World, number: int, outcome: Any) -> None:
    if process := _any(world, number):
        await world.step(process, outcome)


async def _crash(world: World, number: int) -> None:
    if process := _any(world, number):
        await world.kill(process)


async def _stop(world: World, number: int) -> None:
    if process := _process(world, number):
        await process.stop()


async def _hear(world: World, number: int) -> None:
    if process := _process(world, number):
        await process.refresh()


async def _counted(world: World, number: int) -> None:
    """The writer's counters are counted as it has heard that they should be."""
    if process := _process(world, number):
        check.counted_as_heard(world, process)


async def _count_anew(world: World, number: int, tenant: int) -> None:
    """`tallygate rebuild counters --tenant`."""
    if process := _process(world, number):
        process.writer.count_tenant_anew(TENANTS[tenant])


async def _flush(world: World) -> None:
    world.redis.put_back({})


async def _save_redis(world: World) -> None:
    world.redis_copy = world.redis.copy()


async def _old_redis(world: World) -> None:
    world.redis.put_back(world.redis_copy)


async def _save_ledger(world: World) -> None:
    world.ledger_copies.append(len(world.tables.inserts))


async def _old_ledger(world: World, which: int, partial: int) -> None:
    """A copy, in which of the inserts after it also some arrived, as `partial` picks them."""
    size = world.ledger_copies[which % len(world.ledger_copies)]
    inserts = world.tables.inserts
    # A mark vouches for rows that were on the disk long before it: no copy has it without them.
    later = [one for one in inserts[size : size + 4] if one.table != "marks"]
    more = [one for n, one in enumerate(later) if partial and (n + partial) % 2]
    world.older_ledger(inserts[:size] + more, torn=bool(more))
    world.ledger_copies = [min(copy, size) for copy in world.ledger_copies]


async def _power_cut(world: World, lost: Sequence[int]) -> None:
    world.power_cut(list(lost))
    world.ledger_copies = [min(copy, len(world.tables.inserts)) for copy in world.ledger_copies]


async def _merge(world: World) -> None:
    world.tables.merge()


async def _trim(world: World, partition: int, part: float, wild: bool) -> None:
    """The broker forgets old records; `wild`: also such as the ledger does not have."""
    newest = world.plane.epochs[-1]
    at = (newest.epoch, partition % newest.partitions)
    log = world.logs[at]
    most = log.end if wild else world.prefix(at) + 1
    log.start = max(log.start, int(most * part))


async def _catalog(world: World) -> None:
    known = world.plane.catalogs
    if len(known) < len(VERSIONS):
        known.append((world.now + 3000, VERSIONS[len(known)]))


async def _terms(world: World, tenant: int, days: int, zone: str) -> None:
    anchor = BEGIN - days * DAY_MS
    world.plane.terms = {**world.plane.terms, TENANTS[tenant]: (BillingTerm(0, anchor, zone),)}


async def _epoch(world: World, partitions: int) -> None:
    lost = any(log.start > world.prefix(at) + 1 for at, log in world.logs.items())
    if len(world.plane.epochs) < 3 and not lost:
        world.begin_epoch(partitions)


async def _rebuild(world: World) -> None:
    """`tallygate rebuild counters`: nobody trusts the state any more."""
    newest = world.plane.epochs[-1]
    for partition in range(newest.partitions):
        world.redis.data.pop(keys.applied(newest.epoch, partition).encode(), None)


ACTIONS: dict[str, Callable[..., Awaitable[None]]] = {
    "send": _send,
    "pass": _pass,
    "start": _start,
    "step": _step,
    "until": _until,
    "fail": _fail,
    "crash": _crash,
    "stop": _stop,
    "hear": _hear,
    "counted": _counted,
    "count anew": _count_anew,
    "flush": _flush,
    "save redis": _save_redis,
    "old redis": _old_redis,
    "save ledger": _save_ledger,
    "old ledger": _old_ledger,
    "power cut": _power_cut,
    "merge": _merge,
    "trim": _trim,
    "catalog": _catalog,
    "terms": _terms,
    "epoch": _epoch,
    "rebuild": _rebuild,
    "replay": _replay,
}
