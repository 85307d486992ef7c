import random
from datetime import UTC, datetime
from itertools import islice
from typing import Any

import msgspec
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.sample import sample_activities
from schemas import Activity, Response, SubscoreDefinition, Tag
from transforms.reading.activity import (
    MAX_DEPTH,
    ActivityDecoder,
    ActivityError,
    _decode_strict,
    _Fitting,
    canonical,
    decode_admitted,
    encode,
    parse_object,
    parse_time,
)
from transforms.reading.leniency import STRICT
from transforms.reading.limits import MAX_LINE

LEAST: dict[str, Any] = {
    "record_id": "r1",
    "user_id": "u1",
    "session_id": "s1",
    "activity_id": "a1",
    "action": "START",
    "occurred_at": 1581951803000,
}
LEAST_ACTIVITY = Activity("r1", "u1", "s1", "a1", "START", 1581951803000)


def line(**fields: Any) -> bytes:
    return orjson.dumps(LEAST | fields)


def with_raw(extra: bytes) -> bytes:
    """The least activity with raw JSON members added."""
    return line()[:-1] + b"," + extra + b"}"


def decode(text: bytes) -> Activity:
    return ActivityDecoder().decode(text)


def reason(text: bytes) -> str:
    with pytest.raises(ActivityError) as caught:
        decode(text)
    return str(caught.value)


def test_the_least_activity() -> None:
    assert decode(line()) == LEAST_ACTIVITY


def test_everything_an_activity_can_say() -> None:
    activity = Activity(
        "r1", "u1", "s1", "a1", "SUBMIT", 1581951803000, "org", "store", "resume", 7, 12.5, 10, "Completed", True,
        responses=[Response("q1", "i1", True, False, 0.5, 2, 3), Response("q2", "i2")],
        subscores=[SubscoreDefinition("x", "X", items=["i1"]), SubscoreDefinition("x", "Y", tags=[Tag("t", "n")])],
        item_tags={"i1": [Tag("t", "n")]},
        metadata={"a": "x", "b": 1, "c": 1.5, "d": True, "e": None},
    )  # fmt: skip
    assert decode(msgspec.json.encode(activity)) == activity
    assert decode_admitted(encode(activity)) == activity


@pytest.mark.parametrize(
    ("extra", "expected"),
    [
        # In fields that are ignored as well as in those that are read.
        (b'"x":"\xff"', "not valid UTF-8 at byte"),
        (b'"\xff":1', "not valid UTF-8 at byte"),
        (b'"x":{"y":["\xed\xa0\x80"]}', "not valid UTF-8 at byte"),
        (b'"organisation":"\xc0\xaf"', "not valid UTF-8 at byte"),
        (b'"x":"\\ud800"', "a lone surrogate"),
        (b'"organisation":"\\udc00x"', "a lone surrogate"),
        (b'"metadata":{"\\ud800":1}', "a lone surrogate"),
        (b'"x":NaN', "not JSON"),
        (b'"num_questions":NaN', "not JSON"),
        (b'"num_questions":Infinity', "not JSON"),
        (b'"x":-Infinity', "not JSON"),
        (b'"x":1e400', "a number beyond double"),
        (b'"num_questions":1e400', "a number beyond double"),
        (b'"num_questions":' + b"9" * 400, "a number beyond double"),
        (b'"metadata":{"a":' + b"9" * 5000 + b"}", "a number beyond double"),
        (b'"x":-' + b"9" * 400, "a number beyond double"),
        (b'"x":' + b"[" * 100_000 + b"]" * 100_000, "nested deeper than 1024"),
        (b'"x":01', "not JSON"),
        (b'"x":"\x01"', "not JSON"),
        (b'"x":1,', "not JSON"),
    ],
)
def test_what_is_broken_anywhere_in_the_line(extra: bytes, expected: str) -> None:
    assert reason(with_raw(extra)).startswith(expected)


@pytest.mark.parametrize(
    "extra", [b'"x":"\\ud83d\\ude00"', b'"x":1e308', b'"x":{"y":[1,"\xc3\xa9",null]}', b'"x":1e-999']
)
def test_unknown_fields_are_ignored(extra: bytes) -> None:
    assert decode(with_raw(extra)) == LEAST_ACTIVITY


def test_unknown_fields_are_ignored_inside_too() -> None:
    text = line(
        responses=[{"response_id": "q", "item_reference": "i", "colour": "red"}],
        subscores=[{"id": "x", "title": "X", "tags": [{"type": "t", "name": "n", "z": 1}], "z": 1}],
        item_tags={"i": [{"type": "t", "name": "n", "z": 1}]},
    )
    activity = decode(text)
    assert activity.responses == [Response("q", "i")]
    assert activity.subscores == [SubscoreDefinition("x", "X", tags=[Tag("t", "n")])]
    assert activity.item_tags == {"i": [Tag("t", "n")]}


def test_depth_at_the_limit() -> None:
    depth = MAX_DEPTH - 1  # the line's own object is a level
    assert decode(with_raw(b'"x":' + b"[" * depth + b"]" * depth)) == LEAST_ACTIVITY
    assert "deeper" in reason(with_raw(b'"x":' + b"[" * (depth + 1) + b"]" * (depth + 1)))


def test_length_at_the_limit() -> None:
    padding = MAX_LINE - len(with_raw(b'"x":""'))
    assert decode(with_raw(b'"x":"' + b"a" * padding + b'"')) == LEAST_ACTIVITY
    assert reason(with_raw(b'"x":"' + b"a" * (padding + 1) + b'"')) == f"longer than {MAX_LINE} bytes"


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        (
            {"record_id": ""},
            "record_id: not allowed (Expected str of length >= 1); allowed: a string that is not empty",
        ),
        ({"session_id": ""}, "session_id: not allowed"),
        ({"activity_id": ""}, "activity_id: not allowed"),
        ({"user_id": ""}, "user_id: not allowed"),
        ({"user_id": "é" * 257}, "user_id: not allowed (Expected str of length <= 256); allowed: a string of 1 to 256"),
        ({"user_id": 5}, 'user_id: 5 is a number where text is needed; write "5", or give --lenient_numbers'),
        ({"user_id": None}, "user_id: not allowed"),
        ({"action": "STOP"}, "action: not allowed (Invalid enum value 'STOP'); allowed: one of START RESUME"),
        ({"action": "START_OR_RESUME"}, "action: not allowed (Invalid enum value 'START_OR_RESUME'); allowed: one of"),
        ({"action": "LAUNCH"}, "action: not allowed (Invalid enum value 'LAUNCH'); allowed: one of"),
        ({"action": "COMPLETE"}, "action: not allowed (Invalid enum value 'COMPLETE'); allowed: one of"),
        ({"state": "paused"}, "state: not allowed"),
        ({"status": "Done"}, "status: not allowed (Invalid enum value 'Done'); allowed: one of Incomplete Completed"),
        ({"action": "SET_STATUS"}, "status: SET_STATUS needs one"),
        ({"occurred_at": 946684799999}, "occurred_at: not allowed"),
        ({"occurred_at": 4133980800000}, "occurred_at: not allowed"),
        ({"occurred_at": 1581951803000.5}, "occurred_at: not allowed"),
        ({"occurred_at": True}, "occurred_at: not allowed"),
        ({"seq": 1.5}, "seq: not allowed"),
        ({"seq": 2**63}, "seq: not allowed"),
        ({"num_questions": "10"}, 'num_questions: "10" is a number in quotes; write 10, or give --lenient_numbers'),
        ({"num_questions": "ten"}, "num_questions: Expected int | float | null, got str"),
        ({"pending_scoring": 1}, "pending_scoring: Expected bool | null, got int"),
        ({"metadata": {"a": [1]}}, "metadata[...]: not allowed"),
        ({"responses": [{"response_id": "q"}]}, "responses[0].item_reference: missing"),
        (
            {"responses": [{"response_id": "q", "item_reference": 1}]},
            "responses[0].item_reference: 1 is a number where",
        ),
        ({"responses": 5}, "responses: Expected array | null, got int"),
        ({"responses": [5]}, "responses[0]: Expected object, got int"),
        ({"subscores": [{"id": "x", "title": "X", "tags": [{"type": "t"}]}]}, "subscores[0].tags[0].name: missing"),
        ({"organisation": True}, "organisation: Expected str | null, got bool"),
    ],
)
def test_fields_that_do_not_fit(fields: dict[str, Any], expected: str) -> None:
    assert reason(line(**fields)).startswith(expected)


@pytest.mark.parametrize("field", list(LEAST))
def test_a_field_that_is_missing(field: str) -> None:
    rest = {name: value for name, value in LEAST.items() if name != field}
    assert reason(orjson.dumps(rest)).startswith(f"{field}: missing; allowed: ")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b"[1]", "a JSON object is needed, not an array"),
        (b"null", "a JSON object is needed, not null"),
        (b"{", "not JSON"),
    ],
)
def test_what_is_no_object(text: bytes, expected: str) -> None:
    assert reason(text).startswith(expected)


def test_reasons_are_short_whatever_the_input() -> None:
    assert len(reason(line(action="A" * 100_000))) < 400
    assert len(reason(line(occurred_at="A" * 100_000))) < 400


def test_a_user_id_of_256_characters_not_bytes() -> None:
    assert decode(line(user_id="é" * 256)).user_id == "é" * 256


def test_null_where_there_is_a_default() -> None:
    names = [name for name in Activity.__struct_fields__ if name not in LEAST]
    assert decode(line(**dict.fromkeys(names))) == LEAST_ACTIVITY


def test_pending_scoring_has_two_spellings() -> None:
    for spelling in ("PendingScoring", "Pending Scoring"):
        assert decode(line(action="SET_STATUS", status=spelling)).status == "PendingScoring"


@pytest.mark.parametrize("around", [b"%s\r", b"  %s\t", b"\xef\xbb\xbf%s", b"\xef\xbb\xbf%s\r"])
def test_bom_and_white_space(around: bytes) -> None:
    assert decode(around % line()) == LEAST_ACTIVITY


def test_integers_spelled_as_doubles_and_integers_that_need_to_be_doubles() -> None:
    fields = b'"seq":3.0,"num_questions":%d,"session_duration":-%d,"metadata":{"a":%d}' % (2**64 - 1, 2**63 + 1, 10**25)
    activity = decode(with_raw(fields))
    assert (activity.seq, type(activity.seq)) == (3, int)
    assert activity.num_questions == float(2**64 - 1)
    assert activity.session_duration == -float(2**63 + 1)
    assert activity.metadata == {"a": 1e25}
    assert decode(line(occurred_at=1581951803000.0)).occurred_at == 1581951803000


NOON = 1581951803000


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2020-02-17T15:03:23Z", NOON),
        ("2020-02-17t15:03:23z", NOON),
        ("2020-02-17 15:03:23Z", NOON),
        ("2020-02-17 15:03:23", NOON),
        ("2020-02-17T15:03:23+00:00", NOON),
        ("2020-02-17T15:03:23-00:00", NOON),
        ("2020-02-17T15:03:23+0000", NOON),
        ("2020-02-17T16:33:23+01:30", NOON),
        ("2020-02-17T10:03:23-0500", NOON),
        ("2020-02-17T15:03:23.1Z", NOON + 100),
        ("2020-02-17T15:03:23.123999Z", NOON + 123),
        ("2020-02-17T15:03:23.9999999Z", NOON + 999),
        ("2020-02-17T15:03:23.9999999999999999+00:00", NOON + 999),
        ("2000-01-01T00:00:00Z", 946684800000),
        ("2100-12-31T23:59:59.999Z", 4133980799999),
        ("1999-12-31T23:00:00-02:00", 946688400000),
    ],
)
def test_times(text: str, expected: int) -> None:
    assert parse_time(text) == expected
    assert decode(line(occurred_at=text)).occurred_at == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "2020-02-17T15:03:23",
            "'2020-02-17T15:03:23' is a time without a zone; write Z or an offset after it, or give",
        ),
        ("2016-12-31T23:59:60Z", "'2016-12-31T23:59:60Z' is a leap second, which is not read"),
        ("1581951803000", "'1581951803000' is a number in quotes; write it without quotes, or give --lenient_numbers"),
        ("now", "'now' is not a time in a form that is read; allowed: epoch milliseconds"),
    ],
)
def test_times_that_are_refused(text: str, expected: str) -> None:
    assert reason(line(occurred_at=text)).startswith(f"occurred_at: {expected}")


@given(st.datetimes(datetime(2000, 1, 2), datetime(2100, 12, 30), timezones=st.timezones()))
def test_any_instant(moment: datetime) -> None:
    delta = moment.astimezone(UTC) - datetime(1970, 1, 1, tzinfo=UTC)
    expected = (delta.days * 86_400 + delta.seconds) * 1000 + delta.microseconds // 1000
    assert parse_time(moment.astimezone(UTC).isoformat()) == expected


def test_stamping_fills_what_is_missing_only() -> None:
    decoder = ActivityDecoder("org", "store")
    assert decoder.decode(line()) == decode(line(organisation="org", lrs_id="store"))
    assert decoder.decode(line(organisation="own")) == decode(line(organisation="own", lrs_id="store"))
    assert decoder.decode(line(organisation=None, lrs_id="own")) == decode(line(organisation="org", lrs_id="own"))


@pytest.mark.parametrize("decoder", [ActivityDecoder(), ActivityDecoder("org", "store")])
@pytest.mark.parametrize(
    "text",
    [
        line(),
        line(occurred_at="2020-02-17 15:03:23"),
        line(responses=None, seq=3.0),
        line(num_questions=2**64 - 1),
        with_raw(b'"x":1'),
        b"\xef\xbb\xbf" + line() + b"\r",
        with_raw(b'"responses":[{"response_id":"q","item_reference":"i","x":1}]'),
    ],
)
def test_what_is_admitted_reads_the_same_after_the_shuffle(decoder: ActivityDecoder, text: bytes) -> None:
    user_id, carried = decoder.admit(text)
    assert user_id == "u1"
    assert decode_admitted(carried) == decoder.decode(text)


def test_a_plain_line_is_carried_as_it_is() -> None:
    text = line(occurred_at=1_581_951_803_000) + b"\r"
    assert ActivityDecoder().admit(text)[1] is text


def test_the_job_s_own_action_survives_the_shuffle() -> None:
    activity = msgspec.structs.replace(LEAST_ACTIVITY, action="START_OR_RESUME")
    assert decode_admitted(encode(activity)) == activity


def test_canonical_bytes() -> None:
    assert canonical(decode(line(metadata={"b": 1.0, "a": "é"}))) == (
        b'{"action":"START","activity_id":"a1","metadata":{"a":"\xc3\xa9","b":1},"occurred_at":1581951803000,'
        b'"record_id":"r1","session_id":"s1","user_id":"u1"}'
    )


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"num_questions": 1}, {"num_questions": 1.0}),
        ({"num_questions": 0}, {"num_questions": -0.0}),
        ({"num_questions": 2**63}, {"num_questions": float(2**63)}),
        ({"metadata": {"a": 1, "b": 2}}, {"metadata": {"b": 2.0, "a": 1.0}}),
        ({"state": "initial", "responses": []}, {"state": None}),
        ({"occurred_at": 1581951803000}, {"occurred_at": "2020-02-17T15:03:23.000Z"}),
        (
            {"responses": [{"response_id": "q", "item_reference": "i", "score": 1e3}]},
            {"responses": [{"item_reference": "i", "score": 1000, "response_id": "q", "revision": None}]},
        ),
    ],
)
def test_equal_activity_has_equal_canonical_bytes(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert canonical(decode(line(**one))) == canonical(decode(line(**other)))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"metadata": {"a": 1}}, {"metadata": {"a": True}}),
        ({"metadata": {"a": None}}, {"metadata": {}}),
        ({"metadata": {"a": "1"}}, {"metadata": {"a": 1}}),
        ({"num_questions": 0.1}, {"num_questions": 0.10000000000000002}),
    ],
)
def test_different_activity_has_different_canonical_bytes(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert canonical(decode(line(**one))) != canonical(decode(line(**other)))


@given(st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(2**70), 2**70))
def test_canonical_numbers_go_round(number: float) -> None:
    activity = decode(msgspec.json.encode(LEAST | {"num_questions": number}))
    again = decode(canonical(activity))
    assert again.num_questions == activity.num_questions
    assert canonical(again) == canonical(activity)


def row(**fields: Any) -> Activity:
    return ActivityDecoder().decode_row(LEAST | fields)


def test_lists_and_maps_in_a_row_may_be_json_text() -> None:
    given = row(
        responses='[{"response_id":"q","item_reference":"i","score":1}]', metadata='{"a":1,"b":null}', item_tags="{}"
    )
    assert given.responses[0].score == 1
    assert given.metadata == {"a": 1, "b": None}


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"occurred_at": 915148800000}, "occurred_at: not allowed"),
        ({"occurred_at": None}, "occurred_at: not allowed"),
        ({"occurred_at": "2026-03-01"}, "occurred_at: '2026-03-01' is a date without a time of day"),
        ({"user_id": 42}, "user_id: 42 is a number where text is needed"),
        ({"metadata": "{"}, "metadata: not JSON"),
        ({"metadata": '{"a":NaN}'}, "metadata: not JSON"),
        ({"responses": '"\\ud800"'}, "responses: a lone surrogate"),
    ],
)
def test_rows_that_do_not_fit(fields: dict[str, Any], expected: str) -> None:
    with pytest.raises(ActivityError) as caught:
        row(**fields)
    assert str(caught.value).startswith(expected)


def test_what_is_carried_holds_no_deep_nesting() -> None:
    """The decoder after the shuffle recurses on what it skips, and would run out of stack below a runner's frames."""
    carried = ActivityDecoder().admit(with_raw(b'"x":' + b"[" * 500 + b"]" * 500))[1]
    assert b"[" not in carried


def test_the_quick_way_accepts_nothing_that_the_close_look_refuses() -> None:
    """Damaged at random, a line that fits the strict shape must be fine JSON throughout, and mean the same."""
    chance = random.Random(1)  # noqa: S311
    lines = [orjson.dumps(activity) for activity in islice(sample_activities(20), 200)]
    pieces = [
        b'"',
        b"\\",
        b"\\ud800",
        b"1e5",
        b"1e400",
        b"-",
        b"null",
        b"\xff",
        b"\xc3\xa9",
        b"[",
        b"}",
        b",",
        b"9" * 320,
        b".0",
    ]
    accepted = 0
    for _ in range(4000):
        damaged = bytearray(chance.choice(lines))
        at = chance.randrange(len(damaged))
        damaged[at : at + chance.randrange(3)] = chance.choice(pieces)
        try:
            quick = _decode_strict(damaged)
        except (msgspec.DecodeError, UnicodeDecodeError):
            continue
        accepted += 1
        assert quick == _Fitting(parse_object(bytes(damaged)), STRICT).wire()
    assert accepted > 200


@pytest.mark.parametrize("statement", [{"home_page": "https://a"}, {"score": 5}, None, 7])
def test_what_only_statements_have_is_ignored_in_activity(statement: object) -> None:
    spelled = encode(LEAST_ACTIVITY)[:-1] + b',"statement":' + orjson.dumps(statement) + b"}"
    assert decode_admitted(ActivityDecoder().admit(spelled)[1]) == LEAST_ACTIVITY
