from __future__ import annotations

from typing import Annotated

import msgspec
import pytest

from metering.errors import InvalidSettings
from metering.settings import SettingDoc, document, load

Port = Annotated[int, msgspec.Meta(description="a port", ge=1, le=65535)]


class Example(msgspec.Struct, frozen=True):
    redis: Annotated[str, msgspec.Meta(description="where Redis is")]
    port: Port
    host: str = "127.0.0.1"
    verbose: bool = False
    kafka_embedded: bool = False
    socket: str | None = None


def test_own_settings_carry_the_services_name_and_shared_ones_do_not() -> None:
    environment = {"TALLYGATE_REDIS": "redis://x", "TALLYGATE_GATE_PORT": "8081", "TALLYGATE_KAFKA_EMBEDDED": "1"}
    assert load(Example, "TALLYGATE_GATE", environment) == Example("redis://x", 8081, kafka_embedded=True)


def test_every_mistake_is_reported_at_once() -> None:
    with pytest.raises(InvalidSettings) as caught:
        load(Example, "TALLYGATE_GATE", {"TALLYGATE_GATE_PORT": "99999", "TALLYGATE_GATE_VERBOSE": "perhaps"})
    assert [problem.split(":")[0].split("=")[0] for problem in caught.value.problems] == [
        "TALLYGATE_REDIS is not set",
        "TALLYGATE_GATE_PORT",
        "TALLYGATE_GATE_VERBOSE",
    ]
    assert "where Redis is" in str(caught.value)


def test_an_empty_variable_counts_as_not_set() -> None:
    environment = {"TALLYGATE_REDIS": "redis://x", "TALLYGATE_GATE_PORT": "1", "TALLYGATE_GATE_HOST": ""}
    assert load(Example, "TALLYGATE_GATE", environment).host == "127.0.0.1"


def test_settings_document_themselves() -> None:
    docs = document(Example, "TALLYGATE_GATE")
    assert docs[0] == SettingDoc("TALLYGATE_REDIS", "required", "where Redis is")
    assert docs[2] == SettingDoc("TALLYGATE_GATE_HOST", "127.0.0.1", "")
