"""The gate's rows, on a gate of their own with 10,000 tenants; each yields its values per window."""

from __future__ import annotations

import signal
from pathlib import Path

from bench import pace
from bench.gate import GateSystem
from bench.pace import Target, Window
from bench.plan import WINDOWS, Plan

TENANTS = 10_000
_CHECKS, _RESERVATIONS = 5_000.0, 1_000.0
_CONNECTIONS, _SATURATING = 64, 32


class GateRows:
    """The rows of one gate. Raises WrongAnswers where a check is not answered as it has to be."""

    def __init__(self, gate: GateSystem, generator: Path, plan: Plan) -> None:
        self._gate = gate
        self._generator = generator
        self._plan = plan
        self.late = 0
        """Windows in which the generator itself was late."""
        self.not_held = 0
        """Reservations that were refused or not answered; their latency counts."""

    async def check_http_5k_p99(self) -> list[float]:
        """ms from when a check was due until its answer, 5,000 a second."""
        return [(await self._window(_CHECKS, number)).p99 for number in range(WINDOWS)]

    async def check_http_saturated(self) -> list[float]:
        """Checks/s that are answered when each connection asks again as soon as it has its answer."""
        asked = [await self._window(0, number, _SATURATING) for number in range(WINDOWS)]
        return [window.rate for window in asked]

    async def reserve_http_1k_p99(self) -> list[float]:
        """ms from when a reservation was due until it was held, 1,000 a second."""
        held = [await self._seen(self._gate.reservations, _RESERVATIONS, number) for number in range(WINDOWS)]
        self.not_held += sum(window.wrong for window in held)  # in time: Redis is waited for, but not long
        return [window.p99 for window in held]

    async def check_dead_redis_ratio(self) -> list[float]:
        """The 99th percentile with Redis stopped or killed, ÷ the one just before with it well; whichever is worse."""
        ratios = []
        for number in range(WINDOWS):
            well = await self._part(number)
            self._gate.signal_redis(signal.SIGSTOP)
            stopped = await self._part(number)
            self._gate.signal_redis(signal.SIGCONT)
            await self._settled(number)
            well_again = await self._part(number)
            await self._gate.kill_redis()
            killed = await self._part(number)
            await self._gate.start_redis()
            await self._settled(number)
            ratios.append(max(stopped.p99 / well.p99, killed.p99 / well_again.p99))
        return ratios

    async def _settled(self, number: int) -> None:
        """Everything that was missed is read, and answers are worked out anew."""
        await self._gate.fresh()
        await self._part(number)

    async def _part(self, number: int) -> Window:
        return await self._window(_CHECKS, number, parts=4)

    async def _window(self, rate: float, number: int, connections: int = _CONNECTIONS, parts: int = 1) -> Window:
        return (await self._seen(self._gate.checks, rate, number, connections, parts)).right()

    async def _seen(
        self, target: Target, rate: float, number: int, connections: int = _CONNECTIONS, parts: int = 1
    ) -> Window:
        count = WINDOWS * parts
        seconds, warm_up = self._plan.seconds / count, self._plan.warm_up / count
        seen = await pace.drive(self._generator, target, rate, connections, warm_up, seconds, seed=number)
        self.late += seen.late
        return seen
