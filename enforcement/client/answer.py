"""What the gate answers, and what stands for it when it does not; and either as a problem of HTTP."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any, Literal
from urllib.parse import quote

import msgspec

from enforcement.client.question import Question
from metering.clock import SECOND_MS, SystemClock, parse_iso
from metering.quantity import from_text
from metering.rate import PERIODS

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
    policy_version: int | None = None
    mode: str = "enforce"
    value: Any = None
    approximate: bool = False

    @property
    def status(self) -> int:
        """HTTP status of a denial: 429 for who is too fast, else 403."""
        return 429 if self.reason == "rate-limited" else 403

    def headers(self) -> dict[str, str]:
        """The numbers as the gate's forward-auth gives them; what the feature hasn't got is left out.
        `Retry-After` and the RateLimit fields tell who is too fast when to come again."""
        named = {
            "Reason": self.reason,
            "Feature": quote(self.feature, errors="replace"),
            "Used": self.used,
            "Limit": self.limit,
            "Remaining": self.remaining,
            "Resets-At": self.resets_at,
            "Source": self.source,
            "Policy-Version": None if self.policy_version is None else str(self.policy_version),
            "As-Of": self.as_of,
        }
        headers = {f"X-Tallygate-{name}": text for name, text in named.items() if text is not None}
        if self.status == 429 and self.resets_at is not None and self.period in PERIODS:
            left = parse_iso(self.resets_at) - SystemClock().now_ms()
            wait = max(1, -(-left // SECOND_MS))
            headers["Retry-After"] = str(wait)
            window = PERIODS[self.period] // SECOND_MS
            headers["RateLimit-Policy"] = f'"{self.feature}";q={self.limit};w={window}'
            headers["RateLimit"] = f'"{self.feature}";r=0;t={wait}'
        return headers

    def problem(self) -> bytes:
        """A denial as `application/problem+json`."""
        body = {
            "type": _TYPE + self.reason,
            "title": "not allowed",
            "status": self.status,
            "detail": f"{self.feature}: {self.reason.replace('-', ' ')}",
            **{name: text for name in ("used", "limit", "remaining", "resets_at") if (text := getattr(self, name))},
        }
        return msgspec.json.encode(body)


class Fallback:
    """The last answers, at most `size` for `seconds`; whoever was not asked about for longest goes first."""

    def __init__(self, size: int, seconds: float) -> None:
        self._size = size
        self._seconds = seconds
        self._last: OrderedDict[tuple[str, ...], tuple[float, Answer, int]] = OrderedDict()

    def remember(self, question: Question, answer: Answer, now: float) -> None:
        """What the gate said at `now` (monotonic seconds). That somebody was too fast is not true for long."""
        if answer.reason == "rate-limited":
            return
        self._last[question.key] = (now, answer, question.nanos)
        self._last.move_to_end(question.key)
        if len(self._last) > self._size:
            self._last.popitem(last=False)

    def answer(self, question: Question, on_unknown: OnUnknown, now: float) -> Answer:
        """What the last answer says of the amount, `on_unknown` where there is none."""
        at, last, asked = self._last.get(question.key, (0.0, None, 0))
        if last is None or now - at > self._seconds:
            return Answer(on_unknown == "open", "unavailable", question.feature, "fallback", None, policy=on_unknown)
        # The numbers are those of the limit with the least left, but where a limit that does not block is passed: of
        # the others it is known only that they had room for what was asked then.
        room = asked if last.reason == "over-limit" else from_text(last.remaining) if last.remaining else question.nanos
        numbered = last.reason in ("within-limit", "limit-reached", "over-limit")
        allowed = question.nanos <= room if numbered else last.allowed
        if last.mode == "shadow":
            allowed = True
        return msgspec.structs.replace(last, allowed=allowed, reason="unavailable", source="fallback")
