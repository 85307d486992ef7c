"""Matching alone, on the pure core: records derived before the clock starts."""

import json
from itertools import islice
from pathlib import Path
from typing import Any

from benchmarks.floor import lines_by_user, records_by_user
from benchmarks.workload import many_forwarders
from schemas import Record
from transforms.forwarders import Forwarder, Rules, load_forwarders, read_documents
from transforms.forwarders.secrets import References
from transforms.matching.document import query_document
from transforms.matching.statement import StatementBuilder
from transforms.query import ForwarderIndex, compile_query

MOST_RECORDS = 20_000

Matching = tuple[ForwarderIndex[Forwarder], StatementBuilder]


def prepare_matching(path: Path, count: int) -> tuple[list[Record], Matching]:
    """Records, and the index of `count` forwarders, warm: each query was compiled and seen a few records."""
    rules = Rules(compile_query, References("FORWARDER_", None), True, False)
    documents = read_documents({"forwarders.json": json.dumps(many_forwarders(count)).encode()})
    matching = ForwarderIndex(load_forwarders(documents, rules).forwarders), StatementBuilder()
    users = records_by_user(lines_by_user(path))
    records = list(islice((record for mine in users for record in mine), MOST_RECORDS))
    match(records[:500], matching)
    return records, matching


def match(records: list[Record], matching: Matching) -> dict[str, Any]:
    index, statements = matching
    hits = 0
    for record in records:
        hits += len(index.matching(query_document(record, statements.statement(record))))
    return {"count": len(records), "hits": hits}
