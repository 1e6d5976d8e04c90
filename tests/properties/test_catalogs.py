"""Any document is a catalog or a list of problems, and a catalog reads back as it was stored."""

from __future__ import annotations

import json

import yaml
from hypothesis import given
from hypothesis import strategies as st

from metering.catalog import from_json, parse_catalog, to_json
from metering.entitlement import compile_snapshot, decode, encode
from metering.errors import InvalidCatalog
from metering.meter import CompiledCatalog
from metering.period import DEFAULT_TERMS

SCALARS = st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.sampled_from(["$.a", "sum", "m", "1.50"])
JUNK = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=2) | st.dictionaries(SCALARS, inner, max_size=2))


def mostly(good: st.SearchStrategy[object]) -> st.SearchStrategy[object]:
    return st.integers(0, 19).flatmap(lambda roll: JUNK if roll == 0 else good)


PATHS = st.sampled_from(["$.a", "$.a.b", "subject", "room"])
METERS = st.fixed_dictionaries(
    {"event": mostly(st.sampled_from(["call", "request"]))},
    optional={
        "aggregation": mostly(st.sampled_from(["sum", "count", "min", "max", "avg", "unique", "latest"])),
        "value": mostly(PATHS),
        "unit": mostly(st.just("second")),
        "scale": mostly(st.integers(-1, 10)),
        "signed": mostly(st.booleans()),
        "group_by": mostly(st.dictionaries(st.sampled_from(["room", "floor"]), PATHS, max_size=2)),
        "filter": mostly(st.dictionaries(PATHS, mostly(st.lists(st.sampled_from(["x", 1, True]), max_size=2)))),
    },
)
LIMITS = st.fixed_dictionaries(
    {"period": mostly(st.sampled_from(["hour", "day"]))},
    optional={"limit": mostly(st.integers(0, 9)), "meter": mostly(st.sampled_from("mn"))},
)
RATES = st.fixed_dictionaries(
    {"limit": mostly(st.integers(0, 9)), "period": mostly(st.sampled_from(["second", "hour"]))},
    optional={"by": mostly(st.sampled_from(["tenant", "subject"]))},
)
RIGHTS = mostly(
    st.one_of(
        st.booleans(),
        st.fixed_dictionaries({"value": JUNK}),
        st.fixed_dictionaries(
            {"period": mostly(st.sampled_from(["hour", "day", "month", "billing", "lifetime"]))},
            optional={
                "limit": mostly(st.integers(0, 10**18) | st.just("1.5")),
                "on_exceed": mostly(st.sampled_from(["block", "allow", "warn"])),
                "on_unknown": mostly(st.sampled_from(["closed", "open"])),
                "alert_at": mostly(st.lists(st.just("0.8"), max_size=2)),
                "groups": mostly(st.dictionaries(st.sampled_from(["room", "floor"]), mostly(st.just(["x", 1])))),
                "limits": mostly(st.lists(mostly(LIMITS), max_size=2)),
                "rates": mostly(st.lists(mostly(RATES), max_size=2)),
            },
        ),
    )
)
FEATURES = st.fixed_dictionaries({}, optional={"meter": mostly(st.sampled_from("mn")), "static": mostly(st.booleans())})
DOCUMENTS = st.fixed_dictionaries(
    {},
    optional={
        "meters": mostly(st.dictionaries(st.sampled_from("mn"), METERS, max_size=2)),
        "features": mostly(st.dictionaries(st.sampled_from("fgh"), mostly(FEATURES), max_size=3)),
        "plans": mostly(
            st.dictionaries(
                st.sampled_from("pq"),
                st.fixed_dictionaries({"entitlements": mostly(st.dictionaries(st.sampled_from("fgh"), RIGHTS))}),
                max_size=2,
            )
        ),
    },
)


@given(mostly(DOCUMENTS))
def test_any_document_is_a_catalog_or_a_list_of_problems(document: object) -> None:
    try:
        catalog = parse_catalog(yaml.safe_dump(document))
    except InvalidCatalog as error:
        assert error.problems
        assert all(problem.path and problem.detail for problem in error.problems)
        return
    assert from_json(to_json(catalog)) == catalog
    CompiledCatalog(1, catalog)
    for plan in [None, *catalog.plans]:
        snapshot = compile_snapshot("grand", "active", plan, DEFAULT_TERMS, catalog, 1)
        assert decode(encode(snapshot)) == snapshot


@given(st.text() | st.binary() | JUNK.map(lambda junk: json.dumps(junk, skipkeys=True)))
def test_any_text_is_a_catalog_or_a_list_of_problems(text: str | bytes) -> None:
    try:
        parse_catalog(text)
    except InvalidCatalog as error:
        assert error.problems
