"""The generator's own account: what a tenant's slots add up to. It imports nothing of what it is to judge."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from decimal import ROUND_HALF_EVEN, Decimal, localcontext

from local.demo_account import RULES, MeterRule, plain
from tests.chaos.run.workload import HOUR_MS, Workload

METERS = {rule.name: rule for rule in RULES}


class Cell:
    """One meter over one hour, or over several of them."""

    __slots__ = ("count", "greatest", "last", "least", "things", "total")

    def __init__(self) -> None:
        self.count = self.total = self.greatest = 0
        self.least: int | None = None
        self.last = (-1, -1, 0)
        self.things: set[str] = set()

    def add(self, time: int, slot: int, units: int, thing: str) -> None:
        """Count an event."""
        self.count += 1
        self.total += units
        self.least = units if self.least is None else min(self.least, units)
        self.greatest = max(self.greatest, units)
        self.last = max(self.last, (time, slot, units))
        if thing:
            self.things.add(thing)

    def merge(self, other: Cell) -> None:
        """Count what the other one has counted."""
        self.count += other.count
        self.total += other.total
        self.least = min((n for n in (self.least, other.least) if n is not None), default=None)
        self.greatest = max(self.greatest, other.greatest)
        self.last = max(self.last, other.last)
        self.things |= other.things

    def result(self, rule: MeterRule) -> str | None:
        """The meter's number as a plain decimal; None without events, where that is not zero."""
        if rule.how in ("count", "distinct"):
            return str(self.count if rule.how == "count" else len(self.things))
        if rule.how == "sum":
            return plain(Decimal(self.total).scaleb(-rule.scale))
        if self.least is None:
            return None
        if rule.how == "average":
            with localcontext() as context:
                context.prec = 60
                step = Decimal(1).scaleb(-(rule.scale + 6))
                mean = Decimal(self.total).scaleb(-rule.scale) / self.count
                return plain(mean.quantize(step, rounding=ROUND_HALF_EVEN))
        units = {"highest": self.greatest, "lowest": self.least, "last": self.last[2]}[rule.how]
        return plain(Decimal(units).scaleb(-rule.scale))


class Account:
    """Of one tenant. `distinct` identities, `voids` of them voids; `arrived_void`: voided before they came."""

    def __init__(self, workload: Workload) -> None:
        self.tenant = workload.tenant
        self.slots = workload.slots
        self.distinct = self.voids = 0
        self._cells: dict[str, dict[int, Cell]] = {name: defaultdict(Cell) for name in METERS}
        voided: dict[int, int] = {}
        resent: set[int] = set()
        new: list[int] = []
        for number in range(workload.slots):
            slot = workload.slot(number)
            if slot.kind == "new":
                new.append(number)
            elif slot.kind == "void":
                voided[slot.event] = min(number, voided.get(slot.event, number))
                self.voids += 1
            else:
                resent.add(slot.event)
        self.distinct = len(new) + self.voids
        self.voided = len(voided)
        self.arrived_void = sum(void < event for event, void in voided.items())
        for number in new:
            if number not in voided:
                time, counts = workload.worth(number)
                for meter, units, thing in counts:
                    self._cells[meter][time // HOUR_MS].add(time, number, units, thing)
        self.once = next(number for number in new[len(new) // 2 :] if number not in voided and number not in resent)
        """A slot whose event counts and is sent nowhere else: the one to lose on purpose."""

    def hours(self) -> set[int]:
        """The hours since 1970 that have events."""
        return {hour for cells in self._cells.values() for hour in cells}

    def total(self, rule: MeterRule, hours: Iterable[int]) -> str | None:
        """A meter's number over these hours."""
        merged = Cell()
        cells = self._cells[rule.name]
        for hour in hours:
            if hour in cells:
                merged.merge(cells[hour])
        return merged.result(rule)
