"""Statements that are read to be forwarded as they are."""

import json
import uuid
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.record import NAMESPACE
from schemas.times import now_ms
from tests.support.statements import STATEMENT_TEXTS, statement, text
from transforms.reading.activity import ActivityError, decode_admitted
from transforms.reading.admission import admit_message
from transforms.reading.blocks import Block
from transforms.reading.bucket_blobs import BucketBlobs, in_passes, originals_by_user, sort_in
from transforms.reading.exact_json import canonical_text, loads_exactly
from transforms.reading.leniency import Leniency
from transforms.reading.originals import Original, OriginalDecoder, decode_original
from transforms.reading.xapi import PassedOverError, StatementDecoder

MAKE = OriginalDecoder
AT = 1_772_355_660_000  # 2026-03-01T09:01:00Z


def read(line: bytes | str | dict[str, Any], decoder: OriginalDecoder | None = None) -> tuple[str, Original]:
    raw = orjson.dumps(line) if isinstance(line, dict) else line.encode() if isinstance(line, str) else line
    user_id, admitted = (decoder or OriginalDecoder()).admit(raw)
    return user_id, decode_original(admitted)


def refused(line: bytes | str | dict[str, Any], decoder: OriginalDecoder | None = None) -> str:
    with pytest.raises(ActivityError) as error:
        read(line, decoder)
    return str(error.value)


@given(STATEMENT_TEXTS)
def test_a_statement_travels_as_the_text_that_it_was(sent: str) -> None:
    _, original = read(sent)
    assert original.text == sent.strip().replace("\n", " ").replace("\r", " ").encode()
    assert b"\n" not in original.text
    assert original.document is None


@given(STATEMENT_TEXTS, st.sampled_from(["[%s]", '{"statements":[%s],"more":""}', '{"_source": %s}', " %s ,", "%s %s"]))
def test_what_is_around_a_statement_is_cut_off(sent: str, around: str) -> None:
    message = (around % ((sent,) * around.count("%s"))).encode()
    outcomes = list(admit_message(message, OriginalDecoder()))
    assert len(outcomes) == around.count("%s")
    for outcome in outcomes:
        assert not isinstance(outcome, ActivityError), outcome
        assert decode_original(outcome[1]).text == read(sent)[1].text


@pytest.mark.parametrize(
    ("actor", "user_id"),
    [
        ({"account": {"homePage": "https://a.example", "name": "ann"}, "mbox": "mailto:x@example.org"}, "ann"),
        ({"mbox": "mailto:Ann@example.org"}, "mailto:Ann@example.org"),
        ({"mbox_sha1sum": "ebd31e95054c018b10727ccffd2ef2ec3a016ee9"}, "ebd31e95054c018b10727ccffd2ef2ec3a016ee9"),
        ({"openid": "https://ann.example.org/"}, "https://ann.example.org/"),
        ({"objectType": "Group", "mbox": "mailto:team@example.org", "member": []}, "mailto:team@example.org"),
        ({"account": {"homePage": "https://a.example", "name": "n" * 300}}, "n" * 300),
    ],
)
def test_the_user_is_the_actors_identity(actor: dict[str, Any], user_id: str) -> None:
    assert read(statement(actor=actor))[0] == user_id


# What an identifier can be, right or wrong.
ODD: st.SearchStrategy[Any] = st.sampled_from([None, "", "ann", 5, True, [], {}, {"name": "ann"}])
ACTORS = st.dictionaries(
    st.sampled_from(["account", "mbox", "mbox_sha1sum", "openid", "name"]),
    ODD | st.dictionaries(st.sampled_from(["name", "homePage"]), ODD),
)


@given(ACTORS, st.booleans())
def test_the_user_is_the_same_however_closely_a_statement_is_looked_at(actor: dict[str, Any], qualify: bool) -> None:
    bare = orjson.dumps(statement(actor=actor))
    # A document around it has it looked at closely.
    closely = orjson.dumps({"statement": statement(actor=actor)})
    decoder = OriginalDecoder(qualify_users=qualify)
    assert read(bare, decoder)[0] == read(closely, decoder)[0]


def test_an_account_is_qualified_by_its_home_page_on_request() -> None:
    assert read(statement(), OriginalDecoder(qualify_users=True))[0] == "https://lms.example.org|ann"


def test_a_group_without_an_identifier_is_its_members_in_any_order() -> None:
    ann, ben = {"mbox": "mailto:ann@example.org"}, {"mbox": "mailto:ben@example.org", "name": "Ben"}
    one = read(statement(actor={"objectType": "Group", "member": [ann, ben]}))[0]
    other = read(statement(actor={"objectType": "Group", "member": [dict(reversed(ben.items())), ann]}))[0]
    assert one == other
    assert one.startswith("group:")
    assert read(statement(actor={"objectType": "Group", "member": [ann]}))[0] != one


def test_an_actor_without_any_identifier_is_a_user_of_its_own() -> None:
    nobody = read(statement(actor={"name": "Ann"}))[0]
    assert nobody.startswith("actor:")
    assert nobody == read(statement(2, actor={"name": "Ann"}))[0] != read(statement(actor={"name": "Ben"}))[0]


def test_the_id_is_the_statements_own_in_lower_case() -> None:
    sent = text(statement(id="ABCDEF00-0000-4000-8000-00000000000A"))
    _, original = read(sent)
    assert original.id == "abcdef00-0000-4000-8000-00000000000a"
    assert original.text == sent.encode()


def test_a_missing_id_is_made_of_the_content_and_added() -> None:
    sent = statement()
    del sent["id"]
    _, original = read(sent)
    assert original.id == str(uuid.uuid5(NAMESPACE, json.dumps(sent, sort_keys=True, separators=(",", ":"))))
    assert original.text == b'{"id":"%b",%b' % (original.id.encode(), orjson.dumps(sent)[1:])
    respelled = json.dumps(dict(reversed(sent.items())), indent=2)
    assert read(respelled)[1].id == original.id


def test_numbers_beyond_double_are_part_of_an_id() -> None:
    sent = statement(result={"score": {"raw": 0}})
    del sent["id"]
    numbers = ("1e400", "-1e400", "2e400", "null", "1e4", "1e9999999", "1e-9999999", "1e99999999999999999999999")
    texts = [text(sent).replace('"raw":0', f'"raw":{number}') for number in (*numbers, "9" * 400, "9" * 399 + "8")]
    assert len({read(each)[1].id for each in texts}) == len(texts)
    assert read(texts[0])[1].id == read(texts[0].replace("1e400", "10.0E+399"))[1].id


@pytest.mark.parametrize(
    ("times", "timestamp", "stored"),
    [
        ({"timestamp": "2026-03-01T09:01:00Z"}, AT, None),
        ({"timestamp": "2026-03-01T10:01:00.000999+01:00", "stored": "2026-03-01T09:01:00.5Z"}, AT, AT + 500),
        ({"timestamp": None, "stored": "2026-03-01T09:01:00.123456Z"}, AT + 123, AT + 123),
    ],
)
def test_the_time_is_timestamp_else_stored(times: dict[str, Any], timestamp: int, stored: int | None) -> None:
    sent = {name: value for name, value in {**statement(), **times}.items() if value is not None}
    _, original = read(sent)
    assert (original.timestamp, original.stored) == (timestamp, stored)


def test_a_statement_without_a_time_is_refused_or_is_of_now() -> None:
    sent = statement()
    del sent["timestamp"]
    assert "no time" in refused(sent)
    assert "--stored_as now" in refused(sent)
    before = now_ms()
    _, original = read(sent, OriginalDecoder(stored_now=True))
    assert before <= original.timestamp <= now_ms()
    assert original.stored is None
    assert original.text == orjson.dumps(sent)


VOIDED = "00000000-0000-4000-8000-00000000000A"
VOIDING: dict[str, Any] = {
    "verb": {"id": "http://adlnet.gov/expapi/verbs/voided"},
    "object": {"objectType": "StatementRef", "id": VOIDED},
}


def test_a_voiding_statement_says_what_it_voids() -> None:
    assert read(statement(**VOIDING))[1].voids == VOIDED.lower()
    assert read({**statement(**VOIDING), "verb": {"id": "http://example.org/voided"}})[1].voids is None
    assert read(statement())[1].voids is None


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"", "not JSON"),
        (b"[]", "a JSON object is needed, not an array"),
        (b'{"a":1}', "actor: missing or not an object; allowed: an Agent or a Group"),
        (statement(actor="ann"), "actor: missing or not an object"),
        (statement(verb={"display": {}}), "verb.id: missing, empty or not a string"),
        (statement(verb=None), "verb: missing or not an object"),
        (statement(object="x"), "object: missing or not an object"),
        (statement(id=7), "id: missing, empty or not a string"),
        (statement(id=None), "id: missing, empty or not a string"),
        (statement(timestamp="yesterday"), "timestamp: 'yesterday' is not a time in a form that is read"),
        (statement(timestamp="2026-03-01T09:01:00"), "timestamp: '2026-03-01T09:01:00' is a time without a zone"),
        (statement(stored=5), "stored: not a string"),
        (text(statement()).encode().replace(b"lms", b"l\xffs"), "not valid UTF-8 at byte"),
        (text(statement()).replace("lms", "\\ud800"), "a lone surrogate"),
        (text(statement()).replace("lms", "\\q"), "not JSON"),
        (text(statement(result={"x": 1})).replace("1}}", "NaN}}"), "not JSON"),
        (text(statement(x=0)).replace('"x":0', '"x":' + "[" * 1100 + "]" * 1100), "nested deeper than 1024 levels"),
        (text(statement(name="x" * (16 << 20))), "longer than 16777216 bytes"),
    ],
)
def test_what_is_no_statement_is_refused_and_why_is_said(line: bytes | str | dict[str, Any], reason: str) -> None:
    assert reason in refused(line)


def test_times_without_a_zone_are_read_on_request() -> None:
    decoder = OriginalDecoder(leniency=Leniency(naive_utc=True))
    assert read(statement(timestamp="2026-03-01T09:01:00"), decoder)[1].timestamp == AT


def document(inside: str, **around: Any) -> str:
    return text({"_id": {"$oid": "5f" * 12}, **around})[:-1] + f',"statement":{inside}}}'


INSIDE = text(statement(context={"extensions": {"https://a&46;example/x&46;y": "z&46;z"}}))
DOTTED = INSIDE.replace("a&46;example/x&46;y", "a.example/x.y")


@pytest.mark.parametrize("documents", [True, False])
def test_a_document_of_learning_locker_gives_its_statement_with_dots_and_all_else_beside_it(documents: bool) -> None:
    decoder = OriginalDecoder("stamped", "stamped", documents=documents)
    sent = document(INSIDE, lrs_id={"$oid": "5a" * 12}, person={"_id": {"$oid": "5b" * 12}, "n": 1})
    _, original = read(sent, decoder)
    assert original.text == DOTTED.encode()
    assert (original.organisation, original.lrs_id) == ("stamped", "5a" * 12)
    assert original.document is not None
    assert json.loads(original.document) == {
        "_id": {"$oid": "5f" * 12},
        "lrs_id": {"$oid": "5a" * 12},
        "person": {"_id": {"$oid": "5b" * 12}, "n": 1},
    }


@pytest.mark.parametrize(
    ("stored", "sent"),
    [
        ('{"$numberInt":"5"}', "5"),
        ('{ "$numberLong" : "9223372036854775807" }', "9223372036854775807"),
        ('{"$numberDouble":"1.0"}', "1.0"),
        ('{"$numberDouble":"1.50e10"}', "1.50e10"),
        ('{"$numberDecimal":"0.10"}', "0.10"),
        ('{"$numberLong":5}', "5"),
        ("1.0", "1.0"),
        ('{"$date":"2026-03-01T09:01:00Z"}', '"2026-03-01T09:01:00Z"'),
        ('{"$date":{"$numberLong":"1772355660000"}}', '"2026-03-01T09:01:00.000Z"'),
        ('{"$date":1772355660000}', '"2026-03-01T09:01:00.000Z"'),
        ('{"$oid":"5f5f5f5f5f5f5f5f5f5f5f5f"}', '"5f5f5f5f5f5f5f5f5f5f5f5f"'),
        ('{"$other":{"$numberInt":"5"}}', '{"$other":5}'),
        ('"{\\"$numberInt\\":\\"5\\"}"', '"{\\"$numberInt\\":\\"5\\"}"'),
        ('{"a\\"&46;b":"c&46;d"}', '{"a\\".b":"c&46;d"}'),
        ('{"a\\u002646;b":"c\\u002646;d"}', '{"a.b":"c\\u002646;d"}'),
        ('{"k" : {"&46;":[]}}', '{"k" : {".":[]}}'),
    ],
)
def test_extended_json_in_a_statement_becomes_what_it_stands_for_with_its_spelling(stored: str, sent: str) -> None:
    inside = text(statement(result={"extensions": {"x": "value"}}))
    _, original = read(document(inside.replace('"value"', stored)), OriginalDecoder(documents=True))
    assert original.text.decode() == inside.replace('"value"', sent)


def test_what_extended_json_cannot_be_in_json_is_refused() -> None:
    inside = text(statement(result={"x": "value"})).replace('"value"', '{"$numberDouble":"NaN"}')
    assert "NaN and Infinity are not numbers here" in refused(document(inside), OriginalDecoder(documents=True))


def test_a_bare_statement_is_never_changed() -> None:
    sent = text(statement(result={"extensions": {"a&46;b": {"$numberLong": "5"}}}))
    assert read(sent)[1].text == sent.encode()


def test_a_bare_statement_is_no_document() -> None:
    assert "--input_format xapi" in refused(statement(), OriginalDecoder(documents=True))


@pytest.mark.parametrize(
    ("around", "name"), [({"voided": True}, "voided_documents"), ({"active": False}, "inactive_documents")]
)
def test_voided_and_inactive_documents_are_passed_over_but_on_request(around: dict[str, Any], name: str) -> None:
    sent = document(INSIDE, **around)
    with pytest.raises(PassedOverError) as passed:
        read(sent)
    assert passed.value.name == name
    assert read(sent, OriginalDecoder(include_voided=True))[1].text == DOTTED.encode()


def test_of_a_document_without_times_inside_its_own_count() -> None:
    inside = statement()
    del inside["timestamp"]
    sent = document(text(inside), stored={"$date": "2026-03-01T09:01:00Z"}, timestamp={"$date": {"$numberLong": "1"}})
    assert (read(sent)[1].timestamp, read(sent)[1].stored) == (AT, AT)


def test_the_activity_of_a_statement_travels_with_it_where_records_are_derived_too() -> None:
    decoder = OriginalDecoder(derive=StatementDecoder())
    with_session = statement(context={"registration": "r"})
    activity = read(with_session, decoder)[1].activity
    assert activity is not None
    assert decode_admitted(activity) == StatementDecoder().decode(orjson.dumps(with_session))
    assert read(statement(), decoder)[1].activity is None
    assert read(statement(**VOIDING), decoder)[1].activity is None
    assert decoder.take_left_out() == {"statements_not_derived": 1, "voiding_statements": 1}
    assert decoder.take_voids() == {(None, None, VOIDED.lower())}
    assert (decoder.take_left_out(), decoder.take_voids()) == ({}, frozenset())


def test_what_is_read_of_a_file_knows_its_place_and_keeps_its_text_in_a_blob() -> None:
    sent = [text(statement(number)).encode() for number in range(1, 5)]
    answer = b'{"statements":[' + sent[1] + b", " + sent[2] + b"]}"
    blobs = BucketBlobs()
    counts, rejects = sort_in(
        Block(100, [sent[0], answer, b"{}", sent[3]], kind="lines"), "f", OriginalDecoder(), blobs, number=7
    )
    assert (counts.accepted, counts.rejected, len(rejects)) == (4, 1, 1)
    ((_, blob),) = blobs.take()
    ((user_id, originals),) = in_passes([blob], originals_by_user)
    assert user_id == "ann"
    after = 100 + len(sent[0]) + 1
    last = after + len(answer) + 1 + 3
    places = [(7, 100, 0), (7, after, 0), (7, after, 1), (7, last, 0)]
    assert [(each.file, each.position, each.part) for each in originals] == places
    assert [each.text for each in originals] == sent


@given(STATEMENT_TEXTS)
def test_canonical_json_says_the_same_in_any_spelling(sent: str) -> None:
    canonical = canonical_text(loads_exactly(sent.encode()))
    assert canonical_text(loads_exactly(canonical.encode())) == canonical
