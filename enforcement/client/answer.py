"""What the gate answers, and what stands for it when it does not; and either as a problem of HTTP."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any, Literal
from urllib.parse import quote

import msgspec

from metering.quantity import from_text

OnUnknown = Literal["closed", "open"]
_TYPE = "https://tallygate.dev/problems/"


class Answer(msgspec.Struct, frozen=True):
    """contracts.md, `POST /v1/check`. Quantities are exact decimal strings, instants RFC 3339 in UTC."""

    allowed: bool
    reason: str
    feature: str
    source: str
    as_of: str | None
    used: str | None = None
    reserved: str | None = None
    limit: str | None = None
    remaining: str | None = None
    period: str | None = None
    resets_at: str | None = None
    policy: str | None = None
    mode: str = "enforce"
    value: Any = None
    approximate: bool = False

    def headers(self) -> dict[str, str]:
        """The numbers as the gate's forward-auth gives them; what the feature hasn't got is left out."""
        named = {
            "Reason": self.reason,
            "Feature": quote(self.feature, errors="replace"),
            "Used": self.used,
            "Limit": self.limit,
            "Remaining": self.remaining,
            "Resets-At": self.resets_at,
            "Source": self.source,
            "As-Of": self.as_of,
        }
        return {f"X-Tallygate-{name}": text for name, text in named.items() if text is not None}

    def problem(self) -> bytes:
        """A denial as `application/problem+json`, for status 403."""
        body = {
            "type": _TYPE + self.reason,
            "title": "not allowed",
            "status": 403,
            "detail": f"{self.feature}: {self.reason.replace('-', ' ')}",
            **{name: text for name in ("used", "limit", "remaining", "resets_at") if (text := getattr(self, name))},
        }
        return msgspec.json.encode(body)


class Fallback:
    """The last answers, at most `size` for `seconds`; whoever was not asked about for longest goes first."""

    def __init__(self, size: int, seconds: float) -> None:
        self._size = size
        self._seconds = seconds
        self._last: OrderedDict[tuple[str, str], tuple[float, Answer]] = OrderedDict()

    def remember(self, tenant: str, answer: Answer, now: float) -> None:
        """What the gate said at `now` (monotonic seconds)."""
        self._last[tenant, answer.feature] = (now, answer)
        self._last.move_to_end((tenant, answer.feature))
        if len(self._last) > self._size:
            self._last.popitem(last=False)

    def answer(self, tenant: str, feature: str, amount: int, on_unknown: OnUnknown, now: float) -> Answer:
        """What the last answer says of `amount` (nanos), `on_unknown` where there is none."""
        at, last = self._last.get((tenant, feature), (0.0, None))
        if last is None or now - at > self._seconds:
            return Answer(on_unknown == "open", "unavailable", feature, "fallback", None, policy=on_unknown)
        fits = last.remaining is None or amount <= from_text(last.remaining)
        allowed = fits if last.reason in ("within-limit", "limit-reached") else last.allowed
        if last.mode == "shadow":
            allowed = True
        return msgspec.structs.replace(last, allowed=allowed, reason="unavailable", source="fallback")
