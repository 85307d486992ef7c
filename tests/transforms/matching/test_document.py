"""The table of what a query document holds, beside the documents that are built."""

from datetime import datetime
from typing import Any

from hypothesis import example, given

from schemas import Activity
from schemas.query_document import QUERY_FIELDS, QUERY_NAMES, Shape
from tests.support.activity import documented_session
from tests.support.paths import ROOT
from tests.transforms.sessions.strategies import ACTIVITY_OF_ONE_USER
from transforms.matching.document import query_document
from transforms.matching.statement import StatementBuilder
from transforms.sessions.derivation import Derivation

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


def documents() -> list[dict[str, Any]]:
    build = StatementBuilder().statement
    return [query_document(record, build(record)) for record in Derivation().user(documented_session())]


def test_the_documents_of_all_kinds_hold_the_names_of_the_table_and_no_other() -> None:
    assert {document["kind"] for document in documents()} == {"event", "status", "score"}
    assert {name for document in documents() for name in document} == QUERY_NAMES


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


def test_the_specification_lists_every_name() -> None:
    table = SPEC.read_text().partition("\n## 4.")[2]
    assert [field.name for field in QUERY_FIELDS if f"`{field.name}`" not in table] == []
