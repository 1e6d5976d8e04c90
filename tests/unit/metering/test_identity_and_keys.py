from __future__ import annotations

from metering import keys
from metering.identity import DIGEST_BYTES, digest


def test_an_identity_is_tenant_source_and_id() -> None:
    digests = {
        digest("a", "s", "1"),
        digest("b", "s", "1"),
        digest("a", "t", "1"),
        digest("a", "s", "2"),
        digest("as", "", "1"),
        digest("a", "s1", ""),
    }
    assert len(digests) == 6
    assert all(len(each) == DIGEST_BYTES for each in digests)
    assert digest("a", "s", "1") == digest("a", "s", "1")


def test_the_name_of_a_counter_says_which_it_is() -> None:
    assert keys.split_counter_field(keys.counter_field("languages", "month", 5)) == ("languages", "month", 5)


def test_all_keys_of_a_partition_share_one_slot() -> None:
    names = [
        keys.applied(3, 1),
        keys.rebuild(3, 1),
        keys.digests(3, 1, 7),
        keys.counters(3, 1, "grand"),
        keys.uniques(3, 1, "grand", keys.counter_field("languages", "month", 0)),
        keys.expiries(3, 1),
        keys.outbox(3, 1),
        keys.config(3, 1),
        keys.counted_terms(3, 1),
        keys.sequence(3, 1),
        keys.feed(3, 1),
    ]
    assert len(set(names)) == len(names)
    assert {name[name.index("{") : name.index("}") + 1] for name in names} == {"{3.1}"}
