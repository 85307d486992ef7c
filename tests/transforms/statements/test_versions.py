"""A statement of xAPI 2.0 as a receiver of 1.0.3 gets it: a few members cut out, and every other byte as it was."""

import json
import random
from collections.abc import Callable
from decimal import Decimal
from functools import partial
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.statements import STATEMENT_TEXTS, VALUES, statement, text
from transforms.statements.members import edited, members, without
from transforms.statements.versions import NotSayableError, as_first, own_version, speaks_second

AGENTS = [{"objectType": "contextAgent", "agent": {"mbox": "mailto:bob@example.org"}}]
GROUPS = [{"objectType": "contextGroup", "group": {"objectType": "Group", "mbox": "mailto:team@example.org"}}]
SIGNATURE = {"usageType": "http://adlnet.gov/expapi/attachments/signature", "sha2": "0" * 64}
exactly: Callable[[str | bytes], Any] = partial(json.loads, parse_int=Decimal, parse_float=Decimal)


def first(sent: Any) -> str:
    return as_first((sent if isinstance(sent, str) else text(sent)).encode()).decode()


def test_what_the_second_version_alone_has_is_cut_out() -> None:
    context = {"language": "en", "contextAgents": AGENTS, "platform": "p", "contextGroups": GROUPS}
    sent = statement(version="2.0.0", context=context, result={"score": {"raw": 1}})
    assert first(sent) == text({**sent, "version": "1.0.3", "context": {"language": "en", "platform": "p"}})


def test_a_substatement_too_and_nothing_else() -> None:
    inside = {"objectType": "SubStatement", "context": {"contextGroups": GROUPS, "contextAgents": AGENTS}}
    kept = {"extensions": {"https://x.example": {"contextAgents": 1}}}
    sent = statement(version="2.0.0", object=inside, context=kept, result={"contextAgents": 1})
    assert first(sent) == text({**sent, "version": "1.0.3", "object": {"objectType": "SubStatement", "context": {}}})
    activity = statement(version="2.0.0", object={"id": "https://a.example", "context": {"contextAgents": AGENTS}})
    assert first(activity) == text({**activity, "version": "1.0.3"})


def test_a_statement_without_a_version_gets_none() -> None:
    sent = statement(context={"contextAgents": AGENTS})
    assert first(sent) == text({**sent, "context": {}})
    assert first(statement()) == text(statement())


@pytest.mark.parametrize("version", ["1.0.0", "1.0.3", "1.0", "0.95", "banana", "", 2, None, ["2.0.0"]])
def test_a_statement_that_says_it_is_no_later_one_is_left_to_the_receiver(version: Any) -> None:
    sent = statement(version=version, context={"registration": "r"})
    assert first(sent) == text(sent)


@pytest.mark.parametrize("version", ["2.0", "2.0.0", "2.0.17", "2.0.0-rc.1"])
def test_every_patch_of_the_second_version_is_known(version: str) -> None:
    assert json.loads(first(statement(version=version)))["version"] == "1.0.3"


@pytest.mark.parametrize("version", ["1.1.0", "2.1.0", "3.0.0", "10.0"])
def test_a_later_version_cannot_be_said(version: str) -> None:
    with pytest.raises(NotSayableError, match=version):
        first(statement(version=version))


def test_a_signature_would_be_broken_by_a_cut_and_not_by_a_version() -> None:
    with pytest.raises(NotSayableError, match="signed"):
        first(statement(version="2.0.0", context={"contextAgents": AGENTS}, attachments=[SIGNATURE]))
    assert json.loads(first(statement(version="2.0.0", attachments=[SIGNATURE])))["version"] == "1.0.3"


def test_spelling_and_depth_make_no_difference() -> None:
    deep = "[" * 900 + '"]}"' + "]" * 900
    sent = (
        '{ "vers\\u0069on" : "2.0.0" ,"object":{"objectType":"SubSt\\u0061tement","conte\\u0078t":'
        '{"contextAgents":1}},\n'
        f'"context": {{"context\\u0041gents" : {deep} , "a" : 1E2 }}, "n":1.50, "s":"\\ud83d {{ \\"[" }}'
    )
    assert first(sent) == (
        '{ "vers\\u0069on" : "1.0.3" ,"object":{"objectType":"SubSt\\u0061tement","conte\\u0078t":{}},\n'
        '"context": {"a" : 1E2 }, "n":1.50, "s":"\\ud83d { \\"[" }'
    )


def with_members(sent: str, luck: random.Random, more: dict[str, str]) -> str:
    """The text of an object with members, at any places between its own."""
    body = sent.encode()
    own = members(body, body.index(b"{"))
    parts = [body[each.start : each.end].decode() for each in own if each.name not in more]
    for name, value in more.items():
        parts.insert(luck.randint(0, len(parts)), f'"{name}" :\t{value}')
    return "{" + " ,".join(parts) + " }"


@given(STATEMENT_TEXTS, VALUES, VALUES, st.randoms(use_true_random=False), st.booleans())
def test_it_is_the_statement_decoded_without_the_members(
    sent: str, agents: str, kept: str, luck: random.Random, inside: bool
) -> None:
    context = with_members("{}", luck, {"contextAgents": agents, "kept": kept, "contextGroups": "[]"})
    more = {"context": context, "version": '"2.0.0"'}
    if inside:
        more["object"] = with_members("{}", luck, {"objectType": '"SubStatement"', "context": context})
    signed = '"attachments"' in sent
    whole = with_members(sent, luck, more)
    if signed:
        with pytest.raises(NotSayableError):
            first(whole)
        return
    found = first(whole)
    expected = exactly(whole)
    for place in (expected, expected["object"]) if inside else (expected,):
        for name in ("contextAgents", "contextGroups"):
            del place["context"][name]
    expected["version"] = "1.0.3"
    assert exactly(found) == expected
    assert list(exactly(found)) == list(expected)
    assert kept in found
    assert first(found) == found


@given(VALUES, st.lists(st.booleans(), min_size=1, max_size=6), st.randoms(use_true_random=False))
def test_the_members_that_are_kept_are_the_same_bytes(value: str, wanted: list[bool], luck: random.Random) -> None:
    whole = with_members("{}", luck, {f"{number}": value for number in range(len(wanted))}).encode()
    out = edited(whole, without(whole, 0, lambda member: not wanted[int(member.name)]))
    kept = [whole[each.start : each.end] for each in members(whole, 0) if wanted[int(each.name)]]
    assert [out[each.start : each.end] for each in members(out, 0)] == kept
    assert exactly(out).keys() == {str(number) for number, keep in enumerate(wanted) if keep}
    if all(wanted):
        assert out == whole


@pytest.mark.parametrize(
    ("version", "own"),
    [("1.0.0", "1.0.0"), ("1.0.12", "1.0.12"), ("1.0", None), ("2.0.0", None), ("1.0.x", None), (1, None)],
)
def test_a_statement_s_own_version_counts_where_it_is_one_of_the_first(version: Any, own: str | None) -> None:
    assert own_version(text(statement(version=version)).encode()) == own


def test_no_header_can_be_made_of_a_version() -> None:
    assert own_version(text(statement(version="1.0.3\r\nX-Evil: 1")).encode()) is None
    assert own_version(text(statement(version="1.0.3\n")).encode()) is None


def test_which_receivers_speak_the_second_version() -> None:
    assert [speaks_second(version) for version in ("2.0.0", "2.0", "1.0.3", "", "20.0")] == [
        True,
        True,
        False,
        False,
        False,
    ]
