"""How a command ends when it does not end well: one exit code, what happened, what to do next."""

from __future__ import annotations

from collections.abc import Sequence

NO = 1
"""The answer is no: denied, rejected events, totals that do not agree."""
WRONG_USE = 2
"""The command or its input has to change."""
UNREACHABLE = 3
"""Nothing is wrong with the command; the system did not answer."""
BUG = 70
"""An error that nobody expected; its traceback is shown."""
INTERRUPTED = 130


class CommandError(Exception):
    """Ends the command. `next_step` tells the reader what to do; `details` are listed below the message."""

    def __init__(self, exit_code: int, message: str, next_step: str = "", details: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.exit_code = exit_code
        self.message = message
        self.next_step = next_step
        self.details = tuple(details)
