"""Settings of a process: one frozen Struct per service, read once, every mistake reported at once.

A field `port` of a service with prefix `TALLYGATE_INGEST` is the variable `TALLYGATE_INGEST_PORT`; the five addresses
that all services share (`kafka`, `clickhouse`, `redis`, `sql`, `catalog`) are `TALLYGATE_KAFKA` and so on.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, TypeVar, get_type_hints

import msgspec

from metering.errors import InvalidSettings

SHARED = frozenset({"kafka", "clickhouse", "redis", "sql", "catalog", "data_dir", "kafka_embedded"})

T = TypeVar("T", bound=msgspec.Struct)


class SettingDoc(NamedTuple):
    """One line of `tallygate settings`."""

    variable: str
    default: str
    description: str


def _variable(prefix: str, field: str) -> str:
    return f"TALLYGATE_{field.upper()}" if field in SHARED else f"{prefix}_{field.upper()}"


def load(settings: type[T], prefix: str, environment: Mapping[str, str]) -> T:
    """Read `settings` (a frozen Struct) from `environment`. Raises InvalidSettings naming every wrong variable."""
    values: dict[str, Any] = {}
    problems: list[str] = []
    hints = get_type_hints(settings, include_extras=True)
    for field in msgspec.structs.fields(settings):
        variable = _variable(prefix, field.name)
        text = environment.get(variable)
        if text is None or text == "":
            if field.required:
                problems.append(f"{variable} is not set: {_description(field.type)}")
            continue
        try:
            values[field.name] = msgspec.convert(text, hints[field.name], strict=False)
        except msgspec.ValidationError as error:
            problems.append(f"{variable}={text!r}: {error}")
    if problems:
        raise InvalidSettings(problems)
    return settings(**values)


def document(settings: type[msgspec.Struct], prefix: str) -> list[SettingDoc]:
    """What can be set, for people."""
    return [
        SettingDoc(
            _variable(prefix, field.name),
            "required" if field.required else str(field.default),
            _description(field.type),
        )
        for field in msgspec.structs.fields(settings)
    ]


def _description(annotation: Any) -> str:
    for meta in getattr(annotation, "__metadata__", ()):
        if isinstance(meta, msgspec.Meta) and meta.description:
            return meta.description
    return ""
