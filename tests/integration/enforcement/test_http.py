"""Who may ask what, how proxies ask, and how wrong questions are refused."""

from __future__ import annotations

from typing import Any

import pytest

from enforcement.requests import CheckRequest
from tests.integration.enforcement.conftest import GateClient, State


async def test_a_tenants_key_asks_for_its_own_tenant(gate: GateClient) -> None:
    key = await gate.key("grand")
    assert (await gate.check("voice", key=key))["reason"] == "within-limit"
    response = await gate.send("POST", "/v1/check", {"feature": "voice"}, key)
    assert (await response.json())["reason"] == "within-limit"


async def test_another_tenants_name_answers_exactly_as_one_that_does_not_exist(gate: GateClient, state: State) -> None:
    await state.tenant("rival")
    await state.counter("rival", "voice", "36000")
    key = await gate.key("grand")
    await _raw(gate, "POST", "/v1/check", {"tenant": "anybody", "feature": "voice"}, key)
    answers = []
    for name in ("rival", "nobody"):
        question = {"tenant": name, "feature": "voice"}
        answers.append(
            [
                await _raw(gate, "POST", "/v1/check", question, key),
                await _raw(gate, "POST", "/v1/check/batch", {"checks": [question]}, key),
                await _raw(gate, "GET", f"/v1/check?tenant={name}&feature=voice", None, key),
                await _raw(gate, "GET", f"/v1/entitlements/{name}", None, key),
            ]
        )
    rival, nobody = answers
    assert rival == nobody
    assert [status for status, _, _ in rival] == [200, 200, 403, 404]


async def test_keys_without_the_scope_or_without_any_are_refused(gate: GateClient) -> None:
    ingest_only = await gate.key("grand", "ingest", "read", "admin")
    for method, path in [
        ("POST", "/v1/check"),
        ("GET", "/v1/check?feature=voice"),
        ("POST", "/v1/check/batch"),
        ("GET", "/v1/entitlements/grand"),
    ]:
        assert (await gate.send(method, path, key=ingest_only)).status == 403
        assert (await gate.send(method, path, key="tg_aaaaaaaaaaaa_" + "x" * 32)).status == 401
        assert (await gate.client.request(method, path)).status == 401


async def test_forward_auth_says_yes_with_200_and_no_with_403_and_why_in_headers(
    gate: GateClient, state: State
) -> None:
    await state.counter("grand", "voice", "35999")
    yes = await gate.send("GET", "/v1/check?tenant=grand&feature=voice&amount=1&subject=room-7")
    assert yes.status == 200
    assert yes.headers["X-Tallygate-Reason"] == "within-limit"
    no = await gate.send("GET", "/v1/check?tenant=grand&feature=voice&amount=1.5")
    assert no.status == 403
    assert {name: value for name, value in no.headers.items() if name.startswith("X-Tallygate")} == {
        "X-Tallygate-Reason": "limit-reached",
        "X-Tallygate-Feature": "voice",
        "X-Tallygate-Used": "35999",
        "X-Tallygate-Reserved": "0",
        "X-Tallygate-Limit": "36000",
        "X-Tallygate-Remaining": "1",
        "X-Tallygate-Period": "billing",
        "X-Tallygate-Resets-At": "2026-11-30T00:00:00.000Z",
        "X-Tallygate-Policy": "block",
        "X-Tallygate-Policy-Version": "1",
        "X-Tallygate-Source": "memory",
        "X-Tallygate-As-Of": "2026-11-23T10:00:00.000Z",
        "X-Tallygate-Mode": "enforce",
    }
    assert (await no.json())["allowed"] is False


async def test_a_feature_name_cannot_smuggle_headers(gate: GateClient) -> None:
    response = await gate.send("GET", "/v1/check?tenant=grand&feature=a%0d%0aX-Evil:%201%ff")
    assert response.status == 403
    assert response.headers["X-Tallygate-Reason"] == "unknown-feature"
    assert "X-Evil" not in response.headers


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"{", 400, "invalid-json"),
        (b"", 400, "invalid-json"),
        (b'{"feature":"voice","amount":1e99999999999999999999}', 400, "invalid-json"),
        (b"[]", 422, "invalid-request"),
        (b"{}", 422, "invalid-request"),
        (b'{"feature":"voice"}', 422, "invalid-request"),
        (b'{"tenant":"grand","feature":7}', 422, "invalid-request"),
        (b'{"tenant":"grand","feature":"voice","ammount":2}', 422, "invalid-request"),
        (b'{"tenant":"grand","feature":"voice","amount":-1}', 422, "negative"),
        (b'{"tenant":"grand","feature":"voice","amount":"many"}', 422, "not-a-number"),
        (b'{"tenant":"grand","feature":"voice","amount":true}', 422, "not-a-number"),
        (b'{"tenant":"grand","feature":"voice","amount":null}', 422, "not-a-number"),
        (b'{"tenant":"grand","feature":"voice","amount":1e18}', 422, "too-large"),
    ],
)
async def test_a_wrong_question_is_refused_with_its_own_code(
    gate: GateClient, body: bytes, status: int, code: str
) -> None:
    response = await gate.send("POST", "/v1/check", data=body)
    assert response.status == status
    assert response.content_type == "application/problem+json"
    assert (await response.json())["type"].endswith("/" + code)


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ("tenant=grand", "invalid-request"),
        ("feature=voice", "invalid-request"),
        ("tenant=grand&feature=voice&amuont=3", "invalid-request"),
        ("tenant=grand&feature=voice&amount=x", "not-a-number"),
    ],
)
async def test_a_wrong_query_is_refused_with_its_own_code(gate: GateClient, query: str, code: str) -> None:
    response = await gate.send("GET", f"/v1/check?{query}")
    assert response.status == 422
    assert (await response.json())["type"].endswith("/" + code)


async def test_a_batch_lists_every_wrong_check(gate: GateClient) -> None:
    checks: list[dict[str, Any]] = [{"tenant": "grand", "feature": "voice"} for _ in range(4)]
    checks[1]["amount"] = -1
    checks[3].pop("tenant")
    response = await gate.send("POST", "/v1/check/batch", {"checks": checks})
    assert response.status == 422
    assert [(error["index"], error["code"]) for error in (await response.json())["errors"]] == [
        (1, "negative"),
        (3, "invalid-request"),
    ]


async def test_a_batch_has_a_limit_and_may_be_empty(gate: GateClient) -> None:
    many = {"checks": [{"tenant": "grand", "feature": "voice"}] * 1001}
    assert (await gate.send("POST", "/v1/check/batch", many)).status == 413
    empty = await gate.send("POST", "/v1/check/batch", {"checks": []})
    assert await empty.json() == {"results": []}


async def test_every_route_is_in_the_openapi_document(gate: GateClient) -> None:
    document = await (await gate.client.get("/openapi.json")).json()
    app = gate.client.app
    assert app is not None
    served = {
        (resource.canonical, route.method.lower())
        for resource in app.router.resources()
        for route in resource
        if route.method != "HEAD"
    }
    described = {(path, method) for path, methods in document["paths"].items() for method in methods}
    assert served - described <= {("/openapi.json", "get")}
    assert described <= served
    asked = document["components"]["schemas"]["Check"]["properties"]
    assert set(asked) == set(CheckRequest.__struct_fields__)


async def test_an_answer_has_the_members_that_the_document_requires(gate: GateClient) -> None:
    document = await (await gate.client.get("/openapi.json")).json()
    decision = document["components"]["schemas"]["Decision"]
    for feature in ("voice", "upload", "teleport"):
        answer = await gate.check(feature)
        assert set(decision["required"]) <= set(answer) <= set(decision["properties"])
        assert answer["reason"] in decision["properties"]["reason"]["enum"]


async def test_checks_are_counted_by_reason_and_source(gate: GateClient) -> None:
    def count(text: str) -> float:
        name = 'tallygate_gate_checks_total{reason="unknown-feature",source="memory"}'
        return next((float(line.split()[1]) for line in text.splitlines() if line.startswith(name)), 0.0)

    await gate.check("voice")
    before = count(await (await gate.client.get("/metrics")).text())
    await gate.check("teleport")
    assert count(await (await gate.client.get("/metrics")).text()) == before + 1


async def _raw(gate: GateClient, method: str, path: str, json: Any, key: str) -> tuple[int, dict[str, str], str]:
    response = await gate.send(method, path, json, key)
    kept = {name: value for name, value in response.headers.items() if name not in ("Date", "Content-Length")}
    return response.status, kept, (await response.text()).replace("rival", "nobody")
