"""Which statements are the same one, as xAPI compares them."""

import json
import random
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.statements import STATEMENT_TEXTS, statement, text
from transforms.statements.comparison import equal_statements, fingerprint

PLAIN = statement(result={"score": {"raw": 1}, "duration": "PT1H0M1.5S"}, context={"registration": "ABC"})


def equal(one: Any, other: Any) -> bool:
    sent = [(each if isinstance(each, str) else text(each)).encode() for each in (one, other)]
    assert equal_statements(*sent) == equal_statements(*reversed(sent))
    return equal_statements(*sent)


def changed(**more: Any) -> dict[str, Any]:
    return {name: value for name, value in {**PLAIN, **more}.items() if value is not None}


@pytest.mark.parametrize(
    "other",
    [
        changed(stored="2026-03-02T00:00:00Z", version="1.0.0", authority={"mbox": "mailto:lrs@example.org"}),
        changed(timestamp=None),
        changed(id=PLAIN["id"].upper()),
        changed(timestamp="2026-03-01T10:01:00.0000+01:00"),
        changed(timestamp="2026-03-01T09:01:00.0009Z"),
        changed(result={"duration": "PT1H1.50S", "score": {"raw": 1}}),
        changed(result={"duration": "P0DT1H1.509S", "score": {"raw": 1}}),
        changed(context={"registration": "abc"}),
        text(PLAIN).replace('"raw":1}', '"raw":1.0}'),
        text(PLAIN).replace('"raw":1}', '"raw" : 10e-1}'),
        json.dumps(dict(reversed(PLAIN.items())), indent=1),
        text(PLAIN).replace("answered", "\\u0061nswered"),
    ],
)
def test_what_a_store_may_change_makes_no_other_statement(other: Any) -> None:
    assert equal(PLAIN, other)


@pytest.mark.parametrize(
    "other",
    [
        changed(actor={"mbox": "mailto:ann@example.org"}),
        changed(timestamp="2026-03-01T09:01:00.001Z"),
        changed(timestamp="2026-03-01T09:01:00+01:00"),
        changed(result={"duration": "PT1H0M1.51S", "score": {"raw": 1}}),
        changed(result={"duration": "PT1H0M1.5S", "score": {"raw": 1.0000000001}}),
        changed(result={"duration": "PT1H0M1.5S", "score": {"raw": "1"}}),
        changed(result={"duration": "PT1H0M1.5S", "score": {"raw": True}}),
        changed(result={"duration": "PT1H0M1.5S", "score": {"raw": 1, "min": None}}),
        changed(result=None),
        changed(extra=1),
        changed(context={"registration": "abd"}),
    ],
)
def test_any_other_difference_makes_another_statement(other: Any) -> None:
    assert not equal(PLAIN, other)


def test_what_an_lrs_makes_of_context_activities_and_groups_makes_no_other_statement() -> None:
    ann, bob = {"mbox": "mailto:ann@example.org"}, {"mbox": "mailto:bob@example.org", "name": "Bob"}
    team = {"objectType": "Group", "member": [ann, bob]}
    alone = changed(actor=team, context={"team": team, "contextActivities": {"parent": {"id": "https://p.example"}}})
    other = {**team, "member": [bob, ann]}
    listed = changed(
        actor=other, context={"team": other, "contextActivities": {"parent": [{"id": "https://p.example"}]}}
    )
    assert equal(alone, listed)
    assert not equal(alone, changed(**{**listed, "actor": {**team, "member": [ann]}}))
    two = [{"id": "https://p.example"}, {"id": "https://q.example"}]
    assert not equal(alone, changed(**{**listed, "context": {"team": team, "contextActivities": {"parent": two}}}))
    inside = changed(object={"objectType": "SubStatement", **{name: alone[name] for name in ("actor", "context")}})
    assert equal(inside, changed(object={**inside["object"], "actor": other, "context": listed["context"]}))
    assert not equal(changed(x={"y": team}), changed(x={"y": other}))


def test_numbers_that_no_double_tells_apart_are_different() -> None:
    assert not equal(changed(n=9007199254740993), changed(n=9007199254740992))
    one = text(changed(n=0)).replace('"n":0', '"n":1e400')
    assert equal(one, one.replace("1e400", "10e399"))
    assert not equal(one, one.replace("1e400", "1e401"))


@pytest.mark.parametrize(
    "number", ["1e9999999", "-1e-9999999", "9" * 1_100_000, "7e99999999999999999999999", "9e-1" + "0" * 30]
)
def test_numbers_that_no_decimal_calculates_with_are_compared_too(number: str) -> None:
    one = text(changed(n=0)).replace('"n":0', f'"n":{number}')
    assert equal(one, text(changed(n=0)).replace('"n":0', f'"n" : {number.upper()}'))
    assert not equal(one, changed(n=0))
    assert not equal(one, one.replace(number, f"1{number.removeprefix('-')}"))
    assert fingerprint(one.encode()) != fingerprint(text(changed(n=0)).encode())


def test_zero_is_zero_whatever_its_exponent() -> None:
    one = text(changed(n=0))
    other = one.replace('"n":0', '"n":-0.00e99999999999999999999999')
    assert equal(one, other)
    assert fingerprint(one.encode()) == fingerprint(other.encode())


def test_durations_are_compared_whatever_their_size() -> None:
    long = changed(result={"duration": f"PT{'9' * 1_100_000}.019S"})
    assert equal(long, changed(result={"duration": f"P0DT00{'9' * 1_100_000}.01S"}))
    assert not equal(long, changed(result={"duration": f"PT{'9' * 1_100_000}.02S"}))
    assert equal(changed(result={"duration": "PT0.009S"}), changed(result={"duration": "P0Y"}))
    assert equal(changed(result={"duration": "PT1,5S"}), changed(result={"duration": "PT01.50S"}))
    assert not equal(changed(result={"duration": "PT1.05S"}), changed(result={"duration": "PT1.5S"}))


def test_a_substatement_and_a_reference_are_compared_as_statements_are() -> None:
    inside = {"objectType": "SubStatement", "timestamp": "2026-03-01T09:00:00Z", "object": {"id": "x"}}
    other = {**inside, "timestamp": "2026-03-01T10:00:00+01:00"}
    assert equal(changed(object=inside), changed(object=other))
    reference = {"objectType": "StatementRef", "id": "ABC"}
    assert equal(changed(object=reference), changed(object={**reference, "id": "abc"}))
    assert not equal(changed(object={"id": "ABC"}), changed(object={"id": "abc"}))


def respelled(value: Any, luck: random.Random) -> str:
    """A JSON value with its numbers as Decimals, in another spelling."""
    if isinstance(value, dict):
        members = [f"{json.dumps(name)} :{respelled(member, luck)}" for name, member in value.items()]
        luck.shuffle(members)
        return "{" + ",".join(members) + "}"
    if isinstance(value, list):
        return "[" + " ,".join(respelled(item, luck) for item in value) + "]"
    if isinstance(value, Decimal):
        if not value:
            return "0.0e5"
        sign, digits, exponent = value.as_tuple()
        return f"{'-' * sign}{''.join(map(str, digits))}0e{int(exponent) - 1}"
    return json.dumps(value)


@given(STATEMENT_TEXTS, st.randoms(use_true_random=False))
def test_a_statement_in_any_spelling_is_the_same_one(sent: str, luck: random.Random) -> None:
    value = json.loads(sent, parse_int=Decimal, parse_float=Decimal)
    assert equal(sent, respelled(value, luck))
    assert equal(sent, sent)
    value["added"] = 1
    assert not equal(sent, respelled(value, luck))


@pytest.mark.parametrize("other", ["[]", "nonsense", "[" * 100_000])
def test_what_is_no_statement_is_refused(other: str) -> None:
    with pytest.raises(ValueError, match=r"object|Expecting|deep"):
        equal_statements(text(PLAIN).encode(), other.encode())
