"""What the control plane's API takes, what it refuses, and who may ask."""

from __future__ import annotations

from typing import Any

import pytest

from metering.clock import SystemClock, iso
from tenancy import tenants
from tests.integration.console.conftest import CATALOG, PLATFORM, Api

OBJECT = {"name": "grand"}


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"\xff", b"null", b'"grand"', b"{}", b'{"name": 5}', b"[" * 5000])
async def test_a_body_of_another_form_is_refused_and_nothing_is_made(api: Api, body: bytes) -> None:
    status, problem = await api.ask("POST", "/v1/tenants", body)
    assert status in (400, 422), problem
    assert problem["type"].endswith(("invalid-json", "invalid-body"))
    assert (await api.must("GET", "/v1/tenants"))["tenants"] == []


@pytest.mark.parametrize(
    ("more", "code"),
    [
        ({"name": "Grand Hotel"}, "invalid-name"),
        ({"plan": "huge"}, "unknown-plan"),
        ({"plan": ["small"]}, "invalid-body"),
        ({"plan": "small", "anchor": "yesterday"}, "invalid-time"),
        ({"plan": "small", "anchor": "2026-01-01"}, "invalid-time"),
        ({"plan": "small", "anchor": "9999-01-01T00:00:00Z"}, "invalid-time"),
        ({"plan": "small", "anchor": 5}, "invalid-body"),
        ({"plan": "small", "time_zone": "Mars"}, "invalid-time-zone"),
        ({"plan": "small", "time_zone": 5}, "invalid-body"),
        ({"colour": "red"}, "invalid-body"),
    ],
)
async def test_a_tenant_that_cannot_be_as_asked_is_not_created_at_all(api: Api, more: Any, code: str) -> None:
    status, problem = await api.ask("POST", "/v1/tenants", {**OBJECT, **more})
    assert (status, problem["type"].rpartition("/")[2]) == (422, code)
    assert (await api.ask("GET", "/v1/tenants/grand"))[0] == 404


async def test_a_tenant_is_created_once(api: Api) -> None:
    made = await api.must("POST", "/v1/tenants", {**OBJECT, "plan": "small", "time_zone": "Europe/Berlin"})
    assert made == await api.must("GET", "/v1/tenants/grand")
    assert (made["plan"], made["subscription"]["time_zone"]) == ("small", "Europe/Berlin")
    assert "upcoming" not in made
    status, problem = await api.ask("POST", "/v1/tenants", OBJECT)
    assert (status, problem["type"].rpartition("/")[2]) == (409, "tenant-exists")


async def test_a_plan_that_begins_later_is_told_as_upcoming(api: Api) -> None:
    await api.must("POST", "/v1/tenants", {**OBJECT, "plan": "small"})
    later = iso(SystemClock().now_ms() + 3_600_000)
    shown = await api.must("PUT", "/v1/tenants/grand/subscription", {"plan": "large", "since": later})
    assert shown["plan"] == "small"
    assert [(one["plan"], one["since"]) for one in shown["upcoming"]] == [("large", later)]
    assert shown["upcoming"][0]["anchor"] == shown["subscription"]["anchor"]


async def test_a_tenant_is_suspended_and_comes_back(api: Api) -> None:
    await api.must("POST", "/v1/tenants", OBJECT)
    for status in ("suspended", "active", "cancelled"):
        await api.must("PUT", "/v1/tenants/grand/status", {"status": status})
        assert (await api.must("GET", "/v1/tenants/grand"))["status"] == status
    assert (await api.ask("PUT", "/v1/tenants/grand/status", {"status": "asleep"}))[0] == 422


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "/v1/tenants", None),
        ("POST", "/v1/tenants", {"name": "mine"}),
        ("PUT", "/v1/tenants/grand/subscription", {"plan": "large"}),
        ("PUT", "/v1/tenants/grand/status", {"status": "active"}),
        ("PUT", "/v1/catalog", CATALOG),
        ("GET", "/v1/keys", None),
        ("POST", "/v1/keys", {"scopes": ["platform"]}),
        ("DELETE", f"/v1/keys/{'p' * 12}", None),
        ("GET", "/v1/status", None),
    ],
)
async def test_the_platforms_things_are_not_a_tenants_whatever_its_scopes(
    api: Api, method: str, path: str, body: Any
) -> None:
    await api.must("POST", "/v1/tenants", OBJECT)
    key = await api.key("grand", "admin", "read", "ingest", "check", "backfill", "void")
    assert (await api.ask(method, path, body, key))[0] == 403
    assert (await api.ask(method, path, body, None))[0] == 401


async def test_a_tenant_makes_no_key_of_the_platform(api: Api) -> None:
    await api.must("POST", "/v1/tenants", OBJECT)
    key = await api.key("grand", "admin")
    status, problem = await api.ask("POST", "/v1/tenants/grand/keys", {"scopes": ["platform"]}, key)
    assert (status, problem["type"].rpartition("/")[2]) == (422, "invalid-scope")
    assert (await api.ask("POST", "/v1/tenants/grand/keys", {"scopes": ["read"]}, key))[0] == 201


async def test_platform_keys_are_made_listed_and_revoked(api: Api) -> None:
    made = await api.must("POST", "/v1/keys", {"scopes": ["platform"], "expires": "2100-01-01T00:00:00Z"})
    assert (await api.ask("GET", "/v1/tenants", None, made["key"]))[0] == 200
    listed = (await api.must("GET", "/v1/keys"))["keys"]
    assert {one["id"]: one["expires"] for one in listed} == {"p" * 12: None, made["id"]: "2100-01-01T00:00:00.000Z"}
    assert made["key"].split("_")[2] not in str(listed)
    await api.must("DELETE", f"/v1/keys/{made['id']}")
    assert (await api.ask("DELETE", f"/v1/keys/{made['id']}"))[0] == 404


async def test_a_key_is_deleted_only_where_it_belongs(api: Api) -> None:
    for name in ("grand", "plaza"):
        await api.must("POST", "/v1/tenants", {"name": name})
    theirs = (await api.must("POST", "/v1/tenants/plaza/keys", {"scopes": ["read"]}))["id"]
    mine = await api.key("grand", "admin")
    wrong = [await api.ask("DELETE", f"/v1/tenants/grand/keys/{one}", None, mine) for one in (theirs, "z" * 12)]
    assert [status for status, _ in wrong] == [404, 404]
    assert str(wrong[0][1]).replace(theirs, "z" * 12) == str(wrong[1][1])
    assert (await api.ask("DELETE", f"/v1/keys/{theirs}"))[0] == 404
    assert (await api.must("GET", "/v1/tenants/plaza/keys"))["keys"][0]["revoked"] is None


async def test_a_catalog_that_is_no_text_or_no_catalog_is_refused(api: Api) -> None:
    assert (await api.ask("PUT", "/v1/catalog", b"\xff\xfe"))[0] == 400
    for text in (b"", b"[1]", b"meters: {a: *nowhere}", b"a: &a [*a]"):
        status, problem = await api.ask("PUT", "/v1/catalog", text)
        if status != 200:
            assert (status, problem["type"].rpartition("/")[2]) == (422, "invalid-catalog"), text
            assert all(set(error) == {"path", "detail"} for error in problem["errors"])
    assert (await api.ask("GET", "/v1/catalog/99999999999999999999"))[0] == 404
    assert (await api.ask("GET", "/v1/catalog/7"))[0] == 404


async def test_the_platform_key_is_told_nowhere(api: Api) -> None:
    for path in ("/v1/keys", "/v1/status", "/v1/addresses", "/metrics"):
        async with api._client.get(path, headers={"Authorization": f"Bearer {PLATFORM}"}) as answer:
            assert PLATFORM not in await answer.text()


async def test_how_long_payloads_are_kept_is_the_platforms_to_say(api: Api) -> None:
    await api.must("POST", "/v1/tenants", {"name": "grand"})
    assert (await api.must("GET", "/v1/tenants/grand"))["payload_days"] is None
    path = "/v1/tenants/grand/retention"
    assert await api.must("PUT", path, {"payload_days": 90}) == {"name": "grand", "payload_days": 90}
    assert (await api.must("GET", "/v1/tenants/grand"))["payload_days"] == 90
    assert await tenants.payload_days(api.database) == {"grand": 90}
    for wrong in ({"payload_days": 0}, {"payload_days": "90"}, {}):
        assert (await api.ask("PUT", path, wrong))[0] == 422
    assert (await api.ask("PUT", path, {"payload_days": 1}, key=await api.key("grand", "admin")))[0] == 403
    assert (await api.ask("PUT", "/v1/tenants/nobody/retention", {"payload_days": 1}))[0] == 404
    await api.must("PUT", path, {"payload_days": None})
    assert await tenants.payload_days(api.database) == {}
