"""What callers may ask, strictly: a misspelt member is refused, not ignored."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from secrets import token_urlsafe
from typing import Any, NamedTuple

import msgspec

from enforcement.gate import Check
from metering import quantity
from metering.catalog import TENANT_NAME
from metering.clock import SECOND_MS
from metering.decision import NO_GROUPS
from metering.label import text_of
from metering.quantity import InvalidQuantity
from metering.reservation import HoldName, name_for, name_of
from service.problems import Problem

NOBODY = ""
"""No tenant has this name. Whoever may not know of a tenant asks for this one: the answers can't differ."""


_GROUP = "group."
_MOST_GROUPS = 16
_LONGEST = 256


class CheckRequest(msgspec.Struct, forbid_unknown_fields=True):
    """`amount`: a number or decimal string; a tenant's own key may leave `tenant` out. `groups`: of what it is, like
    `{"language": "ja"}`; `subject`: who within the tenant asks, for rates that are by subject."""

    feature: str
    tenant: str | None = None
    amount: Any = 1
    subject: str | None = None
    groups: dict[str, Any] | None = None


class ReservationRequest(msgspec.Struct, forbid_unknown_fields=True):
    """`id`: the same with the same amount is the same reservation; drawn where it is left out."""

    feature: str
    amount: Any
    tenant: str | None = None
    ttl_seconds: Any = None
    id: str | None = None
    groups: dict[str, Any] | None = None


class CommitRequest(msgspec.Struct, forbid_unknown_fields=True):
    """`amount`: at most what is held; left out: all of it."""

    amount: Any = None


class Ask(NamedTuple):
    """Hold `amount` (nanos) for `ttl` ms; None: as long as may be. `groups` as in Check."""

    name: HoldName
    amount: int
    ttl: int | None
    groups: Mapping[str, str]


class BatchRequest(msgspec.Struct, forbid_unknown_fields=True):
    """Checks of one or several tenants."""

    checks: list[CheckRequest]


_one = msgspec.json.Decoder(CheckRequest, float_hook=Decimal).decode
_batch = msgspec.json.Decoder(BatchRequest, float_hook=Decimal).decode
_reservation = msgspec.json.Decoder(ReservationRequest, float_hook=Decimal).decode
_commit = msgspec.json.Decoder(CommitRequest, float_hook=Decimal).decode


def check_of(body: bytes, own: str | None) -> Check:
    """A check from JSON, asked by a key of tenant `own` (None: of the platform). Raises Problem, InvalidQuantity."""
    return _checked(_decoded(_one, body), own)


def batch_of(body: bytes, own: str | None, most: int) -> list[Check]:
    """A batch from JSON. Raises Problem, listing every wrong check."""
    requests: list[CheckRequest] = _decoded(_batch, body).checks
    if len(requests) > most:
        raise Problem(413, "too-many-checks", f"a batch may have {most} checks")
    checks, errors = [], []
    for index, request in enumerate(requests):
        try:
            checks.append(_checked(request, own))
        except (InvalidQuantity, Problem) as error:
            errors.append({"index": index, "id": None, "code": error.code, "detail": error.detail})
    if errors:
        raise Problem(422, "invalid-checks", f"{len(errors)} of {len(requests)} checks are wrong", errors=errors)
    return checks


def query_of(query: Mapping[str, str], own: str | None) -> Check:
    """A check from a query string; groups as `group.language=ja`. Raises Problem, InvalidQuantity."""
    groups = {name.removeprefix(_GROUP): query[name] for name in query if name.startswith(_GROUP)}
    known = {"tenant", "feature", "amount", "subject"}
    unknown = sorted(name for name in query if name not in known and not name.startswith(_GROUP))
    if unknown:
        raise Problem(422, "invalid-request", f"unknown parameter {unknown[0]!r}")
    if "feature" not in query:
        raise Problem(422, "invalid-request", "the parameter `feature` is required")
    amount, subject = query.get("amount", 1), query.get("subject")
    return _checked(CheckRequest(query["feature"], query.get("tenant"), amount, subject, groups), own)


def reservation_of(body: bytes, own: str | None) -> Ask:
    """A reservation from JSON. Raises Problem, Refused."""
    request: ReservationRequest = _decoded(_reservation, body)
    check = _checked(CheckRequest(request.feature, request.tenant, request.amount, None, request.groups), own)
    ttl = None
    if request.ttl_seconds is not None:
        ttl = quantity.parse(request.ttl_seconds, 3, signed=False) * SECOND_MS // quantity.ONE
    given = token_urlsafe(12) if request.id is None else request.id
    return Ask(name_for(check.tenant, check.feature, given), check.amount, ttl, check.groups)


def commit_of(body: bytes) -> int | None:
    """How much was used, in nanos; None: all that is held. Raises Problem, InvalidQuantity."""
    amount = _decoded(_commit, body).amount if body else None
    return None if amount is None else quantity.parse(amount, quantity.SCALE, signed=False)


def hold_named(text: str, own: str | None) -> HoldName | None:
    """The hold that a path names; None: there can't be one, or not for a key of tenant `own`."""
    name = name_of(text)
    return name if name is not None and name.tenant == visible(name.tenant, own) else None


def visible(tenant: str, own: str | None) -> str:
    """The tenant to look for: another tenant's name and one that does not exist are the same to a tenant's key, and
    nobody bears what is no name."""
    if own is None:
        return tenant if TENANT_NAME.fullmatch(tenant) else NOBODY
    return tenant if tenant == own else NOBODY


def _decoded(decode: Any, body: bytes) -> Any:
    try:
        return decode(body)
    except msgspec.ValidationError as error:
        raise Problem(422, "invalid-request", str(error)) from None
    except (msgspec.DecodeError, ArithmeticError, RecursionError, UnicodeDecodeError) as error:
        raise Problem(400, "invalid-json", str(error)) from None


def _checked(request: CheckRequest, own: str | None) -> Check:
    tenant = request.tenant if request.tenant is not None else own
    if tenant is None:
        raise Problem(422, "invalid-request", "a key of the platform has to name the `tenant`")
    if len(request.feature) > _LONGEST:
        raise Problem(422, "invalid-request", f"`feature` has at most {_LONGEST} characters")
    amount = quantity.parse(request.amount, quantity.SCALE, signed=False)
    return Check(visible(tenant, own), request.feature, amount, _groups(request.groups), _subject(request.subject))


def _groups(given: dict[str, Any] | None) -> Mapping[str, str]:
    if not given:
        return NO_GROUPS
    groups = {dimension: text for dimension, value in given.items() if (text := text_of(value)) is not None}
    if not len(groups) == len(given) <= _MOST_GROUPS or any(len(text) > _LONGEST for text in groups.values()):
        raise Problem(422, "invalid-request", f"`groups` has at most {_MOST_GROUPS} scalars of {_LONGEST} characters")
    return groups


def _subject(given: str | None) -> str:
    if given is not None and len(given) > _LONGEST:
        raise Problem(422, "invalid-request", f"`subject` has at most {_LONGEST} characters")
    return given or ""
