"""The table of what a query document holds, beside the documents that are built."""

from datetime import datetime
from typing import Any

from hypothesis import example, given

from schemas import Activity
from schemas.query_document import DERIVED_SHAPES, QUERY_FIELDS, STATEMENT_FIELDS, Shape, names_of
from tests.support.activity import documented_session
from tests.support.paths import ROOT
from tests.support.statements import statement, text
from tests.transforms.sessions.strategies import ACTIVITY_OF_ONE_USER
from transforms.matching.document import query_document
from transforms.matching.statement import StatementBuilder
from transforms.query.values import ObjectId
from transforms.reading.originals import OriginalDecoder
from transforms.sessions.derivation import Derivation
from transforms.statements.passage import record_of

TYPES: dict[str, type | tuple[type, ...]] = {
    "id": str,
    "string": str,
    "date": datetime,
    "number": (int, float),
    "object": dict,
    "map": dict,
    "boolean": bool,
    "array": list,
}
SPEC = ROOT / "docs/spec/records.md"
STATEMENTS_SPEC = ROOT / "docs/spec/statements.md"


def documents() -> list[dict[str, Any]]:
    build = StatementBuilder().statement
    return [query_document(record, build(record)) for record in Derivation().user(documented_session())]


def test_the_documents_of_all_kinds_hold_the_names_of_the_table_and_no_other() -> None:
    assert {document["kind"] for document in documents()} == {"event", "status", "score"}
    assert {name for document in documents() for name in document} == names_of(DERIVED_SHAPES)


def shape_of(document: dict[str, Any]) -> Shape:
    shape: Shape = document.get("event", document["kind"])
    return shape


def values_at(value: Any, names: list[str]) -> list[Any]:
    """What stands at the end of a path, in each item of an array on the way; nothing where a name is not there."""
    if not names:
        return [value]
    if isinstance(value, list):
        return [found for item in value for found in values_at(item, names)]
    return values_at(value[names[0]], names[1:]) if isinstance(value, dict) and names[0] in value else []


def paths_in(value: Any, above: str = "") -> set[str]:
    """The dotted paths of a document, down to what may hold any name."""
    field = next((field for field in QUERY_FIELDS if field.name == above), None)
    if field is not None and field.type == "map":
        return {above}
    inside: set[str] = set()
    if isinstance(value, dict):
        inside = {path for name in value for path in paths_in(value[name], f"{above}.{name}".lstrip("."))}
    elif isinstance(value, list):
        inside = {path for item in value if isinstance(item, dict) for path in paths_in(item, above)}
    return inside | {above} if above else inside


@given(ACTIVITY_OF_ONE_USER)
@example(documented_session())
def test_whatever_a_document_holds_is_in_the_table_as_it_is_there(activities: list[Activity]) -> None:
    build = StatementBuilder().statement
    for record in Derivation().user(activities):
        document = query_document(record, build(record))
        shape = shape_of(document)
        assert paths_in(document) <= {field.name for field in QUERY_FIELDS if shape in field.shapes}
        for field in QUERY_FIELDS:
            found = values_at(document, field.name.split("."))
            if shape not in field.shapes:
                assert not found, field.name
                continue
            assert found or field.sometimes, field.name
            allowed = field.values.get(shape)
            for value in found:
                assert value is not None or field.nullable, field.name
                assert value is None or isinstance(value, TYPES[field.type]), field.name
                assert allowed is None or value in allowed, field.name


LEARNING_LOCKERS = (
    '{"_id":{"$oid":"5f5f5f5f5f5f5f5f5f5f5f5f"},"active":true,"createdAt":{"$date":"2026-03-01T09:00:00Z"},'
    '"person":{"_id":{"$oid":"5b5b5b5b5b5b5b5b5b5b5b5b"}},"a&46;b":{"$numberLong":"7"},"bin":{"$binary":"AA==","$type":"0"},'
    '"statement":%s}'
)


def test_the_document_of_a_statement_is_as_its_table_says() -> None:
    of_table = {field.name: field for field in STATEMENT_FIELDS}
    sent = text(statement(stored="2026-03-01T10:00:00Z"))
    for read in (sent, LEARNING_LOCKERS % sent):
        record = record_of(*OriginalDecoder().read(read.encode()))
        document = query_document(record, StatementBuilder().statement(record))
        for name, field in of_table.items():
            found = values_at(document, name.split("."))
            assert found or field.sometimes, name
            for value in found:
                assert field.type == "any" or (value is None and field.nullable) or isinstance(value, TYPES[field.type])
                assert not field.values or value in field.values["statement"]
    assert document["person"]["_id"] == ObjectId("5b" * 12)
    assert document["a.b"] == 7
    assert document["bin"] == {"$binary": "AA==", "$type": "0"}
    assert document["_id"] == statement()["id"]


def test_the_specification_of_statements_lists_what_every_one_of_them_has() -> None:
    table = STATEMENTS_SPEC.read_text().partition("\n## 2.")[2]
    names = [field.name for field in STATEMENT_FIELDS if field.type != "any" and field.name != "updatedAt"]
    assert [name for name in names if f"`{name}`" not in table] == []


def test_the_specification_lists_every_name() -> None:
    table = SPEC.read_text().partition("\n## 4.")[2]
    assert [field.name for field in QUERY_FIELDS if f"`{field.name}`" not in table] == []
