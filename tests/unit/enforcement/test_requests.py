from __future__ import annotations

from typing import Any

import msgspec
import pytest

from enforcement.gate import Check
from enforcement.requests import NOBODY, batch_of, check_of, query_of
from metering.quantity import ONE, InvalidQuantity
from service.problems import Problem


@pytest.mark.parametrize(
    ("body", "own", "check"),
    [
        (b'{"tenant":"grand","feature":"voice"}', None, Check("grand", "voice", ONE)),
        (b'{"tenant":"grand","feature":"voice","amount":2.5}', None, Check("grand", "voice", 2_500_000_000)),
        (b'{"tenant":"grand","feature":"voice","amount":"0.000000001"}', "grand", Check("grand", "voice", 1)),
        (b'{"feature":"voice","subject":"room-7"}', "grand", Check("grand", "voice", ONE, {}, "room-7")),
        (
            b'{"feature":"voice","groups":{"language":"ja","floor":7,"vip":true}}',
            "grand",
            Check("grand", "voice", ONE, {"language": "ja", "floor": "7", "vip": "true"}),
        ),
        (b'{"tenant":"rival","feature":"voice"}', "grand", Check(NOBODY, "voice", ONE)),
    ],
)
def test_a_question_is_read(body: bytes, own: str | None, check: Check) -> None:
    assert check_of(body, own) == check


def test_no_tenant_can_have_the_name_of_nobody() -> None:
    from metering.catalog import TENANT_NAME

    assert TENANT_NAME.fullmatch(NOBODY) is None


def test_the_platform_has_to_name_the_tenant() -> None:
    with pytest.raises(Problem, match="name the `tenant`"):
        check_of(b'{"feature":"voice"}', None)


def test_amounts_are_exact_or_refused() -> None:
    for amount in (b"-1", b"1e18", b'"0.0000000001"', b"true", b"null", b"[]"):
        with pytest.raises(InvalidQuantity):
            check_of(b'{"feature":"voice","amount":%b}' % amount, "grand")


def test_a_query_asks_the_same() -> None:
    assert query_of({"tenant": "grand", "feature": "voice", "amount": "2.5"}, None) == Check(
        "grand", "voice", 2_500_000_000
    )
    asked = {"feature": "voice", "subject": "room-7", "group.language": "ja"}
    assert query_of(asked, "grand") == Check("grand", "voice", ONE, {"language": "ja"}, "room-7")
    assert query_of({"feature": "voice"}, "grand") == Check("grand", "voice", ONE)


def test_a_batch_names_every_wrong_check_by_its_place() -> None:
    body = b'{"checks":[{"feature":"a"},{"feature":"b","amount":-1},{"feature":"c","amount":"x"}]}'
    with pytest.raises(Problem) as caught:
        batch_of(body, "grand", 10)
    assert [(error["index"], error["code"]) for error in caught.value.extra["errors"]] == [
        (1, "negative"),
        (2, "not-a-number"),
    ]
    with pytest.raises(Problem, match="may have 2"):
        batch_of(body, "grand", 2)


@pytest.mark.parametrize(
    "wrong",
    [
        {"groups": {"language": None}},
        {"groups": {"language": ["ja"]}},
        {"groups": {"language": "j" * 257}},
        {"groups": {str(number): 1 for number in range(17)}},
        {"subject": "s" * 257},
        {"group": {"language": "ja"}},
    ],
)
def test_groups_and_subjects_of_another_form_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(Problem, match=r"groups|subject|unknown field"):
        check_of(msgspec.json.encode({"feature": "voice", **wrong}), "grand")
