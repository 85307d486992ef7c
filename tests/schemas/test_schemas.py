"""`schemas/*.avsc` and the types agree, field by field, default by default."""

import io
import types
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import fastavro
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas import Activity, DeadLetter, Receipt, Reject, Response, SubscoreDefinition, Tag, avro_schema
from schemas.activity import InputAction, StatementAction
from transforms.reading.activity import ActivityDecoder, canonical
from transforms.reading.avro_file import avro_rows
from transforms.reading.blocks import Block

PLAIN = {str: "string", int: "long", float: "double", bool: "boolean", bytes: "bytes", type(None): "null"}


def alternatives(hint: Any) -> set[Any]:
    """The plain types that a type hint is made of."""
    origin = get_origin(hint)
    if origin is Annotated:
        return alternatives(get_args(hint)[0])
    if origin in (Union, types.UnionType):
        return set().union(*map(alternatives, get_args(hint)))
    return {hint}


def names_of(hint: Any) -> set[Any]:
    """A type hint in the words of Avro."""
    found: set[Any] = set()
    for kind in alternatives(hint):
        origin = get_origin(kind)
        if origin is Literal:
            found.add(("enum", frozenset(get_args(kind))))
        elif origin in (list, tuple):
            found.add(("array", frozenset(names_of(get_args(kind)[0]))))
        elif origin is dict:
            found.add(("map", frozenset(names_of(get_args(kind)[1]))))
        elif isinstance(kind, type) and issubclass(kind, msgspec.Struct):
            found.add(("record", kind.__name__))
        else:
            found.add(PLAIN[kind])
    return found


def names_in(schema: Any, known: dict[str, Any]) -> set[Any]:
    """An Avro type in the same words; records and enums it defines are put into `known`."""
    if isinstance(schema, list):
        return set().union(*(names_in(part, known) for part in schema))
    if isinstance(schema, str):
        # An Avro int is a Python int all the same.
        return {("record", schema)} if schema in known else {"long" if schema == "int" else schema}
    kind = schema["type"]
    if kind == "enum":
        return {("enum", frozenset(schema["symbols"]))}
    if kind == "array":
        return {("array", frozenset(names_in(schema["items"], known)))}
    if kind == "map":
        return {("map", frozenset(names_in(schema["values"], known)))}
    if kind == "record":
        known[schema["name"]] = schema
        for field in schema["fields"]:
            names_in(field["type"], known)
        return {("record", schema["name"])}
    return {kind}


def defaults_of(struct: type[msgspec.Struct]) -> dict[str, Any]:
    found = {}
    for field in msgspec.structs.fields(struct):
        if field.default_factory is not msgspec.NODEFAULT:
            found[field.name] = field.default_factory()
        elif field.default is not msgspec.NODEFAULT:
            found[field.name] = field.default
    return found


RECORDS: dict[str, Any] = {}
names_in(avro_schema("session_activity"), RECORDS)


@pytest.mark.parametrize(
    ("schema", "struct"),
    [
        (RECORDS["SessionActivity"], Activity),
        (RECORDS["Response"], Response),
        (RECORDS["SubscoreDefinition"], SubscoreDefinition),
        (RECORDS["Tag"], Tag),
        (avro_schema("reject"), Reject),
        (avro_schema("receipt"), Receipt),
        (avro_schema("dead_letter"), DeadLetter),
    ],
    ids=lambda value: value.get("name") if isinstance(value, dict) else "",
)
def test_schema_and_struct_agree(schema: dict[str, Any], struct: type[msgspec.Struct]) -> None:
    known = dict(RECORDS)
    avro = {field["name"]: names_in(field["type"], known) for field in schema["fields"]}
    hints = get_type_hints(struct, include_extras=True)
    typed = {name: names_of(hints[name]) for name in struct.__struct_fields__}
    if struct is Activity:
        # What only statements have is not part of what comes in.
        del typed["statement"]
        assert typed["action"] == {("enum", frozenset({*get_args(InputAction), *get_args(StatementAction)}))}
        typed["action"] = {("enum", frozenset(get_args(InputAction)))}
    for name, kinds in typed.items():
        if "string" in avro[name]:  # a type may be narrower than a string of the schema
            typed[name] = {"string" if isinstance(kind, tuple) and kind[0] == "enum" else kind for kind in kinds}
    assert typed == avro
    if struct in (Activity, Response, SubscoreDefinition, Tag):
        defaults = defaults_of(struct)
        defaults.pop("statement", None)
        assert defaults == {field["name"]: field["default"] for field in schema["fields"] if "default" in field}


@pytest.mark.parametrize("name", ["session_activity", "reject", "receipt", "dead_letter", "event", "status", "score"])
def test_every_schema_parses_and_says_what_it_is(name: str) -> None:
    assert fastavro.parse_schema(avro_schema(name))
    assert avro_schema(name)["doc"]


TEXT = st.text(max_size=5)
ID = st.text(min_size=1, max_size=5)
NUMBER = st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False)
TAG = st.builds(Tag, type=TEXT, name=TEXT)
ACTIVITY = st.builds(
    Activity,
    record_id=ID,
    user_id=ID,
    session_id=ID,
    activity_id=ID,
    action=st.sampled_from([action for action in get_args(InputAction) if action != "SET_STATUS"]),
    occurred_at=st.integers(946_684_800_000, 4_133_980_799_999),
    organisation=st.none() | TEXT,
    lrs_id=st.none() | TEXT,
    state=st.sampled_from(["initial", "resume", "review", "preview"]),
    seq=st.none() | st.integers(-(2**63), 2**63 - 1),
    session_duration=st.none() | NUMBER,
    num_questions=st.none() | NUMBER,
    status=st.sampled_from([None, "Incomplete", "Completed", "Discarded", "PendingScoring"]),
    pending_scoring=st.booleans(),
    responses=st.lists(
        st.builds(
            Response,
            response_id=TEXT,
            item_reference=TEXT,
            attempted=st.none() | st.booleans(),
            automarkable=st.none() | st.booleans(),
            score=st.none() | NUMBER,
            max_score=st.none() | NUMBER,
            revision=st.none() | st.integers(-(2**63), 2**63 - 1),
        ),
        max_size=2,
    ),
    subscores=st.lists(
        st.builds(
            SubscoreDefinition,
            id=TEXT,
            title=TEXT,
            items=st.none() | st.lists(TEXT, max_size=2),
            tags=st.none() | st.lists(TAG, max_size=2),
        ),
        max_size=2,
    ),
    item_tags=st.dictionaries(TEXT, st.lists(TAG, max_size=2), max_size=2),
    metadata=st.dictionaries(TEXT, st.none() | TEXT | st.booleans() | NUMBER, max_size=3),
)


@given(ACTIVITY)
def test_any_activity_goes_through_json_and_avro(activity: Activity) -> None:
    decoder = ActivityDecoder()
    assert decoder.decode(msgspec.json.encode(activity)) == activity
    file = io.BytesIO()
    fastavro.writer(file, fastavro.parse_schema(avro_schema("session_activity")), [msgspec.to_builtins(activity)])
    (block,) = avro_rows(iter([file.getvalue()]))
    assert isinstance(block, Block)
    (row,) = block.items
    assert canonical(decoder.decode_row(row)) == canonical(activity)
    assert decoder.decode(canonical(activity)) == activity
