"""The table of what a query document holds, beside the documents that are built."""

from datetime import datetime
from typing import Any

import pytest

from schemas.query_document import QUERY_FIELDS, QUERY_NAMES, QueryField
from tests.support.activity import documented_session
from tests.support.paths import ROOT
from transforms.matching.document import query_document
from transforms.matching.statement import StatementBuilder
from transforms.sessions.derivation import Derivation

TYPES: dict[str, type | tuple[type, ...]] = {
    "id": str,
    "string": str,
    "date": datetime,
    "number": (int, float),
    "object": dict,
    "array": list,
}
SPEC = ROOT / "docs/spec/records.md"


def documents() -> list[dict[str, Any]]:
    build = StatementBuilder().statement
    return [query_document(record, build(record)) for record in Derivation().user(documented_session())]


def test_the_documents_of_all_kinds_hold_the_names_of_the_table_and_no_other() -> None:
    assert {document["kind"] for document in documents()} == {"event", "status", "score"}
    assert {name for document in documents() for name in document} == QUERY_NAMES


@pytest.mark.parametrize("field", QUERY_FIELDS, ids=lambda field: field.name)
def test_a_value_is_of_the_type_that_the_table_says(field: QueryField) -> None:
    values = []
    for document in documents():
        value: Any = document
        for name in field.name.split("."):
            value = value.get(name)
        values.append(value)
    assert all(value is None or isinstance(value, TYPES[field.type]) for value in values)
    assert any(value is not None for value in values) or field.name in ("organisation", "lrs_id")


def test_the_specification_lists_every_name() -> None:
    table = SPEC.read_text().partition("\n## 4.")[2]
    assert [field.name for field in QUERY_FIELDS if f"`{field.name}`" not in table] == []
