"""Bytes in flight and requests per key."""

from __future__ import annotations

import pytest

from ingest.admission import Admission, Rate
from service.problems import Problem


def test_a_tenant_past_its_share_is_told_to_come_back_and_others_are_not_touched() -> None:
    admission = Admission(total=100, share=40)
    with admission.hold("a", 30), pytest.raises(Problem) as caught, admission.hold("a", 11):
        raise AssertionError
    assert (caught.value.status, caught.value.headers["Retry-After"]) == (429, "1")
    with admission.hold("a", 40), admission.hold("b", 40):
        assert admission.in_flight == 80


def test_a_full_process_answers_503() -> None:
    admission = Admission(total=100, share=60)
    with admission.hold("a", 60), pytest.raises(Problem) as caught, admission.hold("b", 41):
        raise AssertionError
    assert (caught.value.status, caught.value.headers["Retry-After"]) == (503, "1")


def test_what_was_held_is_given_back_however_the_request_ended() -> None:
    admission = Admission(total=100, share=60)
    with pytest.raises(ZeroDivisionError), admission.hold("a", 10) as hold:
        hold.resize(50)
        assert admission.in_flight == 50
        raise ZeroDivisionError
    assert admission.in_flight == 0


def test_a_hold_that_cannot_grow_keeps_what_it_has() -> None:
    admission = Admission(total=100, share=60)
    with admission.hold("a", 50) as hold:
        with pytest.raises(Problem):
            hold.resize(61)
        assert admission.in_flight == 50
        hold.resize(20)
        assert admission.in_flight == 20
    assert admission.in_flight == 0


async def test_past_the_rate_of_a_key_the_answer_is_429_with_its_fields() -> None:
    rate = Rate("2/minute", "requests", "too-many-requests")
    fields = await rate.spend("a")
    assert fields["RateLimit-Policy"] == '"requests";q=2;w=60'
    assert fields["RateLimit"].startswith('"requests";r=1;t=')
    await rate.spend("a")
    with pytest.raises(Problem) as caught:
        await rate.spend("a")
    assert (caught.value.status, caught.value.code) == (429, "too-many-requests")
    assert 1 <= int(caught.value.headers["Retry-After"]) <= 60
    assert caught.value.headers["RateLimit"].startswith('"requests";r=0;')
    await rate.spend("b")


async def test_a_hit_may_cost_more_than_one_and_a_refused_one_costs_nothing() -> None:
    rate = Rate("10/hour", "backfill", "too-much-backfill")
    await rate.spend("a", 6)
    with pytest.raises(Problem):
        await rate.spend("a", 5)
    await rate.spend("a", 4)


async def test_no_rate_means_no_limit_and_no_fields() -> None:
    assert await Rate("", "requests", "x").spend("a", 10**9) == {}
