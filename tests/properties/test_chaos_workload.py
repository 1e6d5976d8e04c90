"""The account of the chaos run against its own lines, read one after the other as a person would."""

from __future__ import annotations

import json
from collections import Counter
from datetime import datetime
from decimal import Decimal
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.chaos.run.account import METERS, Account
from tests.chaos.run.workload import HOUR_MS, Workload

NOON = 1_795_435_200_000
SLOTS = 1_500


def _standing(lines: list[bytes]) -> dict[str, Any]:
    """id → the event that counts, of those sent: the first of its id, unless a void names it."""
    events = [json.loads(line, parse_float=Decimal) for line in lines]
    voided = {event["data"]["id"] for event in events if event["type"] == "tallygate.void"}
    first: dict[str, Any] = {}
    for event in events:
        first.setdefault(event["id"], event)
    return {id: event for id, event in first.items() if id not in voided}


@given(st.integers(0, 1 << 32))
@settings(max_examples=10)
def test_the_account_is_what_its_lines_add_up_to(seed: int) -> None:
    workload = Workload(seed, "hotel", SLOTS, NOON)
    account = Account(workload)
    lines = [workload.line(number) for number in range(SLOTS)]
    standing = _standing(lines)
    of_type = Counter(event["type"] for event in standing.values())
    calls = [event["data"] for event in standing.values() if event["type"] == "call.completed"]
    requests = [event for event in standing.values() if event["type"] == "request.created"]
    solved = [Decimal(event["data"]["minutes"]) for event in standing.values() if event["type"] == "request.resolved"]
    seats = [event for event in standing.values() if event["type"] == "staff.seats"]
    found = {name: account.total(rule, account.hours()) for name, rule in METERS.items()}

    assert Decimal(str(found["voice_seconds"])) == sum(Decimal(call["duration_seconds"]) for call in calls)
    assert found["voice_calls"] == str(len(calls))
    assert found["voice_languages"] == str(len({call["language"] for call in calls}))
    assert found["locations"] == str(len({call["property"] for call in calls}))
    assert found["concurrent_calls"] == str(max(call["concurrent"] for call in calls))
    assert found["guest_requests"] == str(len(requests))
    assert found["requesting_guests"] == str(len({request["subject"] for request in requests}))
    assert found["priority_requests"] == str(sum(r["data"]["priority"] in ("high", "urgent") for r in requests))
    assert abs(Decimal(str(found["resolution_minutes"])) - sum(solved, Decimal(0)) / len(solved)) < Decimal(
        "0.00000001"
    )
    assert Decimal(str(found["fastest_resolution"])) == min(solved)
    assert found["staff_seats"] == str(max(seats, key=lambda event: event["time"])["data"]["seats"])
    assert found["api_calls"] == str(of_type["api.request"])
    assert account.distinct == len({json.loads(line)["id"] for line in lines})


def test_a_workload_has_everything_that_a_run_needs() -> None:
    workload = Workload(1, "hotel", SLOTS, NOON)
    account = Account(workload)
    slots = [workload.slot(number) for number in range(SLOTS)]
    times = [
        datetime.fromisoformat(json.loads(workload.line(n))["time"]) for n, s in enumerate(slots) if s.kind == "new"
    ]

    assert {slot.kind for slot in slots} == {"new", "resend", "void"}
    assert {slot.changed for slot in slots if slot.kind == "resend"} == {True, False}
    assert 0 < account.arrived_void < account.voided
    assert min(times).timestamp() * 1000 < NOON - 20 * 24 * HOUR_MS
    assert max(times).timestamp() * 1000 < NOON
    assert any(workload.line(n) != workload.line(s.event) for n, s in enumerate(slots) if s.changed)


def test_a_slot_is_the_same_whoever_asks_for_it() -> None:
    one, other = Workload(1, "hotel", SLOTS, NOON), Workload(1, "hotel", SLOTS, NOON)

    assert [one.line(number) for number in range(99)] == [other.line(number) for number in reversed(range(99))][::-1]
    assert one.line(0) != Workload(2, "hotel", SLOTS, NOON).line(0)
