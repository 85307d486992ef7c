"""The language by hand: Learning Locker's additions, Extended JSON, and what no library gets right."""

import json
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from transforms.query import ObjectId, Regex, compile_query, from_extended_json

NOON = datetime(2020, 2, 17, 12, tzinfo=UTC)


def matches(query: Any, document: Any) -> bool:
    """The answer, which must be the same for the mapping and, where it is plain JSON, for its text."""
    compiled = compile_query(query)
    answer = compiled.matches(document)
    assert compiled.matches(document) is answer
    if isinstance(query, dict):
        assert compile_query(json.dumps(query)).matches(document) is answer
    return answer


@pytest.mark.parametrize("query", [None, "", " \n\t", "{}", {}, '{"$match": {}}', '{"$comment": "all"}'])
def test_nothing_asked_matches_everything(query: Any) -> None:
    assert compile_query(query).matches({"kind": "event"})
    assert compile_query(query).fields == frozenset()


def test_match_is_unwrapped_once() -> None:
    assert matches({"$match": {"kind": "event"}}, {"kind": "event"})
    assert not matches({"$match": {"kind": "event"}, "$comment": "x"}, {"kind": "score"})


def test_a_comment_is_ignored_beside_the_members_of_any_query_object() -> None:
    query = {
        "$comment": 1,
        "$and": [{"$comment": {"$gt": 1}, "$or": [{"a": 1, "$comment": "deep"}]}],
        "list": {"$elemMatch": {"$comment": "first", "b": 2}},
    }
    assert matches(query, {"a": 1, "list": [{"b": 2}]})
    assert not matches(query, {"a": 1, "list": [{"b": 3}]})


def test_a_dot_inside_a_name_is_written_as_an_entity_unless_the_name_is_an_iri() -> None:
    document = {"statement": {"result": {"extensions": {"http://x.org/a": 3, "x.org": 3}}}}
    query = compile_query({"statement.result.extensions.http://x&46;org/a": 3})
    assert query.matches(document)
    assert query.fields == {"statement"}
    assert query.paths == {"statement.result.extensions.http://x&46;org/a"}
    assert matches({"statement.result.extensions.http://x.org/a": 3}, document)
    assert matches({"statement.result.extensions.x&46;org": 3}, document)
    assert not matches({"statement.result.extensions.x.org": 3}, document)


@pytest.mark.parametrize("name", ["timestamp", "statement.timestamp", "statement.stored"])
@pytest.mark.parametrize(
    ("operand", "expected"),
    [
        ("2020-02-17T12:00:00Z", True),
        ("2020-02-17T13:00:00+01:00", True),
        ("2020-02-17 12:00", True),
        ("2020-02-17T12:00:00.0004Z", True),
        ("2020-02-17", False),
        ({"$gt": "2020-02-17"}, True),
        ({"$lt": "2020-02-17T11:59:59.999Z"}, False),
        ({"$in": ["2020-02-17T12:00:00Z", "2021-01-01"]}, True),
        ({"$nin": ["2020-02-17T12:00:00Z"]}, False),
        ({"$not": {"$gte": "2020-02-18"}}, True),
        ({"$ne": "2020-02-17T12:00:00Z"}, False),
        ({"$all": ["2020-02-17T12:00:00Z"]}, True),
        ({"$dte": "2020-02-17T12:00:00"}, True),
        ({"$gte": {"$date": {"$numberLong": "1581940800000"}}}, True),
        ({"$type": "date"}, True),
        ({"$exists": "no"}, True),
        ({"$regex": "2020"}, False),
    ],
)
def test_times_are_dates_and_a_string_operand_is_read_as_one(name: str, operand: Any, expected: bool) -> None:
    document: dict[str, Any] = {"timestamp": NOON, "statement": {"timestamp": NOON, "stored": NOON}}
    assert matches({name: operand}, document) is expected


def test_other_times_stay_strings() -> None:
    assert matches({"dt_started": {"$gte": "2020-02-17"}}, {"dt_started": "2020-02-17T15:03:23Z"})
    assert not matches({"dt_started": {"$date": "2020-02-17T12:00:00Z"}}, {"dt_started": "2020-02-17T12:00:00Z"})
    assert not matches({"a.timestamp": "2020-02-17T12:00:00Z"}, {"a": {"timestamp": NOON}})


def test_a_date_without_a_zone_is_utc() -> None:
    naive = NOON.replace(tzinfo=None)
    assert matches({"at": {"$dte": "2020-02-17T12:00:00"}}, {"at": naive})
    assert matches({"at": {"$gte": {"$dte": "2020-02-17T12:00:00Z"}}}, {"at": naive})


HEX = "59c209c4ad95fd50960c0362"


@pytest.mark.parametrize("name", ["_id", "organisation", "lrs_id"])
def test_an_object_id_is_its_string_where_the_document_has_ids_as_strings(name: str) -> None:
    assert matches({name: {"$oid": HEX}}, {name: HEX})
    assert matches({name: {"$oid": HEX.upper()}}, {name: HEX})
    assert matches({name: {"$in": [{"$oid": HEX}]}}, {name: HEX})
    assert matches({name: {"$gte": {"$oid": HEX}}}, {name: HEX})
    assert not matches({name: {"$ne": {"$oid": HEX}}}, {name: HEX})
    assert not matches({name: {"$not": {"$eq": {"$oid": HEX}}}}, {name: HEX})
    assert not matches({name: {"$nin": [{"$oid": HEX}]}}, {name: HEX})


def test_elsewhere_an_object_id_is_an_object_id() -> None:
    assert not matches({"owner": {"$oid": HEX}}, {"owner": HEX})
    assert matches({"owner": {"$oid": HEX}}, {"owner": ObjectId(HEX)})
    assert not matches({"a._id": {"$oid": HEX}}, {"a": {"_id": HEX}})


def test_extended_json_of_documents() -> None:
    read = from_extended_json(
        {
            "at": {"$date": "2020-02-17T12:00:00Z"},
            "ms": {"$date": {"$numberLong": "-1"}},
            "id": {"$oid": HEX},
            "n": [{"$numberInt": "1"}, {"$numberLong": "5"}, {"$numberDouble": "-Infinity"}],
            "d": {"$numberDecimal": "1.5"},
            "re": {"$regularExpression": {"pattern": "a", "options": "i"}},
            "plain": {"$date": "no wrapper", "b": 1},
        }
    )
    assert read["at"] == NOON
    assert read["ms"] == datetime(1969, 12, 31, 23, 59, 59, 999000, tzinfo=UTC)
    assert read["id"] == ObjectId(HEX)
    assert read["n"] == [1, 5, float("-inf")]
    assert read["d"] == Decimal("1.5")
    assert read["re"] == Regex("a", "i")
    assert read["plain"] == {"$date": "no wrapper", "b": 1}


@pytest.mark.parametrize(
    "wrapper",
    [
        {"$date": "yesterday"},
        {"$date": {"$numberLong": "9999999999999999"}},
        {"$oid": "123"},
        {"$numberInt": "2147483648"},
        {"$numberLong": "9223372036854775808"},
        {"$numberDouble": "one"},
        {"$numberDecimal": "1E+7000"},
        {"$numberDecimal": "sNaN"},
        {"$regularExpression": {"pattern": 1, "options": ""}},
        {"$minKey": 1},
    ],
)
def test_an_unreadable_wrapper_is_refused(wrapper: Any) -> None:
    with pytest.raises(ValueError, match=r"\$"):
        from_extended_json({"a": wrapper})


@pytest.mark.parametrize(
    ("element", "names"),
    [
        (1, {"int", "number"}),
        (2**31, {"long", "number"}),
        (from_extended_json({"$numberLong": "1"}), {"long", "number"}),
        (1.0, {"double", "number"}),
        (Decimal(1), {"decimal", "number"}),
        (True, {"bool"}),
        (None, {"null"}),
        ("", {"string"}),
        ({}, {"object"}),
        ([], {"array"}),
        (NOON, {"date"}),
        (ObjectId(HEX), {"objectId"}),
        (Regex("a"), {"regex"}),
    ],
)
def test_types(element: Any, names: set[str]) -> None:
    all_names = "int long double decimal number bool null string object array date objectId regex minKey symbol"
    found = {name for name in all_names.split() if compile_query({"a": {"$type": name}}).matches({"a": element})}
    assert found == names


def test_true_is_not_one() -> None:
    for operand, element in ((1, True), (True, 1), (0, False), (False, 0), (1.0, True)):
        assert not matches({"a": operand}, {"a": element})
        assert not matches({"a": operand}, {"a": [element]})
        assert not matches({"a": {"$in": [operand, "x"]}}, {"a": element})
        assert not matches({"a": {"$gte": operand}}, {"a": element})
        assert not matches({"a": {"b": operand}}, {"a": {"b": element}})
        assert not matches({"a": [operand]}, {"a": [element]})
    assert matches({"a": 1}, {"a": 1.0})
    assert matches({"a": {"b": 1}}, {"a": {"b": 1.0}})


def test_numbers_compare_without_rounding() -> None:
    assert not matches({"a": 2**53 + 1}, {"a": float(2**53)})
    assert matches({"a": {"$gt": float(2**53)}}, {"a": 2**53 + 1})
    assert matches({"a": {"$gt": {"$numberDecimal": "0.1"}}}, {"a": 0.1})
    assert matches({"a": -0.0}, {"a": 0})


def test_nan_equals_nan_and_is_in_no_other_order() -> None:
    nan = {"$numberDouble": "NaN"}
    for element in (float("nan"), Decimal("NaN")):
        assert matches({"a": nan}, {"a": element})
        assert matches({"a": {"$gte": nan}}, {"a": element})
        assert not matches({"a": {"$lt": 5}}, {"a": element})
        assert not matches({"a": {"$gt": nan}}, {"a": element})
        assert matches({"a": [nan]}, {"a": [element]})
    assert not matches({"a": {"$lte": nan}}, {"a": 1})


def test_objects_are_equal_with_the_same_fields_in_the_same_order() -> None:
    assert matches({"a": {"b": 1, "c": 2}}, {"a": {"b": 1, "c": 2}})
    assert not matches({"a": {"b": 1, "c": 2}}, {"a": {"c": 2, "b": 1}})
    assert not matches({"a": {"b": 1}}, {"a": {"b": 1, "c": 2}})
    assert not matches({"a": {"b": None}}, {"a": {}})


def test_null_matches_a_missing_field_but_no_empty_array() -> None:
    nothing: list[Any] = [4, {}, [{}], {"b": None}, None]
    something: list[Any] = [[], [1], {"b": 1}]
    assert all(matches({"a.b": None}, {"a": value}) for value in nothing)
    assert not any(matches({"a.b": None}, {"a": value}) for value in something)
    assert matches({"a": None}, {})
    assert matches({"a": {"$gte": None}}, {})
    assert not matches({"a": {"$gt": None}}, {"a": None})


def test_one_array_level_is_seen_per_component() -> None:
    assert not matches({"a.b": 1}, {"a": [[{"b": 1}]]})
    assert matches({"a.0.b": 1}, {"a": [[{"b": 1}]]})
    assert not matches({"a.0": 1}, {"a": [[1]]})
    assert matches({"a.0": 1}, {"a": [{"0": 1}]})
    assert not matches({"a.00": 1}, {"a": [1]})
    assert not matches({"a.-1": 1}, {"a": [1]})


@pytest.mark.parametrize(
    ("dividend", "divisor", "remainder", "expected"),
    [
        (7, 4, 3, True),
        (-7, 4, -3, True),
        (-7, 4, 1, False),
        (7, -4, 3, True),
        (-7, -4, -3, True),
        (7.9, 4, 3, True),
        (-7.9, 4.5, -3.5, True),
        (True, 1, 0, False),
        ("4", 4, 0, False),
        (float("inf"), 4, 0, False),
        (1e300, 4, 0, False),
        (-(2**63), -1, 0, True),
    ],
)
def test_a_remainder_has_the_sign_of_the_dividend(
    dividend: Any, divisor: float, remainder: float, expected: bool
) -> None:
    assert matches({"a": {"$mod": [divisor, remainder]}}, {"a": dividend}) is expected


@pytest.mark.parametrize(
    ("operator", "mask", "element", "expected"),
    [
        ("$bitsAllSet", 5, 7, True),
        ("$bitsAllSet", [0, 63, 200], -1, True),
        ("$bitsAllSet", [200], 2**62, False),
        ("$bitsAllClear", 5, 10, True),
        ("$bitsAnySet", 5, 10, False),
        ("$bitsAnyClear", 5, 4, True),
        ("$bitsAnySet", [64], -(2**63), True),
        ("$bitsAllSet", 1, True, False),
        ("$bitsAllSet", 1, 1.0, True),
        ("$bitsAllSet", 1, 1.5, False),
        ("$bitsAllClear", 1, 2**63, False),
        ("$bitsAllSet", 0, 5, True),
    ],
)
def test_bits_are_those_of_twos_complement(operator: str, mask: Any, element: Any, expected: bool) -> None:
    assert matches({"a": {operator: mask}}, {"a": element}) is expected


def test_all_never_matches_for_an_empty_list() -> None:
    assert not matches({"a": {"$all": []}}, {"a": []})
    assert matches({"a": {"$all": [1]}}, {"a": 1})
    assert matches({"a": {"$all": [[1, 2]]}}, {"a": [1, 2]})


def test_a_reference_is_a_literal() -> None:
    reference = {"$ref": "users", "$id": 5}
    assert matches({"a": reference}, {"a": reference})
    assert matches({"a": {"b": 1, "$gt": 5}}, {"a": {"b": 1, "$gt": 5}})


def test_a_stored_regular_expression_equals_the_literal() -> None:
    literal = {"$regularExpression": {"pattern": "a", "options": "i"}}
    assert matches({"x": literal}, {"x": Regex("a", "i")})
    assert matches({"x": {"$eq": literal}}, {"x": Regex("a", "i")})
    assert not matches({"x": {"$eq": literal}}, {"x": "a"})
    assert matches({"x": {"$not": literal}}, {"x": "b"})
    assert matches({"x": {"$in": [literal]}}, {"x": ["b", "A"]})


def test_a_subclass_is_read_as_what_it_derives_from() -> None:
    class Text(str):
        __slots__ = ()

    class Number(int):
        pass

    class Object(dict[str, Any]):
        pass

    document = Object(a=Object(b=[Object(c=Text("x"), n=Number(5))]))
    assert matches({"a.b.c": "x"}, document)
    assert matches({"a.b.n": {"$gt": 4}}, document)
    assert matches({"a.b.c": {"$regex": "x|y"}}, document)
    assert matches({"a": {"$type": "object"}}, document)


def test_fields_and_paths() -> None:
    query = compile_query(
        {
            "$or": [{"kind": "a"}, {"$nor": [{"x.y": 1}]}],
            "list": {"$elemMatch": {"b.c": 1, "d": {"$not": {"$gt": 1}}}},
        }
    )
    assert query.fields == {"kind", "x", "list"}
    assert query.paths == {"kind", "x.y", "list", "list.b.c", "list.d"}
