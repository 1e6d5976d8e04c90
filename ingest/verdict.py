"""Which events of a batch count. A pure function of the batch, the sender's rights, the catalog and the time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from metering.errors import InvalidEvent, Refused
from metering.event import RESERVED_TYPES, Limits, check_time, parse
from metering.frame import MAX_FRAME_BYTES
from metering.meter import CompiledCatalog

VOID = "tallygate.void"


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
    own, limits, resolve = rules.tenant, rules.limits, catalog.resolve
    latest = now + rules.ahead_ms
    earliest = 0 if rules.late_ms is None else now - rules.late_ms
    old_before = now - rules.old_ms
    verdict = Verdict()
    mine: list[bytes] = []
    for index, raw in enumerate(events, first):
        try:
            if not raw:
                raise broken[index]
            event = parse(raw, limits)
            time = event.time
            if time is not None:
                if not earliest <= time <= latest:
                    check_time(time, now, rules.ahead_ms, rules.late_ms)
                if time < old_before:
                    verdict.old += 1
            if event.type.startswith(RESERVED_TYPES):
                _check_reserved(event.type, rules)
            resolve(event)
            if len(raw) > MAX_FRAME_BYTES:
                raise InvalidEvent("event-too-large", f"an event may have {MAX_FRAME_BYTES} bytes")
            tenant = event.tenant
            if own is not None:
                if tenant is not None and tenant != own:
                    raise InvalidEvent("reserved-attribute", "`tenant` is given by the key; leave it out")
                mine.append(raw)
            elif tenant is None:
                raise InvalidEvent("missing-tenant", "with a platform key each event names its `tenant`")
            elif tenant not in tenants:
                verdict.unseen.add(tenant)
            elif tenants[tenant]:
                verdict.accepted.setdefault(tenant, []).append(raw)
            else:
                raise InvalidEvent("unknown-tenant", "there is no such tenant")
        except Refused as error:
            verdict.errors.append(EventError(index, _id_of(raw), error.code, error.detail))
    if mine and own is not None:
        verdict.accepted[own] = mine
    return verdict


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
