"""Which events of a batch count. A pure function of the batch, the sender's rights, the catalog and the time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from metering.errors import InvalidEvent, Refused
from metering.event import RESERVED_TYPES, Limits, check_time, parse, parse_usual
from metering.frame import MAX_FRAME_BYTES
from metering.meter import CompiledCatalog
from metering.void import VOID, target_of


class Rules(msgspec.Struct, frozen=True):
    """What the sender may send. `tenant` None: a platform key, whose events name their tenant. Times in ms."""

    tenant: str | None
    may_void: bool
    limits: Limits
    ahead_ms: int
    late_ms: int | None
    old_ms: int
    """Events older than this are counted in `Verdict.old`: each costs the writer a question to the ledger."""


class EventError(msgspec.Struct, frozen=True):
    """Why the event at `index` of the request is refused; `id` is None where it could not be read."""

    index: int
    id: str | None
    code: str
    detail: str


class Verdict(msgspec.Struct):
    """Good events per tenant in their order; errors by rising index; names that have to be looked up first."""

    accepted: dict[str, list[bytes]] = {}
    errors: list[EventError] = []
    unseen: set[str] = set()
    old: int = 0


def judge(
    events: Sequence[bytes],
    broken: Mapping[int, InvalidEvent],
    rules: Rules,
    catalog: CompiledCatalog,
    tenants: Mapping[str, bool],
    now: int,
    first: int = 0,
) -> Verdict:
    """Judge `events`, of which the first has the index `first` in its request; `now` in ms UTC.

    If the verdict has `unseen` names, look them up and judge again: their events are in neither list.
    """
    verdict = Verdict()
    if events:
        _judge(verdict, events, broken, rules, catalog, tenants, now, first)
    return verdict


def _judge(
    verdict: Verdict,
    events: Sequence[bytes],
    broken: Mapping[int, InvalidEvent],
    rules: Rules,
    catalog: CompiledCatalog,
    tenants: Mapping[str, bool],
    now: int,
    first: int,
) -> None:
    """All at once where they are usual, else by tenths down to the ones that are not."""
    if len(events) > 1:
        if _take_usual(verdict, events, rules, catalog, tenants, now):
            return
        size = -(-len(events) // 10)
        for start in range(0, len(events), size):
            _judge(verdict, events[start : start + size], broken, rules, catalog, tenants, now, first + start)
        return
    try:
        if first in broken:
            raise broken[first]
        _take(verdict, events[0], rules, catalog, tenants, now)
    except Refused as error:
        verdict.errors.append(EventError(first, _id_of(events[0]), error.code, error.detail))


def _take_usual(
    verdict: Verdict,
    raws: Sequence[bytes],
    rules: Rules,
    catalog: CompiledCatalog,
    tenants: Mapping[str, bool],
    now: int,
) -> bool:
    """Accept all of them, or none where one needs a closer look."""
    events = parse_usual(raws, rules.limits)
    if events is None or any(type.startswith(RESERVED_TYPES) for type in set(events.types)):
        return False
    times = [time for time in events.times if time is not None] or [now]
    if max(times) > now + rules.ahead_ms or min(times) < (0 if rules.late_ms is None else now - rules.late_ms):
        return False
    named = set(events.tenants)
    if rules.tenant is None:
        if not all(name is not None and tenants.get(name) for name in named):
            return False
    elif not {None, rules.tenant}.issuperset(named):
        return False
    if catalog.resolve_usual(events) is None:
        return False
    verdict.old += _older(times, now - rules.old_ms)
    if rules.tenant is not None or len(named) == 1:
        tenant = rules.tenant or events.tenants[0]
        assert tenant is not None
        verdict.accepted.setdefault(tenant, []).extend(raws)
        return True
    for name, raw in zip(events.tenants, raws, strict=True):
        assert name is not None
        verdict.accepted.setdefault(name, []).append(raw)
    return True


def _older(times: Sequence[int], before: int) -> int:
    return 0 if min(times) >= before else sum(time < before for time in times)


def _take(
    verdict: Verdict, raw: bytes, rules: Rules, catalog: CompiledCatalog, tenants: Mapping[str, bool], now: int
) -> None:
    """Look closely at one event. Raises InvalidEvent."""
    event = parse(raw, rules.limits)
    if event.time is not None:
        check_time(event.time, now, rules.ahead_ms, rules.late_ms)
        verdict.old += _older([event.time], now - rules.old_ms)
    if event.type.startswith(RESERVED_TYPES):
        _check_reserved(event.type, rules)
        target_of(event)
    catalog.resolve(event)
    if len(raw) > MAX_FRAME_BYTES:
        raise InvalidEvent("event-too-large", f"an event may have {MAX_FRAME_BYTES} bytes")
    tenant = event.tenant
    if rules.tenant is not None:
        if tenant is not None and tenant != rules.tenant:
            raise InvalidEvent("reserved-attribute", "`tenant` is given by the key; leave it out")
        verdict.accepted.setdefault(rules.tenant, []).append(raw)
    elif tenant is None:
        raise InvalidEvent("missing-tenant", "with a platform key each event names its `tenant`")
    elif tenant not in tenants:
        verdict.unseen.add(tenant)
    elif tenants[tenant]:
        verdict.accepted.setdefault(tenant, []).append(raw)
    else:
        raise InvalidEvent("unknown-tenant", "there is no such tenant")


def merge(verdicts: Sequence[Verdict]) -> Verdict:
    """The verdict over the whole of what was judged in pieces."""
    if len(verdicts) == 1:
        return verdicts[0]
    whole = Verdict()
    for part in verdicts:
        for tenant, events in part.accepted.items():
            whole.accepted.setdefault(tenant, []).extend(events)
        whole.errors += part.errors
        whole.unseen |= part.unseen
        whole.old += part.old
    return whole


def _check_reserved(type: str, rules: Rules) -> None:
    if type != VOID:
        raise InvalidEvent("reserved-type", f"types beginning with {RESERVED_TYPES} are Tallygate's own")
    if not rules.may_void:
        raise InvalidEvent("missing-scope", f"{VOID} needs a key with the scope `void`")


class _IdOnly(msgspec.Struct, gc=False):
    id: str


_decode_id = msgspec.json.Decoder(_IdOnly).decode


def _id_of(raw: bytes) -> str | None:
    try:
        return _decode_id(raw).id[:256]
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
