"""Reservations over HTTP on a real Valkey: what is granted, what ends a hold, and what Redis may lose."""

from __future__ import annotations

from typing import Any

import pytest
from prometheus_client import REGISTRY
from redis.asyncio import Redis

from metering import keys
from metering.partition import partition_of
from tests.integration.enforcement.conftest import EPOCH, PARTITIONS, GateClient, State
from tests.support import SetClock, eventually

TENANT = "tight"
AT = EPOCH, partition_of(TENANT, PARTITIONS)


@pytest.fixture(autouse=True)
async def held(redis: Redis, state: State) -> None:
    """A tenant whose plan allows 10 s in the billing period and 4.5 in the hour; every hold is known to be there."""
    await state.tenant(TENANT, "tight")
    run = (await redis.info("server"))["run_id"]
    for partition in range(PARTITIONS):
        await redis.hset(keys.holding(EPOCH, partition), mapping={"run": run, "since": "0", "latest": "0"})


async def reserve(gate: GateClient, amount: Any, status: int = 201, **more: Any) -> Any:
    question = {"tenant": TENANT, "feature": "voice", "amount": amount, **more}
    key = question.pop("key", None)
    response = await gate.send("POST", "/v1/reservations", question, key)
    assert response.status == status, await response.text()
    return await response.json()


async def commit(gate: GateClient, name: str, status: int = 200, key: str | None = None, **body: Any) -> Any:
    response = await gate.send("POST", f"/v1/reservations/{name}/commit", body, key)
    assert response.status == status, await response.text()
    return await response.json()


async def release(gate: GateClient, name: str, key: str | None = None) -> None:
    response = await gate.send("DELETE", f"/v1/reservations/{name}", key=key)
    assert response.status == 204, await response.text()


async def test_holds_fill_the_tightest_limit_to_the_last_unit_and_no_further(gate: GateClient) -> None:
    before = [_counted(reason) for reason in ("within-limit", "limit-reached")]
    first = await reserve(gate, "4.499")
    assert (first["reserved"], first["limit"], first["remaining"]) == ("4.499", "4.5", "0.001")
    refused = await reserve(gate, "0.002", 409)
    assert refused["type"].endswith("/limit-reached")
    assert (refused["reason"], refused["limit"], refused["reserved"]) == ("limit-reached", "4.5", "4.499")
    assert (await reserve(gate, "0.001"))["remaining"] == "0"
    after = [_counted(reason) for reason in ("within-limit", "limit-reached")]
    assert [new - old for old, new in zip(before, after, strict=True)] == [2, 1]


def _counted(reason: str) -> float:
    labels = {"reason": reason, "source": "redis"}
    return REGISTRY.get_sample_value("tallygate_gate_checks_total", labels) or 0.0


async def test_what_is_used_counts_beside_what_is_held(gate: GateClient, state: State) -> None:
    await state.tenant("starts", "starter")
    await state.counter("starts", "voice", "35999.5")
    question = {"tenant": "starts", "feature": "voice"}
    for amount, status in (("0.501", 409), ("0.5", 201), ("0.001", 409)):
        response = await gate.send("POST", "/v1/reservations", {**question, "amount": amount})
        assert response.status == status


async def test_the_same_id_and_amount_is_the_same_reservation_and_another_amount_is_a_conflict(
    gate: GateClient,
) -> None:
    first = await reserve(gate, 3, id="job-1")
    again = await reserve(gate, 3, id="job-1")
    assert first["id"] == f"{TENANT}.voice.job-1"
    assert {**again, "as_of": first["as_of"]} == first
    assert again["reserved"] == "3"
    assert (await reserve(gate, 2, 409, id="job-1"))["type"].endswith("/id-conflict")


async def test_a_commit_keeps_the_smaller_amount_and_a_release_gives_everything_back(gate: GateClient) -> None:
    one = (await reserve(gate, 4))["id"]
    assert (await commit(gate, one, 409, amount="4.001"))["type"].endswith("/more-than-held")
    assert (await commit(gate, one, amount="1.5"))["amount"] == "1.5"
    assert (await commit(gate, one, amount="1.5"))["state"] == "committed"
    assert (await commit(gate, one, 409, amount=1))["type"].endswith("/already-committed")
    assert (await reserve(gate, 3))["remaining"] == "0"
    await release(gate, one)
    await release(gate, one)
    assert (await reserve(gate, "1.5"))["remaining"] == "0"
    await commit(gate, one, 404)


async def test_a_hold_ends_with_its_time_and_can_no_longer_be_committed(gate: GateClient) -> None:
    one = (await reserve(gate, "4.5", ttl_seconds="0.2"))["id"]
    await reserve(gate, 1, 409)

    async def free() -> bool:
        await reserve(gate, "4.5")
        return True

    await eventually(free, what="the hold's end")
    assert (await commit(gate, one, 404))["type"].endswith("/unknown-reservation")


async def test_beyond_a_limit_that_does_not_block_holds_are_granted_and_the_answer_says_so(
    gate: GateClient, state: State
) -> None:
    await state.tenant("generous", "generous")
    answer = await reserve(gate, 11, tenant="generous")
    assert (answer["reason"], answer["reserved"]) == ("over-limit", "11")


async def test_a_key_of_another_tenant_sees_what_it_sees_of_ids_that_do_not_exist(
    gate: GateClient, redis: Redis
) -> None:
    one = (await reserve(gate, 4))["id"]
    key = await gate.key("other")
    unknown = one[:-1] + ("a" if one[-1] != "a" else "b")
    assert await commit(gate, one, 404, key=key) == await commit(gate, unknown, 404, key=key)
    await release(gate, one, key=key)
    assert await redis.hlen(keys.holds(*AT, TENANT)) == 1
    theirs = await reserve(gate, 1, 409, key=key)
    nobodys = await reserve(gate, 1, 409, key=key, tenant="nobody")
    assert nobodys == {**theirs, "as_of": nobodys["as_of"]}


@pytest.mark.parametrize(
    "wrong",
    [{"amount": 0}, {"amount": "0.0001"}, {"amount": 1 << 53}, {"ttl_seconds": 901}, {"ttl_seconds": 0}, {"id": "a b"}],
)
async def test_what_can_never_be_held_is_refused(gate: GateClient, wrong: dict[str, Any]) -> None:
    await reserve(gate, wrong.pop("amount", 1), 422, **wrong)


async def test_only_what_the_catalog_calls_reservable_can_be_held(gate: GateClient) -> None:
    assert (await reserve(gate, 1, 422, feature="calls"))["type"].endswith("/not-reservable")
    assert (await reserve(gate, 1, 409, feature="cloning"))["reason"] == "not-entitled"


async def test_checks_count_what_is_held_at_once_and_until_it_ends(
    gate: GateClient, redis: Redis, state: State, clock: SetClock
) -> None:
    clock.advance(int((await redis.time())[0]) * 1000 - clock.at)  # holds end by the clock of Redis
    before = await reserve(gate, "1.5")  # before anybody has asked for the tenant's counters
    await gate.says("voice", TENANT, reserved="1.5", remaining="3")
    after = await reserve(gate, "2.5")
    await eventually(lambda: gate.says("voice", TENANT, reserved="4", remaining="0.5", allowed=False), what="a hold")
    listed = (await (await gate.send("GET", f"/v1/entitlements/{TENANT}")).json())["features"]["voice"]
    assert (listed["reserved"], listed["remaining"]) == ("4", "6")
    assert [(one["reserved"], one["remaining"]) for one in listed["limits"]] == [("4", "0.5")]
    await commit(gate, after["id"], amount=1)
    await eventually(lambda: gate.says("voice", TENANT, reserved="2.5", remaining="2", allowed=True), what="a commit")
    await release(gate, after["id"])
    await eventually(lambda: gate.says("voice", TENANT, reserved="1.5"), what="a release")
    await state.counts(TENANT, before["id"].split(".")[2], "1.25", clock.at)
    await eventually(lambda: gate.says("voice", TENANT, used="1.25", reserved="0"), what="a count")
    await reserve(gate, 2, ttl_seconds=60)
    await eventually(lambda: gate.says("voice", TENANT, reserved="2"), what="a hold")
    clock.advance(75_000)  # it was begun by another clock, some seconds on
    # … and by what the writer vouches for, which is asked for now and then
    await eventually(lambda: gate.says("voice", TENANT, reserved="0"), what="the hold's end")


async def test_after_a_flush_nothing_is_granted_until_no_hold_can_last(
    gate: GateClient, redis: Redis, state: State
) -> None:
    await reserve(gate, 4)
    await redis.flushall()
    await state.whole()
    await state.tenant(TENANT, "tight")
    response = await gate.send("POST", "/v1/reservations", {"tenant": TENANT, "feature": "voice", "amount": 1})
    assert response.status == 503
    assert (await response.json())["type"].endswith("/recovering")
    assert 895 <= int(response.headers["Retry-After"]) <= 900
    await redis.hset(keys.holding(*AT), "since", "1")
    await reserve(gate, 1)


async def test_another_run_of_the_server_may_lack_holds(gate: GateClient, redis: Redis) -> None:
    await redis.hset(keys.holding(*AT), "run", "of-another-server")
    await reserve(gate, 1, 503)


async def test_nothing_is_granted_while_counters_are_being_rebuilt(gate: GateClient, state: State) -> None:
    await state.rebuilding(TENANT)
    assert (await reserve(gate, 1, 503))["type"].endswith("/recovering")
