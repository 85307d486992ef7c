"""Learning Locker replaced in place: the job on its database, and whether what arrived is what was due.

The database is FerretDB, which speaks MongoDB's protocol. The job reads both of Learning Locker's collections there,
the statements and the forwarders.
"""

import base64
import json
import os
import shlex
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pymongo import MongoClient
from pymongo.collection import Collection
from pymongo.errors import PyMongoError

from local.check import Arrival, Finding, compare, count_receipts, faults_met, verdict
from local.examples import Json
from local.ferretdb import FerretDBError, build, ferretdb
from local.process import ROOT, run_child
from local.receiver import Attempt, FaultPlan, InjectedFault, Receiver
from local.statements import FORWARDERS, LockerForwarder, content, database_query, documents, due_to, in_batches

DATABASE = "learninglocker_v2"
DOWN = "answers"
"""The path of the receiver that is down at first."""

DOWN_FOR = 15
"""Requests that this receiver answers with 503 before it is back.

Ten in a row are an outage, after which records wait. A record has eleven attempts, and one may be tried again and again
to see whether the receiver is back: with more requests it could be given up.
"""

_BATCH = 1_000

COUNTED = 2_000
"""Documents of which the database itself counts what is due: FerretDB looks at every one, for each forwarder."""

_SLOW_ANSWER_MS = 600_000
"""How long FerretDB may take to answer: it sorts all of a collection in memory, which MongoDB does not."""


class LockerError(Exception):
    """The run cannot go on. The text says what to do."""


@dataclass(frozen=True, slots=True)
class DownAtFirst(FaultPlan):
    """Failures as usual; and the path DOWN takes nothing until it was asked DOWN_FOR times."""

    def fault(self, path: str, key: str, attempt: int, request: int = 0) -> InjectedFault | None:
        if path == f"/{DOWN}" and request < DOWN_FOR:
            return InjectedFault.UNAVAILABLE
        return FaultPlan.fault(self, path, key, attempt, request)


def run(place: Path, statements: int, seed: int) -> int:
    """One run inside the empty directory `place`.

    Args:
        place: the directory.
        statements: how many the database has.
        seed: of the statements, and of the receiver's failures.

    Returns:
        The exit status: 0 when the job succeeded, and what arrived is what was due.

    Raises:
        LockerError: there is no database, or the job failed.
    """
    try:
        build()
        data = place / "ferretdb"
        data.mkdir()
        with ferretdb(data) as address, Receiver(_authorization(), DownAtFirst(seed)) as receiver:
            return _run(place, address, receiver, documents(statements, seed))
    except FerretDBError as error:
        raise LockerError(str(error)) from error
    except PyMongoError as error:
        raise LockerError(f"the database failed: {error}") from error


def _run(place: Path, address: str, receiver: Receiver, made: list[Json]) -> int:
    with MongoClient[Json](address, tz_aware=True) as client:
        database = client[DATABASE]
        print(
            f"Database: {address}/{DATABASE}, with {len(made):,} statements and {len(FORWARDERS)} forwarders",
            flush=True,
        )
        for batch in in_batches(made, _BATCH):
            database["statements"].insert_many(list(batch))
        database["counted"].insert_many(made[:COUNTED])
        database["statementForwarding"].insert_many([each.document(receiver.http) for each in FORWARDERS])
        print(f"HTTP: a receiver at http://{receiver.http}, which fails now and then; /{DOWN} is down at first")
        status = _run_job(place, f"{address}/{DATABASE}")
        if status not in (0, 3):
            raise LockerError(f"the job ended with status {status}; what it printed above says why")
        receipts = count_receipts(place / "out" / "receipts")
        findings = []
        for forwarder in FORWARDERS:
            finding = check(forwarder, made, receiver.attempts(f"/{forwarder.name}"))
            finding.receipts = receipts[finding.id]
            count, due = count_in_database(database["counted"], forwarder), len(due_to(forwarder, made[:COUNTED]))
            if count != due:
                finding.remarks.append(
                    f"of {COUNTED:,} the database itself finds {count:,} that match, and not {due:,}"
                )
            finding.id = forwarder.name
            findings.append(finding)
    failures = faults_met(attempt for each in FORWARDERS for attempt in receiver.attempts(f"/{each.name}"))
    told = f"\nDue of {len(made):,} statements, and what the receiver has. "
    print(f"{told}Of the first {COUNTED:,} the database itself counts what is due, too:\n")
    return verdict(findings, failures, status, place / "out")


def check(forwarder: LockerForwarder, made: Sequence[Json], attempts: Sequence[Attempt]) -> Finding:
    """What a forwarder's path of the receiver has, held against what it was due of the documents `made`."""
    arrivals = [
        Arrival(_content(attempt), attempt.fault is InjectedFault.ANSWER_LOST) for attempt in attempts if attempt.taken
    ]
    finding = compare(forwarder.example(), due_to(forwarder, made), arrivals, ordered=True)
    refused = Counter(attempt.status for attempt in attempts if attempt.fault is None and not attempt.taken)
    finding.remarks += [f"{count} requests answered {status}" for status, count in refused.items()]
    return finding


def count_in_database(statements: "Collection[Json]", forwarder: LockerForwarder) -> int:
    """How many documents match a forwarder's query, as the database sees it."""
    return statements.count_documents(database_query(forwarder))


def _content(attempt: Attempt) -> str:
    try:
        statement = json.loads(attempt.body)
        return content(statement) if statement["id"] == attempt.key else "its key is not its id"
    except (ValueError, KeyError, TypeError) as error:
        return f"not a statement: {error!r}"


def _run_job(place: Path, database: str) -> int:
    """Runs the job on the database, as a user would; returns its exit status."""
    statements = f"{database}.statements?socketTimeoutMS={_SLOW_ANSWER_MS}"
    command = [sys.executable, "-m", "pipeline", "--input", statements, "--forwarders", database]
    command += [
        "--output",
        f"{os.path.relpath(place, ROOT)}/out",
        "--allow_network",
        "127.0.0.0/8",
        "--max_backoff",
        "2",
    ]
    print("Job:", shlex.join(["python", *command[1:]]), flush=True)
    return run_child(command, os.environ)


def _authorization() -> dict[str, str | None]:
    """For each path of the receiver, the Authorization header it asks for; None: it wants none."""
    return {f"/{each.name}": _header(each) for each in FORWARDERS}


def _header(forwarder: LockerForwarder) -> str | None:
    configuration = forwarder.configuration
    if configuration.get("authType") == "token":
        return f"Bearer {configuration['secret']}"
    if configuration.get("authType") == "basic auth":
        pair = f"{configuration['basicUsername']}:{configuration['basicPassword']}"
        return "Basic " + base64.b64encode(pair.encode()).decode()
    return None
