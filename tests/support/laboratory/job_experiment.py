"""The whole job in the fault laboratory: started and killed as a process, and judged by its receivers' own logs.

The job's word (receipts, report) is held against what the receivers wrote down. A duplicate is explained by an answer
that left the sender in doubt, or by a kill: then the record was sent by the run that was killed, and that run left no
receipt of it.
"""

import contextlib
import json
import os
import re
import signal
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

from schemas import KINDS, Activity
from tests.support.activity import activity, response
from tests.support.forked import Forked, start_job
from tests.support.laboratory.aws_fake import AMBIGUOUS, Stream
from tests.support.laboratory.batch_receiver import BatchReceiver
from tests.support.laboratory.checker import End, Findings, check_ends
from tests.support.laboratory.http_fault_server import Arrival
from tests.support.receiver import Receiver
from tests.support.waiting import until
from tests.support.workshop import Workshop

_RUN_ID = re.compile(r"r[0-9]+-[0-9TZ]+-[0-9a-f]+(?:-replay)?")
NO_ANSWER = frozenset({"reset", "close", "half_close", "cut_headers", "reset_headers", "garbage"})
"""Faults of the HTTP server that leave the sender in doubt about the request."""


# --- what is sent ----------------------------------------------------------------------------------------------------


def activities(users: int, sessions: int) -> list[Activity]:
    """`sessions` sessions of each of `users` users, one after the other: four records each."""
    found: list[Activity] = []
    for number in range(users):
        for session in range(sessions):
            of_session: dict[str, Any] = {"user_id": f"u{number}", "session_id": f"u{number}-s{session}"}
            for action, at in (("START", 0), ("RESPOND", 60), ("SUBMIT", 120)):
                given = {"responses": [response("q", 1, 2)]} if action == "RESPOND" else {}
                when = session * 300 + at
                name = f"u{number}-{action}-{when}"
                found.append(activity(action, when, record_id=name, **of_session, **given))
    return found


def due(workshop: Workshop) -> list[tuple[str, str]]:
    """(user, id) of every record that the input gives, in the order each user's records are to leave.

    By a dry run, and sorted by the rule of docs/spec/records.md section 2: the order is not the sending side's own.
    """
    assert workshop.run("--dry_run", "--write_records=jsonl") == 0
    records = [record for kind in KINDS for record in workshop.records(kind)]
    records.sort(key=lambda of: (of["timestamp"], of["place"], of["session_id"], KINDS.index(of["kind"]), of["id"]))
    return [(record["user_id"], record["id"]) for record in records]


# --- what arrived ----------------------------------------------------------------------------------------------------


class Log(Protocol):
    """What one forwarder's receiver wrote down."""

    def __len__(self) -> int: ...
    def ids(self, start: int = 0, end: int | None = None) -> list[str]: ...
    def stored(self) -> list[str]: ...
    def accepted(self, start: int, end: int) -> set[str]: ...
    def doubtful(self) -> set[str]: ...
    def faults(self) -> int: ...


@dataclass
class HttpLog:
    """The requests to one path of an HTTP fault server."""

    receiver: Receiver
    path: str

    def arrivals(self) -> list[Arrival]:
        return [arrival for arrival in list(self.receiver.log) if arrival.request_line.split()[1] == f"/{self.path}"]

    def __len__(self) -> int:
        return len(self.arrivals())

    def ids(self, start: int = 0, end: int | None = None) -> list[str]:
        """Of every request, stored or not, in the order they came."""
        return [arrival.key for arrival in self.arrivals()[start:end]]

    def stored(self) -> list[str]:
        return [arrival.key for arrival in self.arrivals() if arrival.stored]

    def accepted(self, start: int, end: int) -> set[str]:
        """Ids whose last request among those was not refused: the sender may have died before it knew."""
        last = {arrival.key: arrival for arrival in self.arrivals()[start:end]}
        return {id_ for id_, arrival in last.items() if arrival.stored or arrival.answer.fault in NO_ANSWER}

    def doubtful(self) -> set[str]:
        """Ids whose sender could not know whether they were stored.

        A connection that is cut instead of an answer is in doubt twice: if it had served before, the sink sends again
        at once.
        """
        return {
            arrival.key
            for arrival in self.arrivals()
            if arrival.answer.fault in NO_ANSWER or arrival.answer.status in (502, 504)
        }

    def faults(self) -> int:
        return sum(
            arrival.answer.fault not in ("none", "late") or arrival.answer.status >= 300 for arrival in self.arrivals()
        )


@dataclass
class BatchLog:
    """The requests to a receiver of batches. Its places are those of requests, its ids those of records."""

    receiver: BatchReceiver

    def __len__(self) -> int:
        return len(self.receiver.calls)

    def ids(self, start: int = 0, end: int | None = None) -> list[str]:
        return [id_ for call in self.receiver.calls[start:end] for id_ in call]

    def stored(self) -> list[str]:
        return list(self.receiver.stored)

    def accepted(self, start: int, end: int) -> set[str]:
        calls, refused = self.receiver.calls[start:end], self.receiver.refused[start:end]
        last = {id_: is_refused for call, is_refused in zip(calls, refused, strict=True) for id_ in call}
        return {id_ for id_, is_refused in last.items() if not is_refused}

    def doubtful(self) -> set[str]:
        return set(self.receiver.doubtful)

    def faults(self) -> int:
        return sum(self.receiver.refused)


def statement_id(data: bytes) -> str:
    found: str = json.loads(data)["id"]
    return found


@dataclass
class StreamLog:
    """What lies in one stream or delivery stream of the AWS fake."""

    stream: Stream
    id_of: Callable[[bytes], str] = statement_id

    def __len__(self) -> int:
        return len(self.stream.stored)

    def ids(self, start: int = 0, end: int | None = None) -> list[str]:
        return [self.id_of(stored.data) for stored in self.stream.stored[start:end]]

    def stored(self) -> list[str]:
        return self.ids()

    def accepted(self, start: int, end: int) -> set[str]:
        return set(self.ids(start, end))

    def doubtful(self) -> set[str]:
        told = list(self.stream.told.items())
        return {self.id_of(data) for data, words in told if any(word in AMBIGUOUS for word in words)}

    def faults(self) -> int:
        return sum(word != "stored" for words in list(self.stream.told.values()) for word in words)


# --- runs ------------------------------------------------------------------------------------------------------------


@dataclass
class Start:
    """One start of the job: where each log stood, and the run's id if it got as far as a journal."""

    at: dict[str, int]
    run_id: str | None = None
    killed: bool = False


class Killed(NamedTuple):
    """Ids at a kill. under_way: sent and not settled; in_flight: of these, not those that wait for their retry."""

    under_way: set[str]
    in_flight: set[str]


class Server(Protocol):
    """What a receiver listens with."""

    @property
    def port(self) -> int: ...

    @property
    def open_connections(self) -> int: ...


def await_silence(server: Server, seconds: float = 15.0) -> None:
    """Until the server has read, to their ends, all connections that were made to it."""
    # Connections are accepted in the order they are made: when this one has its end, all before it are accepted.
    with socket.create_connection(("127.0.0.1", server.port), seconds) as last:
        last.shutdown(socket.SHUT_WR)
        while last.recv(1024):
            pass
    until(lambda: not server.open_connections, seconds, failing=lambda: f"{server.open_connections} are still open")


@dataclass
class Experiment:
    """The job, started as often as need be on one output, and the logs of its receivers by forwarder id.

    servers: those whose logs tell what a killed run sent; it may still lie in their sockets when the run is gone.
    """

    workshop: Workshop
    logs: dict[str, Log]
    arguments: tuple[str, ...] = ()
    servers: tuple[Server, ...] = ()
    starts: list[Start] = field(default_factory=list)
    told: str = ""
    _job: Forked | None = None

    def arrived(self) -> int:
        return sum(len(log) for log in self.logs.values())

    @contextmanager
    def process(self) -> Iterator[Forked]:
        """The job in a process of its own, the leader of its group; killed when the context ends, if it still runs."""
        known = self._run_ids()
        begun = Start({name: len(log) for name, log in self.logs.items()})
        self.starts.append(begun)
        arguments = self.workshop.arguments("--input", str(self.workshop.path / "in" / "*"), *self.arguments)
        job = start_job(arguments, self.workshop.path / f"told-{len(self.starts)}")
        try:
            self._job = job
            yield job
        finally:
            begun.killed = job.poll() is None
            job.kill()
            job.wait()
            _await_end_of_group(job.pid)
            for server in self.servers:
                await_silence(server)
            self.told = job.printed()
            new = self._run_ids() - known
            assert len(new) <= 1
            begun.run_id = next(iter(new), None)

    def signal(self, number: signal.Signals) -> None:
        """To every process of the job, as a terminal or a supervisor does it."""
        assert self._job is not None
        os.killpg(self._job.pid, number)

    def wait_until_stopping(self, seconds: float = 30.0) -> None:
        """Until the job says that it takes no more records."""
        assert self._job is not None
        self._job.wait_for_text("taking no more records", seconds)

    def run(self, seconds: float = 120.0) -> int:
        """Start it and let it come to its end; gives the exit status."""
        with self.process() as job:
            return job.wait(seconds)

    def _run_ids(self) -> set[str]:
        """Of the runs that have receipts: `r000003-20261122T132603Z-476e3f-000001-host-13384-6ed1fa-000000.avro`."""
        receipts = self.workshop.output / "receipts"
        names = os.listdir(receipts) if receipts.exists() else []  # noqa: PTH208 - names only
        return {found[0] for name in names if (found := _RUN_ID.match(name))}

    def killed_under_way(self, name: str) -> list[Killed]:
        """For each run that was killed, what the forwarder's receiver saw of it, and it left no receipt of.

        What its sockets still held arrived after it was gone, but before the next start: see `servers`.
        """
        receipts, log = self._receipts(name), self.logs[name]
        found = []
        ends = [following.at[name] for following in self.starts[1:]] + [len(log)]
        for start, end in zip(self.starts, ends[: len(self.starts)], strict=True):
            if start.killed:
                settled = {row["id"] for row in receipts if row["run_id"] == start.run_id}
                first = start.at[name]
                found.append(Killed(set(log.ids(first, end)) - settled, log.accepted(first, end) - settled))
        return found

    def _receipts(self, name: str) -> list[dict[str, Any]]:
        rows = [row for row in self.workshop.avro("receipts") if row["forwarder_id"] == name]
        return sorted(rows, key=lambda row: row["settled_at"])

    def judge(self, name: str, records: Sequence[tuple[str, str]]) -> Findings:
        """One forwarder's findings; raises AssertionError when the job's books and the receiver's do not agree."""
        log, receipts = self.logs[name], self._receipts(name)
        users = {id_: user for user, id_ in records}
        doubtful = log.doubtful()
        for killed in self.killed_under_way(name):
            busy = Counter(users[id_] for id_ in killed.under_way)
            most = 1 if not isinstance(log, BatchLog) else len(records)
            assert max(busy.values(), default=0) <= most, "two records of a user were under way at a kill"
            doubtful |= killed.in_flight
        times = Counter(row["id"] for row in receipts if row["outcome"] == "delivered")
        assert max(times.values(), default=0) <= 1, "sent again though a receipt said that it was delivered"
        latest = {row["id"]: row for row in receipts}
        ends = [
            End(id_, row["outcome"] == "delivered", bool(row["ambiguous"]) or id_ in doubtful)
            for id_, row in latest.items()
        ]
        findings = check_ends(records, log.stored(), ends, dict.fromkeys(doubtful, True))
        self._compare_books(name, records, set(log.stored()), latest)
        return findings

    def _compare_books(
        self, name: str, records: Sequence[tuple[str, str]], stored: set[str], latest: dict[str, dict[str, Any]]
    ) -> None:
        """The report of the last run, if it came to its end, with the receipts and with the sink's own count."""
        if self.starts and self.starts[-1].killed:
            return
        account = self.workshop.account(name)
        delivered = {id_ for id_, row in latest.items() if row["outcome"] == "delivered"}
        assert self.workshop.report()["balanced"] is True
        assert account["matched"] == len(records)
        assert account["delivered"] + account["already_delivered"] == len(delivered)
        assert account["dead_lettered"] == len(latest) - len(delivered)
        in_doubt = {id_ for id_, row in latest.items() if row["ambiguous"]} | self.logs[name].doubtful()
        assert delivered <= stored <= delivered | in_doubt


def _await_end_of_group(group: int, seconds: float = 15.0) -> None:
    """Worker processes outlive a launcher that was killed by a moment; what they send belongs to its run."""
    deadline = time.monotonic() + seconds
    with contextlib.suppress(ProcessLookupError):
        while time.monotonic() < deadline:
            os.killpg(group, 0)
            time.sleep(0.01)


# --- what came of it -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Figures:
    """One line of the laboratory's table. All are counts of records but `faults`: attempts that met one.

    `duplicated` are those that arrived more than once, each explained by the log unless `findings` say otherwise;
    `dead` ended in the dead letters; `exempt` were given up after an ambiguous attempt, and may arrive out of order.
    """

    scenario: str
    forwarder: str
    records: int
    faults: int
    lost: int
    inverted: int
    duplicated: int
    unexplained: int
    exempt: int
    dead: int
    note: str = ""

    @classmethod
    def of(
        cls,
        scenario: str,
        forwarder: str,
        records: int,
        faults: int,
        findings: Findings,
        dead: int = 0,
        note: str = "",
    ) -> "Figures":
        return cls(
            scenario,
            forwarder,
            records,
            faults,
            len(findings.lost) + len(findings.never_settled),
            len(findings.inverted),
            len(findings.duplicated),
            len(findings.unexplained) + len(findings.settled_twice) + len(findings.unknown),
            len(findings.exempt),
            dead,
            note,
        )


def assert_clean(figures: Iterable[Figures]) -> None:
    for line in figures:
        assert (line.lost, line.inverted, line.unexplained) == (0, 0, 0), line
