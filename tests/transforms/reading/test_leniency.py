"""Numbers in quotes, ids that are numbers, times without a zone, Extended JSON: refused by name, or read when asked."""

from typing import Any

import orjson
import pytest

from schemas import Response, SubscoreDefinition, Tag
from tests.support.paths import SHARED, needs_shared
from transforms.reading.activity import ActivityDecoder, ActivityError, decode_admitted
from transforms.reading.leniency import STRICT, Leniency

NOON = 1581951803000
LEAST: dict[str, Any] = {
    "record_id": "r1",
    "user_id": "u1",
    "session_id": "s1",
    "activity_id": "a1",
    "action": "START",
    "occurred_at": NOON,
}
STRICT_DECODER = ActivityDecoder()
LENIENT = ActivityDecoder(leniency=Leniency(lenient_numbers=True))


def line(**fields: Any) -> bytes:
    return orjson.dumps(LEAST | fields)


def refused(fields: dict[str, Any], decoder: ActivityDecoder = STRICT_DECODER) -> ActivityError:
    """The refusal of a line, after checking that a row of the same fields is refused alike."""
    with pytest.raises(ActivityError) as of_line:
        decoder.decode(line(**fields))
    with pytest.raises(ActivityError) as of_row:
        decoder.decode_row(LEAST | fields)
    assert str(of_row.value) == str(of_line.value)
    return of_line.value


@pytest.mark.parametrize("zone", ["Z", "", " UTC"])
def test_times_without_a_zone_are_read_where_that_is_asked_for(zone: str) -> None:
    decoder = ActivityDecoder(leniency=Leniency(naive_utc=True))
    assert decoder.decode(line(occurred_at=f"2020-02-17T15:03:23{zone}")).occurred_at == NOON
    assert decoder.decode_row(LEAST | {"occurred_at": f"2020-02-17T15:03:23{zone}"}).occurred_at == NOON
    if not zone:
        assert "--naive_times utc" in str(refused({"occurred_at": "2020-02-17T15:03:23"}, LENIENT))


@pytest.mark.parametrize(
    ("count", "unit"),
    [
        (1581951803, "seconds"),
        (1581951803.5, "seconds"),
        (NOON * 1000, "microseconds"),
        (NOON * 1_000_000, "nanoseconds"),
    ],
)
def test_an_epoch_in_another_unit_is_told_as_such(count: float, unit: str) -> None:
    error = refused({"occurred_at": count})
    assert str(error).startswith(
        f"occurred_at: not allowed ({count} is in epoch {unit}, not in milliseconds); allowed: "
    )
    assert (error.field, error.rule) == ("occurred_at", f"in epoch {unit}, not in milliseconds")


QUOTED: dict[str, Any] = {
    "occurred_at": str(NOON),
    "seq": "1",
    "session_duration": "12.5",
    "num_questions": "3",
    "responses": [{"response_id": "q", "item_reference": "i", "score": "0.5", "max_score": "2", "revision": "7"}],
}


@pytest.mark.parametrize("name", ["occurred_at", "seq", "session_duration", "num_questions"])
def test_a_number_in_quotes_is_refused_by_its_name(name: str) -> None:
    error = refused({name: QUOTED[name]})
    assert str(error).startswith(f"{name}: ")
    assert QUOTED[name] in str(error)
    assert "a number in quotes; write " in str(error)
    assert "--lenient_numbers" in str(error)
    assert error.field == name


@pytest.mark.parametrize("name", ["score", "max_score", "revision"])
def test_a_number_in_quotes_of_a_response_is_refused_by_its_path(name: str) -> None:
    fine = {"response_id": "q", "item_reference": "i"}
    error = refused({"responses": [fine, fine | {name: "3"}]})
    assert str(error) == f'responses[1].{name}: "3" is a number in quotes; write 3, or give --lenient_numbers'
    assert error.field == f"responses[1].{name}"


def test_numbers_in_quotes_are_read_where_that_is_asked_for() -> None:
    response = {"response_id": "q", "item_reference": "i", "score": 0.5, "max_score": 2, "revision": 7}
    expected = STRICT_DECODER.decode(line(seq=1, session_duration=12.5, num_questions=3, responses=[response]))
    assert LENIENT.decode(line(**QUOTED)) == expected
    assert LENIENT.decode_row(LEAST | QUOTED) == expected
    assert decode_admitted(LENIENT.admit(line(**QUOTED))[1]) == expected


@pytest.mark.parametrize("text", ["", "1_000", "+1", "01", "1,5", "NaN", "Infinity", "0x1", "one", " 1"])
@pytest.mark.parametrize("name", ["seq", "num_questions", "occurred_at"])
def test_what_is_no_number_in_quotes_is_refused_always(name: str, text: str) -> None:
    for decoder in (STRICT_DECODER, LENIENT):
        error = refused({name: text}, decoder)
        assert error.field == name
        assert "--lenient_numbers" not in str(error)


def test_quotes_make_no_number_of_an_id_of_metadata_or_of_a_boolean() -> None:
    activity = LENIENT.decode(line(record_id="007", metadata={"class": "7"}, num_questions="1"))
    assert (activity.record_id, activity.metadata, activity.num_questions) == ("007", {"class": "7"}, 1)
    assert refused({"pending_scoring": "true"}, LENIENT).field == "pending_scoring"


@pytest.mark.parametrize("fields", [{"seq": "9223372036854775808"}, {"seq": "1.5"}, {"occurred_at": "1581951803"}])
def test_a_quoted_number_is_held_to_the_same_limits(fields: dict[str, Any]) -> None:
    assert refused(fields, LENIENT).field in fields
    assert LENIENT.decode(line(seq="3.0")).seq == 3


IDS = ("record_id", "user_id", "session_id", "activity_id", "organisation", "lrs_id")


@pytest.mark.parametrize("name", IDS)
@pytest.mark.parametrize("spelled", ["42", "0", "-7", "1.0", "1e3", "12345678901234567890123", "0.10"])
def test_an_id_that_is_a_number_is_its_text_as_it_was_spelled(name: str, spelled: str) -> None:
    rest = orjson.dumps({key: value for key, value in LEAST.items() if key != name})[:-1]
    text = b'%b,"%b":%b,"other":[1.5]}' % (rest, name.encode(), spelled.encode())
    with pytest.raises(ActivityError, match=r"is a number where text is needed; .*--lenient_numbers") as caught:
        STRICT_DECODER.decode(text)
    assert caught.value.field == name
    assert getattr(LENIENT.decode(text), name) == spelled


def test_ids_inside_that_are_numbers() -> None:
    text = line()[:-1] + (
        b',"responses":[{"response_id":1.50,"item_reference":7,"score":0.5,"max_score":1e0}],"seq":2.0,'
        b'"session_duration":2.5,"metadata":{"a":0.25},'
        b'"subscores":[{"id":1.0,"title":2,"items":[3,"4"],"tags":[{"type":5,"name":6.0}]}],'
        b'"item_tags":{"i":[{"type":7,"name":8}]}}'
    )
    activity = LENIENT.decode(b"\xef\xbb\xbf" + text)
    assert activity.responses == [Response("1.50", "7", score=0.5, max_score=1)]
    assert activity.subscores == [SubscoreDefinition("1.0", "2", ["3", "4"], [Tag("5", "6.0")])]
    assert activity.item_tags == {"i": [Tag("7", "8")]}
    assert (activity.seq, activity.session_duration, activity.metadata) == (2, 2.5, {"a": 0.25})
    assert decode_admitted(LENIENT.admit(text)[1]) == activity


def test_an_id_beside_what_is_nested_deep() -> None:
    deep = b"[" * 900 + b"]" * 900
    assert LENIENT.decode(line(user_id=42)[:-1] + b',"x":' + deep + b"}").user_id == "42"


def test_a_row_has_no_spelling_and_a_whole_double_is_an_integer_there() -> None:
    activity = LENIENT.decode_row(LEAST | {"record_id": 42.0, "user_id": 7, "session_id": 1.5})
    assert (activity.record_id, activity.user_id, activity.session_id) == ("42", "7", "1.5")


@pytest.mark.parametrize("value", [True, None, [1], {"a": 1}])
def test_an_id_that_is_neither_text_nor_number_is_refused_always(value: object) -> None:
    assert str(refused({"user_id": value}, LENIENT)).startswith("user_id: not allowed")


EXPORTED: dict[str, Any] = {
    "_id": {"$oid": "a" * 24},
    "record_id": {"$oid": "b" * 24},
    "occurred_at": {"$date": {"$numberLong": str(NOON)}},
    "seq": {"$numberLong": "7"},
    "session_duration": {"$numberDouble": "12.5"},
    "num_questions": {"$numberDecimal": "3.00"},
    "responses": [{"response_id": "q", "item_reference": "i", "score": {"$numberInt": "1"}}],
    "metadata": {"class": {"$oid": "c" * 24}, "size": {"$numberLong": "30"}},
}


@pytest.mark.parametrize("at", [EXPORTED["occurred_at"], {"$date": "2020-02-17T15:03:23.000Z"}, {"$date": NOON}])
def test_extended_json_is_what_it_stands_for_in_lines_and_rows(at: dict[str, Any]) -> None:
    plain = {
        "record_id": "b" * 24,
        "seq": 7,
        "session_duration": 12.5,
        "num_questions": 3,
        "metadata": {"class": "c" * 24, "size": 30},
        "responses": [{"response_id": "q", "item_reference": "i", "score": 1}],
    }
    expected = STRICT_DECODER.decode(line(**plain))
    assert STRICT_DECODER.decode(line(**(EXPORTED | {"occurred_at": at}))) == expected
    assert STRICT_DECODER.decode_row(LEAST | EXPORTED | {"occurred_at": at}) == expected


def test_extended_json_may_be_escaped() -> None:
    assert STRICT_DECODER.decode(line()[:-1] + b',"seq":{"\\u0024numberLong":"7"}}').seq == 7


def test_extended_json_that_stands_for_nothing_names_its_field() -> None:
    assert str(refused({"seq": {"$numberLong": "x"}})) == "seq: $numberLong holds an integer as text"
    assert str(refused({"user_id": {"$numberLong": "42"}})).startswith("user_id: 42 is a number where text is needed")
    assert LENIENT.decode(line(user_id={"$numberLong": "42"})).user_id == "42"


@pytest.mark.parametrize("odd", [{"$numberDouble": "NaN"}, {"$binary": {"base64": "AAAA", "subType": "00"}}])
def test_odd_extended_json_costs_nothing_where_activity_lacks_the_field(odd: dict[str, Any]) -> None:
    response = {"response_id": "a", "item_reference": "b", "score": {"$numberInt": "2"}, "more": odd}
    fields = {"responses": [response], "_id": odd}
    for read in (STRICT_DECODER.decode(line(**fields)), STRICT_DECODER.decode_row(LEAST | fields)):
        assert [each.score for each in read.responses] == [2]
    reason = str(refused({"responses": [response, response | {"score": odd}]}))
    assert reason.startswith("responses[1].score: ")
    assert "Expected" not in reason


@pytest.mark.parametrize("name", ["user_id", "metadata", "responses", "subscores", "item_tags"])
@pytest.mark.parametrize("depth", [500, 900, 1000])
def test_extended_json_however_deep_is_a_reject(name: str, depth: int) -> None:
    deep = b"[" * depth + b'{"$oid":"a"}' + b"]" * depth
    text = line()[:-1] + b',"' + name.encode() + b'":' + deep + b"}"
    for decoder in (STRICT_DECODER, LENIENT):
        with pytest.raises(ActivityError):
            decoder.decode(text)


@pytest.mark.parametrize("name", ["occurred_at", "seq", "session_duration", "num_questions"])
@pytest.mark.parametrize("number", ["1e400", "-1E999"])
def test_a_number_in_quotes_that_no_double_can_hold(name: str, number: str) -> None:
    with pytest.raises(ActivityError) as caught:
        LENIENT.decode(line(**{name: number}))
    assert str(caught.value) == f'{name}: "{number}" is a number beyond double'


CASES = SHARED / "cases" / "inputs"
IN_12 = {
    1: "time without a zone",
    2: "time without a zone",
    13: "hour 24",
    14: "ordinal date",
    15: "week date",
    16: "number in quotes",
    17: "epoch seconds",
    19: "epoch seconds",
    23: "not a time",
    25: "not a time",
    26: "date without a time of day",
    27: "leap second",
    28: "no offset",
}


@needs_shared
@pytest.mark.parametrize(
    ("name", "leniency", "expected"),
    [
        ("11-bigquery-export.jsonl", STRICT, {1: 'seq: "1"', 2: 'responses[0].revision: "1"', 3: 'seq: "3"'}),
        ("11-bigquery-export.jsonl", Leniency(lenient_numbers=True), {}),
        ("12-times.jsonl", STRICT, IN_12),
        ("12-times.jsonl", Leniency(naive_utc=True), {line: IN_12[line] for line in IN_12 if line not in (1, 2, 26)}),
        ("13-mongoexport-activity.jsonl", STRICT, {}),
        ("14-numbers-as-strings.jsonl", STRICT, {1: 'seq: "1"', 2: 'responses[0].score: "3"', 3: 'seq: "3"'}),
        ("14-numeric-ids.jsonl", STRICT, dict.fromkeys((1, 2, 3), "record_id: ")),
        ("14-numeric-ids.jsonl", Leniency(lenient_numbers=True), {}),
        ("14-pandas-floats.jsonl", STRICT, {}),
    ],
)
def test_inputs_as_people_have_them(name: str, leniency: Leniency, expected: dict[int, str]) -> None:
    decoder = ActivityDecoder(leniency=leniency)
    found = {}
    for number, text in enumerate((CASES / name).read_bytes().splitlines(), 1):
        try:
            decoder.admit(text)
        except ActivityError as error:
            found[number] = str(error)
    assert found.keys() == expected.keys()
    for number, reason in expected.items():
        assert reason in found[number]
