"""What is decided is counted, and no name that nobody knows makes an entry of its own."""

from __future__ import annotations

from enforcement.decided import Tally, Teller
from metering.clock import MINUTE_MS
from metering.decided import Decided, Slot, decode, encode
from metering.decision import Decision


def decision(reason: str = "granted", allowed: bool = True, feature: str = "cloning") -> Decision:
    return Decision(allowed, reason, feature, "memory", 0)  # type: ignore[arg-type]


def test_what_is_decided_alike_in_a_minute_is_one_entry() -> None:
    tally = Tally()
    for at in (0, MINUTE_MS - 1, MINUTE_MS):
        tally.add("grand", decision(), at)
    assert tally.take() == {
        Slot(0, "grand", "cloning", "granted", "memory", True, False): 2,
        Slot(1, "grand", "cloning", "granted", "memory", True, False): 1,
    }
    assert tally.take() == {}


def test_names_that_nobody_knows_are_counted_under_none() -> None:
    tally = Tally()
    for number in range(100):
        tally.add(f"nobody-{number}", decision("unknown-tenant", False), 0, known=False)
        tally.add("grand", decision("unknown-feature", False, f"feature-{number}"), 0, known=False)
        tally.add("late", decision("tenant-suspended", False, f"feature-{number}"), 0, known=False)
    assert {(slot.tenant, slot.feature): count for slot, count in tally.take().items()} == {
        ("", ""): 100,
        ("grand", ""): 100,
        ("late", ""): 100,
    }


def test_there_is_a_limit_to_what_waits_and_what_is_known_goes_on() -> None:
    tally = Tally(most=2)
    for tenant in ("a", "b", "c", "a"):
        tally.add(tenant, decision(), 0)
    assert [(slot.tenant, count) for slot, count in tally.take().items()] == [("a", 2), ("b", 1)]


def test_a_message_reads_back_as_it_was_told() -> None:
    told = Decided("gate", 3, ((Slot(7, "grand", "voice", "limit-reached", "memory", False, False), 4),))
    assert decode(encode(told)) == told


def test_no_message_is_larger_than_kafka_takes_however_much_waits() -> None:
    tally = Tally()
    for number in range(50_000):
        tally.add(f"{number:063}", decision("limit-reached", False, "f" * 63), 0)
    messages = told_of(Teller(tally, "nowhere:9092"))
    assert max(len(encode(message)) for message in messages) < 1_000_000
    assert [message.number for message in messages] == list(range(1, len(messages) + 1))
    assert len({slot.tenant for message in messages for slot, _ in message.counts}) == 50_000


def test_a_message_stays_the_same_until_it_is_told_and_what_is_counted_meanwhile_comes_after() -> None:
    tally = Tally()
    teller = Teller(tally, "nowhere:9092")
    tally.add("grand", decision(), 0)
    teller.take()
    first = teller.next()
    tally.add("grand", decision(), 0)
    teller.take()
    assert teller.next() is first
    assert [message.counts[0][1] for message in told_of(teller)] == [1, 1]


def told_of(teller: Teller) -> list[Decided]:
    """All that it has to tell."""
    messages = []
    teller.take()
    while (message := teller.next()) is not None:
        messages.append(message)
        teller.told()
    return messages
