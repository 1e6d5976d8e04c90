"""All of Tallygate in one object: enough for the demo, with faults to plant."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from ingest.client.transport import Reply
from metering.aggregation import AGGREGATIONS, Sample, State, merge
from metering.catalog import parse_catalog
from metering.clock import iso
from metering.errors import Refused
from metering.event import GATEWAY_AHEAD_MS, LATE_MS, Limits, check_time, compact, parse
from metering.meter import CompiledCatalog
from metering.period import period_of
from metering.position import Position

CATALOG = CompiledCatalog(1, parse_catalog((Path(__file__).parents[3] / "catalog.yaml").read_text()))


class FakeTallygate:
    """A transport that counts, at `now`. `forget` events are accepted and lost; `twice` counts resends."""

    def __init__(self, now: int, forget: int = 0, twice: bool = False) -> None:
        self.now = now
        self.forget = forget
        self.twice = twice
        self.plans: dict[str, str] = {}
        self.offset = -1
        self.seen: dict[str, set[tuple[str, str]]] = defaultdict(set)
        self.duplicates: dict[str, int] = defaultdict(int)
        self.states: dict[tuple[str, str, bool], State] = {}

    async def request(self, method: str, url: str, headers: Mapping[str, str], body: bytes | None) -> Reply:
        parts = urlsplit(url)
        tenant = headers["Authorization"].removeprefix("Bearer key-of-")
        if parts.path == "/v1/tenants":
            made = json.loads(body or b"")
            self.plans[made["name"]] = made["plan"]
            answer: Any = made
        elif parts.path.endswith("/keys"):
            answer = {"id": "1", "key": "key-of-" + parts.path.split("/")[3]}
        elif parts.path == "/v1/applied":
            answer = {"epoch": 1, "partitions": {"0": self.offset}}
        elif parts.path == "/v1/events":
            return Reply(202, {}, json.dumps(self._take(tenant, (body or b"").split(b"\n"))).encode())
        elif parts.path == "/v1/usage":
            answer = self._usage(tenant, parse_qs(parts.query)["source"] == ["ledger"])
        else:
            answer = self._check(tenant, Decimal(json.loads(body or b"")["amount"]))
        return Reply(200, {}, json.dumps(answer).encode())

    async def close(self) -> None:
        pass

    def _take(self, tenant: str, lines: list[bytes]) -> dict[str, Any]:
        errors = []
        for index, line in enumerate(lines):
            try:
                event = parse(compact(line), Limits())
                resolved = CATALOG.resolve(event)
                assert event.time is not None
                check_time(event.time, self.now, GATEWAY_AHEAD_MS, LATE_MS)
                if event.tenant not in (None, tenant):
                    raise Refused("reserved-attribute", "not yours")
            except Refused as error:
                errors.append({"index": index, "id": None, "code": error.code, "detail": error.detail})
                continue
            if self.forget:
                self.forget -= 1
                continue
            identity = (event.source, event.id)
            if identity in self.seen[tenant]:
                self.duplicates[tenant] += 1
                if not self.twice:
                    continue
            self.seen[tenant].add(identity)
            for meter, nanos in resolved.quantities.items():
                made = CATALOG.catalog.meters[meter]
                sample = Sample(nanos, resolved.uniques.get(meter), event.time, Position(1, 0, self.offset, index))
                state = AGGREGATIONS[made.aggregation].of(sample)
                start, end = self._period(meter)
                for ledger in (True, False) if start <= event.time < end else (True,):
                    key = (tenant, meter, ledger)
                    self.states[key] = merge(AGGREGATIONS[made.aggregation], self.states.get(key), state)
        self.offset += 1
        return {
            "accepted": len(lines) - len(errors),
            "rejected": len(errors),
            "errors": errors,
            "positions": [[0, self.offset]],
        }

    def _period(self, meter: str) -> tuple[int, int]:
        (kind,) = CATALOG.catalog.periods_of(meter)
        return period_of(kind, self.now)

    def _usage(self, tenant: str, ledger: bool) -> dict[str, Any]:
        meters: dict[str, Any] = {}
        for name, made in CATALOG.catalog.meters.items():
            state = self.states.get((tenant, name, ledger))
            total = None if state is None else AGGREGATIONS[made.aggregation].result(state, made.scale)
            (kind,), (start, end) = CATALOG.catalog.periods_of(name), self._period(name)
            period = {} if ledger else {"from": iso(start), "to": iso(min(end, 4102444800000)), "period": kind}
            meters[name] = {"total": total or "0", **period}
        return {
            "tenant": tenant,
            "events": len(self.seen[tenant]),
            "duplicates": self.duplicates[tenant],
            "dead": 0,
            "meters": meters,
        }

    def _check(self, tenant: str, amount: Decimal) -> dict[str, Any]:
        right = CATALOG.catalog.plans[self.plans[tenant]].entitlements["voice"]
        used = self._usage(tenant, False)["meters"]["voice_seconds"]["total"]
        over = right.limit is not None and right.on_exceed == "block" and Decimal(used) + amount > Decimal(right.limit)
        return {
            "allowed": not over,
            "reason": "limit-reached" if over else "within-limit",
            "feature": "voice",
            "used": used,
            "limit": right.limit,
            "remaining": "0",
        }
