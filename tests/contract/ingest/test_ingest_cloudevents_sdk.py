"""The official CloudEvents SDK talks to the gateway unchanged, in structured and in binary mode."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from cloudevents.core.bindings import http
from cloudevents.core.v1.event import CloudEvent

from tests.contract.ingest.sender import Answer, Sender


async def send(sender: Sender, message: http.HTTPMessage) -> Answer:
    headers = dict(message.headers)
    content_type = headers.pop("content-type", None)
    return await sender.post(message.body, content_type, **headers)


async def in_log(sender: Sender, id: str) -> dict[str, Any]:
    (found,) = [line for r in await sender.gateway.broker.records() for line in r.events if line["id"] == id]
    return found


def sdk_event(id: str, data: Any, **attributes: Any) -> CloudEvent:
    return CloudEvent({"id": id, "source": "/pms/berlin", "type": "call.completed", **attributes}, data)


@pytest.mark.parametrize("encode", [http.to_structured_event, http.to_binary_event])
async def test_an_event_arrives_with_all_it_carries(sender: Sender, encode: Any) -> None:
    id = f"sdk-{encode.__name__}"
    now = datetime.now(UTC)
    event = sdk_event(
        id,
        {"seconds": 12.5, "language": "de"},
        time=now,
        subject='Zimmer "12" – Zürich 100%',
        datacontenttype="application/json",
        property="mitte",
    )
    answer = await send(sender, encode(event))
    assert (answer.status, answer.body["accepted"]) == (202, 1)
    found = await in_log(sender, id)
    assert found.pop("time").startswith(now.isoformat()[:19])
    assert found == {
        "specversion": "1.0",
        "id": id,
        "source": "/pms/berlin",
        "type": "call.completed",
        "subject": 'Zimmer "12" – Zürich 100%',
        "datacontenttype": "application/json",
        "property": "mitte",
        "data": {"seconds": 12.5, "language": "de"},
    }


@pytest.mark.parametrize("encode", [http.to_structured_event, http.to_binary_event])
async def test_an_event_without_a_content_type_is_json(sender: Sender, encode: Any) -> None:
    id = f"sdk-bare-{encode.__name__}"
    answer = await send(sender, encode(sdk_event(id, {"seconds": 1})))
    assert answer.status == 202
    assert (await in_log(sender, id))["data"] == {"seconds": 1}


async def test_bytes_arrive_in_either_mode(sender: Sender) -> None:
    for encode in (http.to_structured_event, http.to_binary_event):
        id = f"sdk-bytes-{encode.__name__}"
        event = CloudEvent(
            {"id": id, "source": "/a", "type": "not.metered", "datacontenttype": "application/octet-stream"},
            b"\x00\xff",
        )
        assert (await send(sender, encode(event))).status == 202
        assert (await in_log(sender, id))["data_base64"] == "AP8="


async def test_a_bad_event_in_binary_mode_is_listed_like_any_other(sender: Sender) -> None:
    message = http.to_binary_event(sdk_event("sdk-bad", {"seconds": -1}, datacontenttype="application/json"))
    answer = await send(sender, message)
    assert (answer.status, answer.codes) == (422, [(0, "negative")])
