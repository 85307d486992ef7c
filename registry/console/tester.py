"""The tester of queries, `/api/console/tester`: for the page, and for whoever builds one."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Depends, HTTPException

from registry import query_builder
from registry.access import Client, Reach
from registry.documents import read_object
from registry.matching import RecordError
from registry.openapi import answered, ref, request_body
from registry.query_builder import OPERATORS, RowError, Rows
from registry.query_tests import Asked, CheckedQuery, QueryTests, Tally, query_fields, readable, sample_records, told
from registry.recent_records import KnownRecords
from registry.sample_delivery import BusyError
from registry.web import Answer, BodyDep, ClientDep, Registry, RegistryDep, faults_of
from schemas import KINDS, Record
from schemas.json_values import JsonObject
from schemas.times import rfc3339
from transforms.query import QueryError
from transforms.query.clauses import JudgedClause
from transforms.query.parse import read_source

PATH = "/api/console/tester"

router = APIRouter(prefix=PATH, tags=["tester"])

_SHOWN_OF_A_KIND = 8
"""Recent records of one kind that are offered, the last ones."""

_COUNTS_AT_ONCE = 2
_counting = threading.BoundedSemaphore(_COUNTS_AT_ONCE)
"""Counts that are under way. Each computes for seconds, if a pattern costs much."""


class _Request(msgspec.Struct, forbid_unknown_fields=True):
    """What is tried: a query as JSON, or as rows of the form; for whom; and on which record."""

    query: Any = None
    form: Rows | None = None
    kinds: Any = None
    lrs_id: Any = None
    record: str | None = None


def _request(registry: RegistryDep, client: ClientDep, body: BodyDep) -> _Request:
    # Whoever may see nothing is told so.
    registry.service.visible(client)
    content, _ = read_object(body)
    try:
        return msgspec.convert(content, _Request)
    except msgspec.ValidationError as error:
        raise HTTPException(422, f"the body is none that the tester takes: {error}") from None


RequestDep = Annotated[_Request, Depends(_request)]


async def _known(registry: RegistryDep, client: ClientDep) -> KnownRecords:
    """The records of the job's output. Who sees a part of its organisation's forwarders alone sees none of them."""
    if registry.recent is None or client.view is not Reach.ORGANISATION:
        return KnownRecords()
    return await registry.recent.refreshed()


KnownDep = Annotated[KnownRecords, Depends(_known)]


@router.get(
    "", summary="What a query may ask for, and records to try it on", responses=answered(ref("TesterSetup"), "All")
)
def tester_setup(registry: RegistryDep, client: ClientDep) -> Answer:
    registry.service.visible(client)
    samples = [sample._asdict() for sample in sample_records(client.organisation)]
    return Answer({"fields": query_fields(), "operators": OPERATORS, "samples": samples})


@router.get(
    "/records",
    summary="Recent records of the job to try a query on",
    responses=answered(ref("TesterRecords"), "The newest"),
)
def tester_records(registry: RegistryDep, client: ClientDep, known: KnownDep) -> Answer:
    registry.service.visible(client)
    of_kind = {kind: [record for record in _of(known, client) if record.kind == kind] for kind in KINDS}
    shown = [
        {"name": told(record), "kind": record.kind, "text": readable(record)}
        for records in of_kind.values()
        for record in sorted(records, key=lambda record: record.timestamp, reverse=True)[:_SHOWN_OF_A_KIND]
    ]
    return Answer({"source": known.source, "message": _source_told(registry, client, known), "records": shown})


@router.post(
    "",
    summary="What a query says of a record, clause by clause",
    responses=answered(ref("TesterResult"), "What is wrong with the query, what it says, and its rows"),
    openapi_extra=request_body(ref("TesterRequest")),
)
def try_query(registry: RegistryDep, client: ClientDep, request: RequestDep) -> Answer:
    """`query` is tried, or `form` if that is given. The answer has both, `form` where rows can say the query."""
    tests = registry.query_tests
    answer: JsonObject = {"query": request.query, "form": None, "faults": [], "warnings": [], "record": None}
    try:
        query = _query(request)
    except RowError as error:
        answer["faults"] = [{"field": f"form.rows.{error.place}", "message": str(error)}]
        return Answer(answer)
    answer["query"] = query
    checked = tests.check(Asked(query, request.kinds, request.lrs_id), client.organisation)
    answer["faults"], answer["warnings"] = faults_of(checked.faults), faults_of(checked.warnings)
    answer["form"] = _form_of(request, query)
    if request.record is not None:
        answer["record"] = _judged(tests, checked, request.record, client)
    return Answer(answer)


@router.post(
    "/count",
    summary="How many of the job's recent records a query matches",
    responses=answered(ref("TesterCount"), "Of those that were looked at"),
    openapi_extra=request_body(ref("TesterRequest")),
)
def count_matches(registry: RegistryDep, client: ClientDep, request: RequestDep, known: KnownDep) -> Answer:
    """What is counted is what the output has kept: all of the last run with `--write_records`, else dead letters."""
    try:
        asked = Asked(_query(request), request.kinds, request.lrs_id)
    except RowError as error:
        raise HTTPException(422, str(error)) from None
    checked = registry.query_tests.check(asked, client.organisation)
    if checked.forwarder is None or checked.query is None:
        raise HTTPException(422, "; ".join(f"{fault.field} {fault.message}" for fault in checked.faults))
    with _one_count():
        tally = registry.query_tests.count(checked.query, checked.forwarder, _of(known, client))
    kinds = [{"kind": kind, "looked_at": tally.looked_at[kind], "matched": tally.matched[kind]} for kind in KINDS]
    return Answer(
        {
            "source": known.source,
            "message": _count_told(registry, client, known, tally),
            "looked_at": tally.looked_at.total(),
            "matched": tally.matched.total(),
            "is_complete": tally.is_complete and not known.left_out,
            "kinds": [kind for kind in kinds if kind["looked_at"]],
        }
    )


@contextmanager
def _one_count() -> Iterator[None]:
    if not _counting.acquire(blocking=False):
        raise BusyError(f"{_COUNTS_AT_ONCE} counts are under way: wait for one of them")
    try:
        yield
    finally:
        _counting.release()


def _query(request: _Request) -> Any:
    """The query that is asked about. Raises RowError."""
    if request.form is None:
        return request.query
    return json.dumps(query_builder.written(request.form), ensure_ascii=False)


def _form_of(request: _Request, query: Any) -> JsonObject | None:
    """The rows of a query: those that it was written of, or those that say it; None if none do."""
    if request.form is not None:
        form: Rows | None = request.form
    else:
        try:
            form = query_builder.read(read_source(query))
        except QueryError:
            return None
    return None if form is None else msgspec.to_builtins(form)


def _judged(tests: QueryTests, checked: CheckedQuery, text: str, client: Client) -> JsonObject:
    """What the query says of a record, or what is wrong with the record."""
    judged: JsonObject = {"problem": None, "kind": None, "matches": None, "reason": None, "clauses": None}
    try:
        record = tests.read_record(text, client.organisation)
    except RecordError as error:
        return {**judged, "problem": f"the record {error}"}
    judged["kind"] = record.kind
    if checked.forwarder is None or checked.query is None:
        return judged
    decision, clauses = tests.judge(checked.query, checked.forwarder, record)
    told_clauses = None if clauses is None else _shown(clauses)
    return {**judged, "matches": decision.is_due, "reason": decision.reason, "clauses": told_clauses}


def _shown(clause: JudgedClause) -> JsonObject:
    return {
        "text": clause.text,
        "outcome": clause.outcome.value,
        "decides": clause.decides,
        "found": clause.found,
        "children": [_shown(child) for child in clause.children],
    }


def _of(known: KnownRecords, client: Client) -> tuple[Record, ...]:
    return known.records.get(client.organisation, ())


def _source_told(registry: Registry, client: Client, known: KnownRecords) -> str:
    """What the known records are, in a sentence for people."""
    if client.view is not Reach.ORGANISATION:
        return "Recent records are shown to clients that may see all forwarders of their organisation."
    if registry.recent is None:
        return "The service knows no records: start it with --deliveries OUTPUT."
    if known.source is None:
        return "The job's output holds no records: run the job with --write_records to have those of its last run here."
    at = f" of {rfc3339(int(known.modified * 1000))[:16].replace('T', ' ')} UTC" if known.modified else ""
    if known.source == "records":
        return f"Records of the last run{at} (--write_records)" + (
            ", the first of them: there are more than are looked at." if known.left_out else ", all of them."
        )
    return (
        f"Dead letters up to those{at}: records that some forwarder was due and did not get, the newest ones. What was "
        "delivered is not among them: run the job with --write_records to have all records of its last run here."
    )


def _count_told(registry: Registry, client: Client, known: KnownRecords, tally: Tally) -> str:
    cut = "" if tally.is_complete else f" The query takes long: the first {tally.looked_at.total():,} were looked at."
    return _source_told(registry, client, known) + cut
