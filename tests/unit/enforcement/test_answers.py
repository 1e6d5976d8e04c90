from __future__ import annotations

from enforcement import answers
from metering.catalog import Limit
from metering.decision import Decision, Standing, Used
from metering.period import Period

APPROXIMATE = Standing(Limit("5", "hour"), Period(0, 1), Used(1, 1, True), 0, 5, 0)
BARE = Decision(False, "unknown-feature", "télé\r\nX: y", "redis", 1_795_428_000_000)


def test_an_answer_always_has_the_members_of_the_contract() -> None:
    assert list(answers.document(BARE)) == [
        "allowed",
        "reason",
        "feature",
        "used",
        "reserved",
        "limit",
        "remaining",
        "period",
        "resets_at",
        "policy",
        "policy_version",
        "source",
        "as_of",
        "mode",
    ]


def test_a_value_and_being_approximate_are_said_where_they_are_so() -> None:
    answer = answers.document(Decision(True, "granted", "upload", "redis", 0, APPROXIMATE, value=20))
    assert (answer["value"], answer["approximate"]) == (20, True)


def test_headers_leave_out_what_is_not_there_and_escape_the_name() -> None:
    assert answers.headers(BARE) == {
        "X-Tallygate-Reason": "unknown-feature",
        "X-Tallygate-Feature": "t%C3%A9l%C3%A9%0D%0AX%3A%20y",
        "X-Tallygate-Source": "redis",
        "X-Tallygate-As-Of": "2026-11-23T10:00:00.000Z",
        "X-Tallygate-Mode": "enforce",
    }
