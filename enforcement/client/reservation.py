"""What is held for a caller, or why not."""

from __future__ import annotations

from typing import Literal

import msgspec

from enforcement.client.answer import Answer

Ended = Literal["committed", "counted", "unknown"]
"""What a commit finds: it is kept for its usage event; that is counted already; the hold was gone, so that the usage
counts as ordinary usage."""


class Reservation(msgspec.Struct, frozen=True):
    """`id` (None: nothing is held) is what usage events name in `reservationid`; `answer` has the numbers, or says why
    nothing is held. Instants RFC 3339 in UTC."""

    id: str | None
    expires_at: str | None
    answer: Answer

    @property
    def held(self) -> bool:
        """Whether something is held."""
        return self.id is not None


class _Held(msgspec.Struct):
    id: str
    expires_at: str


_held = msgspec.json.Decoder(_Held).decode
_answer = msgspec.json.Decoder(Answer).decode
_ended = msgspec.json.Decoder(dict[str, str | None]).decode


def granted(body: bytes) -> Reservation:
    """A 201's body."""
    held = _held(body)
    return Reservation(held.id, held.expires_at, _answer(body))


def refused(body: bytes) -> Reservation:
    """A 409's body: a problem whose type says why, with the members of an answer."""
    problem = msgspec.json.decode(body)
    reason = problem["type"].rsplit("/", 1)[-1]
    return Reservation(None, None, msgspec.convert(problem | {"allowed": False, "reason": reason}, Answer))


def ended(body: bytes) -> Ended:
    """What a commit found."""
    return "counted" if _ended(body)["state"] == "counted" else "committed"
