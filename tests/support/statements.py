"""Statements as texts: plain ones, and ones with every odd spelling that JSON allows."""

import json
from typing import Any

from hypothesis import strategies as st


def statement(number: int = 1, **more: Any) -> dict[str, Any]:
    """A statement of ann, a minute later for each `number`."""
    return {
        "id": f"00000000-0000-4000-8000-{number:012}",
        "actor": {"account": {"homePage": "https://lms.example.org", "name": "ann"}},
        "verb": {"id": "http://adlnet.gov/expapi/verbs/answered"},
        "object": {"id": "https://lms.example.org/question/1"},
        "timestamp": f"2026-03-01T{9 + number // 60:02}:{number % 60:02}:00Z",
        **more,
    }


def text(value: Any) -> str:
    """Compact JSON."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


_BLANK = st.sampled_from(["", "", "", " ", "\n  ", "\t", "\r\n"])
_NUMBERS = st.sampled_from(
    [
        "0", "-0", "1.0", "1.50", "1E2", "1e+02", "1e400", "-1e400", "1e-400", "9223372036854775809", "-0.0",
        "123456789012345678901234567890", "0.1000000000000000055511151231257827", "4.35",
    ]
)  # fmt: skip
_STRINGS = st.sampled_from(
    ['""', '"é"', r'"\u00e9"', r'"\/"', r'"\"&46;\\"', r'"\ud83d\ude00"', '"😀"', r'"\u0000"', '"{[\\"]}"', '"$date"']
)
_LITERALS = st.sampled_from(["true", "false", "null"])


@st.composite
def _containers(draw: st.DrawFn, inside: st.SearchStrategy[str]) -> str:
    values = draw(st.lists(inside, max_size=3))
    if draw(st.booleans()):
        return "[" + ",".join(draw(_BLANK) + value + draw(_BLANK) for value in values) + draw(_BLANK) + "]"
    names = draw(st.lists(_STRINGS, min_size=len(values), max_size=len(values), unique_by=json.loads))
    return "{" + ",".join(_member(draw, name, value) for name, value in zip(names, values, strict=True)) + "}"


def _member(draw: st.DrawFn, name: str, value: str) -> str:
    return f"{draw(_BLANK)}{name}{draw(_BLANK)}:{draw(_BLANK)}{value}{draw(_BLANK)}"


VALUES = st.recursive(_NUMBERS | _STRINGS | _LITERALS, _containers, max_leaves=8)
"""JSON texts of any value."""

_SIGNATURE = (
    '[{"usageType":"http://adlnet.gov/expapi/attachments/signature","display":{"en":"Signature"},'
    '"contentType":"application/octet-stream","length":796,"sha2":"672fa5fa658017f1b72d65036f13379c6ab05d4ab3b6664908d8acf0b6a0c634",'
    '"fileUrl":"https://files.example.org/signature"}]'
)


@st.composite
def statement_texts(draw: st.DrawFn) -> str:
    """A statement in any spelling, its members in any order, with members that nobody knows."""
    sent = statement(draw(st.integers(1, 800)))
    if draw(st.booleans()):
        sent["stored"] = (
            f"2026-03-02T09:{draw(st.integers(10, 59))}:00.{draw(st.sampled_from(['1', '123', '123456789']))}Z"
        )
    members = {text(name): text(value) for name, value in sent.items()}
    members['"result"'] = (
        f'{{"score":{{"raw":{draw(_NUMBERS)}}},"extensions":{{"http://example.org/x.y":{draw(VALUES)}}}}}'
    )
    members['"other"'] = draw(VALUES)
    if draw(st.booleans()):
        members['"attachments"'] = _SIGNATURE
    order = draw(st.permutations(list(members)))
    return draw(_BLANK) + "{" + ",".join(_member(draw, name, members[name]) for name in order) + "}" + draw(_BLANK)


STATEMENT_TEXTS = statement_texts()
"""Statements in any spelling."""
