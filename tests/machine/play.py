"""Plays schedules, and shortens those that fail."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence

import structlog

from tests.machine import check
from tests.machine.actions import ACTIONS
from tests.machine.loop import VirtualLoop
from tests.machine.schedule import Action, draw
from tests.machine.world import GivenUp, World


async def carry_out(actions: Sequence[Action]) -> None:
    """Play a schedule and compare. Raises AssertionError where the writer is wrong."""
    world = World(actions[0][1])
    try:
        for action in actions[1:]:
            await ACTIONS[action[0]](world, *action[1:])
        if not await world.finish():
            check.vouched_for(world)
            return
        check.ledger(world)
        newest = world.plane.epochs[-1]
        for partition in range(newest.partitions):
            check.settled(world, (newest.epoch, partition))
    except GivenUp:
        return
    finally:
        for process in world.running():
            await process.kill()


def play(actions: Sequence[Action]) -> AssertionError | None:
    """What is wrong with a schedule, None if nothing. Other exceptions of the writer count as wrong, too."""
    loop = VirtualLoop()
    try:
        loop.run_until_complete(carry_out(actions))
    except AssertionError as error:
        return error
    except Exception as error:
        failure = AssertionError(f"{type(error).__name__}: {error}")
        failure.__cause__ = error
        return failure
    finally:
        loop.close()
    return None


def quiet() -> None:
    """What writers say is not logged: it would take half of the time."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))


def failing(seeds: Iterable[int]) -> list[int]:
    """The seeds whose schedules go wrong."""
    quiet()
    return [seed for seed in seeds if play(draw(seed))]


def shorten(actions: Sequence[Action]) -> list[Action]:
    """Leave out actions and events while the schedule still fails."""
    kept = list(actions)
    size = len(kept) // 2
    while size:
        at = 1
        while at < len(kept):
            shorter = kept[:at] + kept[at + size :]
            if play(shorter):
                kept = shorter
            else:
                at += size
        size //= 2
    for at, action in enumerate(kept):
        if action[0] == "send":
            kept[at] = _fewer(action, kept[:at], kept[at + 1 :])
    return kept


def _fewer(send: Action, before: list[Action], after: list[Action]) -> Action:
    """A frame without the events that the schedule can do without to fail."""
    *head, events = send
    for number in reversed(range(len(events))):
        few = events[:number] + events[number + 1 :]
        if few and play([*before, (*head, few), *after]):
            events = few
    return (*head, events)


def report(seed: int) -> str:
    """A failing schedule, shortened, to be read and repeated."""
    quiet()
    actions = shorten(draw(seed))
    error = play(actions)
    return "\n".join([f"seed {seed}: {error}", *(f"    {action}," for action in actions)])
