"""One tree of errors; each branch says what the caller has to do.

`Refused`      answer 4xx: the caller's input is wrong and sending it again will not help.
`TryLater`     answer 429/503: nothing is wrong with the input; retry after `retry_after` seconds.
`Unavailable`  a dependency cannot be reached: retry with backoff, say so in readiness.
`Halt`         going on would skip or invent something: stop and tell the operator what to do.
"""

from __future__ import annotations

from collections.abc import Sequence


class TallygateError(Exception):
    """Root of all errors that Tallygate raises on purpose."""


class Refused(TallygateError):
    """Input that cannot be accepted. `code` is stable and machine-readable, `detail` says what to change."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(f"{code}: {detail}")
        self.code = code
        self.detail = detail


class InvalidEvent(Refused):
    """One usage event that cannot be counted: 422 at the gateway, a dead letter in the writer."""


class CatalogProblem:
    """One mistake in a catalog: `path` like `plans.starter.entitlements.voice.limit`."""

    __slots__ = ("detail", "path")

    def __init__(self, path: str, detail: str) -> None:
        self.path = path
        self.detail = detail

    def __str__(self) -> str:
        return f"{self.path}: {self.detail}"


class InvalidCatalog(Refused):
    """A catalog with every mistake in it, not only the first."""

    def __init__(self, problems: Sequence[CatalogProblem]) -> None:
        super().__init__("invalid-catalog", "; ".join(map(str, problems)))
        self.problems = tuple(problems)


class InvalidSettings(Refused):
    """Environment variables that do not make a valid configuration, every mistake at once."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("invalid-settings", "; ".join(problems))
        self.problems = tuple(problems)


class TryLater(TallygateError):
    """Admission refused for now; `retry_after` is in seconds."""

    def __init__(self, detail: str, retry_after: float) -> None:
        super().__init__(detail)
        self.detail = detail
        self.retry_after = retry_after


class Unavailable(TallygateError):
    """A dependency did not answer; `__cause__` keeps the driver's own error."""


class Halt(TallygateError):
    """Going on would skip or invent usage. The message names what was found and what an operator can do."""
