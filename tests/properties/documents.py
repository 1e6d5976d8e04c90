"""Hypothesis strategies for JSON texts of usage events: usual, odd and broken, member by member."""

from __future__ import annotations

import json

from hypothesis import strategies as st

Member = tuple[str, str]
"""A member as it stands in the text: its quoted name and its value's JSON."""


def quoted(text: str) -> st.SearchStrategy[str]:
    """`text` as a JSON string: plain, or with every character escaped."""
    escaped = '"' + "".join(f"\\u{ord(c):04x}" if ord(c) < 0x10000 else c for c in text) + '"'
    return st.sampled_from([json.dumps(text), json.dumps(text, ensure_ascii=False), escaped])


TEXTS = st.one_of(
    st.text(max_size=8),
    st.sampled_from(
        ["", " ", '"', '":', '{"a":1}', "a\x00b", "\x7f", "\ufffe", "é" * 64, "x" * 64, "x" * 65, "x" * 256, "x" * 257]
    ),
    st.sampled_from(["😀" * 64, "ß" * 128, "a b", "[", "/pms/berlin", "urn:x:y", "%zz", "%41", "tallygate.void"]),
)
NUMBERS = st.one_of(
    st.integers().map(str),
    st.decimals(allow_nan=False, allow_infinity=False).map(str).filter(lambda text: "E+" not in text),
    st.sampled_from(
        ["0", "-0", "-0.0", "1e400", "1E-400", "1e99999999999999999999", "9" * 40, "9" * 400, "1." + "0" * 80, "0.1e1"]
    ),
    st.sampled_from(["2147483647", "2147483648", "-2147483649", "18446744073709551616", "NaN", "Infinity", "01", "1."]),
)
TIMES = st.one_of(
    st.datetimes().map(lambda at: at.isoformat() + "Z"),
    st.sampled_from(
        [
            "2026-11-23T10:00:00Z",
            "2026-11-23T10:00:00.123Z",
            "2026-11-23t10:00:00.123z",
            "2026-11-23T10:00:00.123456789+05:30",
            "2026-11-23 10:00:00Z",
            "2026-11-23T10:00:00+0530",
            "2026-11-23T10:00:00",
            "2026-11-23T24:00:00.000Z",
            "2026-11-23T23:59:60.000Z",
            "2026-11-23T10:00:00,123Z",
            "2026-11-23T10:00:00.Z",
            "2026-W48-1T10:00:00.000Z",
            "20261123T100000.000000Z",
            "2026-02-30T10:00:00.000Z",
            "2026-11-23T10:00:00." + "0" * 300 + "Z",
            "0000-01-01T00:00:00Z",
            "0001-01-01T00:00:00+10:00",
            "9999-12-31T23:59:59.9999999Z",
            "２026-11-23T10:00:00.123Z",
        ]
    ),
)
SCALARS = st.one_of(TEXTS.flatmap(quoted), NUMBERS, st.sampled_from(["true", "false", "null", "{}", "[]"]))


@st.composite
def objects(draw: st.DrawFn, values: st.SearchStrategy[str]) -> str:
    names = draw(st.lists(st.sampled_from(["a", "b", "time", 'x":', "", "é"]).flatmap(quoted), max_size=4))
    return "{" + ",".join(f"{name}:{draw(values)}" for name in names) + "}"


VALUES = st.recursive(
    SCALARS,
    lambda inner: objects(inner) | st.lists(inner, max_size=3).map(lambda items: "[" + ",".join(items) + "]"),
    max_leaves=6,
)
DEEP = st.sampled_from([1, 2, 14, 15, 16, 17, 63, 64, 65, 2000]).flatmap(
    lambda depth: st.sampled_from(["[" * depth + "]" * depth, '{"a":' * depth + "1" + "}" * depth])
)
DATA = st.one_of(objects(SCALARS), VALUES, DEEP)

REQUIRED: dict[str, st.SearchStrategy[str]] = {
    "specversion": st.just('"1.0"'),
    "id": st.text("abc-0123", min_size=1, max_size=9).map(json.dumps),
    "source": st.sampled_from(['"/pms/berlin"', '"urn:x:y"']),
    "type": st.sampled_from(['"call.completed"', '"request.created"']),
}
USUAL: dict[str, st.SearchStrategy[str]] = {
    "time": TIMES.map(json.dumps),
    "subject": st.text("abc", min_size=1, max_size=9).map(json.dumps),
    "datacontenttype": st.just('"application/json"'),
    "tenant": st.just('"grand-hotel"'),
    "data": objects(SCALARS),
}
ODD_NAMES = st.sampled_from(
    [
        *REQUIRED,
        *USUAL,
        "dataschema",
        "data_base64",
        "receivedat",
        "reservationid",
        "Extension",
        "ext-1",
        "",
        'a":',
    ]
)
ODD_VALUES = st.one_of(
    VALUES,
    TIMES.map(json.dumps),
    DATA,
    st.sampled_from(['"1.0"', '"0.3"', '"https://x.example/s"', '"text/plain; charset=utf-8"', '"AAAA"', '"AAA"']),
)


@st.composite
def usual_members(draw: st.DrawFn) -> list[Member]:
    """What a well-behaved emitter sends, give or take the odd time."""
    optional = draw(st.lists(st.sampled_from(sorted(USUAL)), unique=True))
    return [(json.dumps(name), draw({**REQUIRED, **USUAL}[name])) for name in [*REQUIRED, *optional]]


@st.composite
def event_texts(draw: st.DrawFn) -> str:
    """The JSON text of an event: usual members, some left out, odd ones, repeats, escaped names, in any order."""
    members = draw(usual_members())
    if draw(st.booleans()):
        dropped = draw(st.sets(st.integers(0, len(members) - 1), max_size=1))
        members = [member for at, member in enumerate(members) if at not in dropped]
        for odd in draw(st.lists(st.tuples(ODD_NAMES.flatmap(quoted), ODD_VALUES), max_size=3)):
            repeats = draw(st.sampled_from([False, False, True]))
            members = [*(m for m in members if repeats or json.loads(m[0]) != json.loads(odd[0])), odd]
        members = draw(st.permutations(members))
    space = draw(st.sampled_from(["", "", " ", "\n  "]))
    return "{" + f",{space}".join(f"{name}{space}:{value}" for name, value in members) + space + "}"
