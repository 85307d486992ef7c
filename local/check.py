"""Whether what arrived is what was due.

Due is worked out from the records the job wrote (`--write_records jsonl`) and the examples' conditions in plain Python:
no receipt, no query engine and no payload encoder of the job has a say in it.
"""

import json
from collections import Counter, defaultdict, deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, pairwise
from pathlib import Path
from typing import Any, cast

import fastavro

from local.examples import Example, Json, Line, PayloadKind
from local.receiver import RETRY_AFTER, Attempt, InjectedFault
from local.stack import StreamRecord

_ENVELOPE = ("id", "kind", "organisation", "lrs_id", "timestamp", "record_id", "place", "metadata")
_KINDS = ("event", "status", "score")
_VERBS = {
    "session-started": "initialized",
    "session-resumed": "resumed",
    "session-completed": "completed",
    "status": "progressed",
    "score": "scored",
}
_VERB = "http://adlnet.gov/expapi/verbs/"
# Timers may fire a little before their time.
_TOO_EARLY = RETRY_AFTER - 0.05


@dataclass(frozen=True, slots=True)
class Due:
    """One message that has to arrive. `content` says which; those of one `user` come in the order they are listed."""

    content: str
    user: str


@dataclass(frozen=True, slots=True)
class Arrival:
    """One message that came. `resend_expected`: the sender cannot know it arrived, and will send it again."""

    content: str
    resend_expected: bool = False


@dataclass
class Finding:
    """What became of what one forwarder was due.

    Attributes:
        id: the forwarder's.
        resent: messages that came again for a good reason, which is no fault.
        receipts: deliveries that the job has written receipts for.
    """

    id: str
    payload: PayloadKind
    due: int = 0
    arrived: int = 0
    receipts: int = 0
    missing: int = 0
    unexpected: int = 0
    out_of_order: int | None = None
    duplicates: int = 0
    resent: int = 0
    remarks: list[str] = field(default_factory=list)

    @property
    def arrived_as_due(self) -> bool:
        """True when all that was due came, once and in order, and nothing else did."""
        wrong = self.missing or self.unexpected or self.out_of_order or self.duplicates or self.remarks
        return self.due > 0 and not wrong

    def allow_repeats(self) -> None:
        """Takes what came again, with its receipts, for resent: a killed worker's last messages are sent twice."""
        self.resent += self.duplicates
        self.receipts = max(self.due, self.receipts - self.duplicates) if self.receipts > self.due else self.receipts
        self.duplicates = 0

    @property
    def as_due(self) -> bool:
        """The same, and the job's receipts say so."""
        return self.arrived_as_due and self.receipts == self.due


def read_lines(directory: Path) -> list[Line]:
    """The derived records under `directory`, each user's in leaving order (docs/spec/records.md section 2)."""
    files = sorted(directory.rglob("*.jsonl"))
    lines = [json.loads(line) for file in files for line in file.read_bytes().split(b"\n") if line]
    lines.sort(key=lambda line: (line["timestamp"], line["place"], line["session_id"], _KINDS.index(line["kind"])))
    return lines


def count_receipts(directory: Path) -> Counter[str]:
    """For each forwarder, how many records the receipts under `directory` say were delivered."""
    delivered: Counter[str] = Counter()
    for part in sorted(directory.glob("*.avro")):
        with part.open("rb") as file:
            for receipt in cast(Iterable[Json], fastavro.reader(file)):
                delivered[receipt["forwarder_id"]] += receipt["outcome"] == "delivered"
    return delivered


def due_to(example: Example, lines: Iterable[Line]) -> list[Due]:
    """What the forwarder is due of `lines`, in their order."""
    return [_due(example, line) for line in lines if example.due(line)]


def compare(example: Example, due: Sequence[Due], arrivals: Sequence[Arrival], *, ordered: bool) -> Finding:
    """Compares what arrived with what was due.

    Args:
        example: the forwarder.
        due: what it was due, each user's in order.
        arrivals: what it got, in the order in which it came.
        ordered: also check that the first arrivals of each user's messages are in order. Messages of different records
            may be equal: then an arrival before the second one's turn counts as a repetition of the first.
    """
    finding = Finding(example.id, example.payload, due=len(due), arrived=len(arrivals))
    waiting: defaultdict[str, deque[int]] = defaultdict(deque)
    turns: defaultdict[str, deque[int]] = defaultdict(deque)
    for place, message in enumerate(due):
        waiting[message.content].append(place)
        turns[message.user].append(place)
    came: set[str] = set()
    taken: set[int] = set()
    resends: Counter[str] = Counter()
    order: defaultdict[str, list[int]] = defaultdict(list)

    def has_its_turn(place: int) -> bool:
        turn = turns[due[place].user]
        while turn[0] in taken:
            turn.popleft()
        return turn[0] == place

    for arrival in arrivals:
        expected = waiting.get(arrival.content)
        if expected is None:
            finding.unexpected += 1
        elif expected and (arrival.content not in came or not ordered or has_its_turn(expected[0])):
            place = expected.popleft()
            taken.add(place)
            order[due[place].user].append(place)
        elif resends[arrival.content]:
            resends[arrival.content] -= 1
            finding.resent += 1
        else:
            finding.duplicates += 1
        came.add(arrival.content)
        resends[arrival.content] += arrival.resend_expected
    finding.missing = len(due) - len(taken)
    if ordered:
        finding.out_of_order = sum(_late(sequence) for sequence in order.values())
    return finding


def check_http(example: Example, lines: Iterable[Line], attempts: Sequence[Attempt]) -> Finding:
    """What the receiver's path of this forwarder has, and what its requests looked like."""
    due = [
        Due(f"{line['id']} {_content_due(example.payload, line)}", _user(line)) for line in lines if example.due(line)
    ]
    arrivals = [
        Arrival(f"{attempt.key} {_content(example.payload, attempt.body)}", attempt.fault is InjectedFault.ANSWER_LOST)
        for attempt in attempts
        if attempt.taken
    ]
    finding = compare(example, due, arrivals, ordered=True)
    refused = Counter(attempt.status for attempt in attempts if attempt.fault is None and not attempt.taken)
    finding.remarks += [f"{count} requests answered {status}" for status, count in refused.items()]
    finding.remarks += _header_faults(example, attempts)
    early = _early_retries(attempts)
    if early:
        finding.remarks.append(f"{early} retries came before the Retry-After of a 429 was over")
    return finding


def check_data_stream(example: Example, lines: Iterable[Line], records: Sequence[StreamRecord]) -> Finding:
    """What the data stream has: order per user too, and that the partition key is the user's id."""
    arrivals = [Arrival(_content(example.payload, record.data)) for record in records]
    finding = compare(example, due_to(example, lines), arrivals, ordered=True)
    strays = sum(record.partition_key != _user_id(record.data) for record in records)
    if strays:
        finding.remarks.append(f"{strays} records have a partition key that is not their user_id")
    return finding


def check_delivery_stream(example: Example, lines: Iterable[Line], records: Iterable[bytes]) -> Finding:
    """What the delivery stream wrote to the bucket. Firehose keeps no order."""
    arrivals = [Arrival(_content(example.payload, record)) for record in records]
    return compare(example, due_to(example, lines), arrivals, ordered=False)


def table(findings: Sequence[Finding]) -> str:
    """The findings as a table for the terminal; remarks stand below it."""
    heads = (
        "forwarder",
        "payload",
        "due",
        "arrived",
        "missing",
        "extra",
        "order",
        "double",
        "resent",
        "receipts",
        "verdict",
    )
    rows = [heads, *(_row(finding) for finding in findings)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(heads))]
    text = ["  ".join(_cell(row[column], widths[column], column) for column in range(len(heads))) for row in rows]
    text.insert(1, "  ".join("-" * width for width in widths))
    text += [f"{finding.id}: {remark}" for finding in findings for remark in finding.remarks]
    return "\n".join(line.rstrip() for line in text)


def verdict(findings: Sequence[Finding], failures: Mapping[InjectedFault, int], status: int, output: Path) -> int:
    """Print what was found, and whether all is as it should be.

    Args:
        findings: of the forwarders.
        failures: of the receiver, as `faults_met` gives them.
        status: the exit status of the job.
        output: of the job.

    Returns:
        The exit status: 0 if everything arrived as due.
    """
    print(table(findings))
    print("\nThe receiver failed: " + (", ".join(f"{n} x {fault.value}" for fault, n in failures.items()) or "never"))
    if status:
        print(f"The job ended with status {status}: it left dead letters or rejects under {output}")
    good = status == 0 and all(finding.as_due for finding in findings)
    print("Everything arrived as due." if good else "NOT everything is as it should be.")
    return 0 if good else 1


def _row(finding: Finding) -> tuple[str, ...]:
    order = "-" if finding.out_of_order is None else f"{finding.out_of_order:,}"
    counts = (finding.due, finding.arrived, finding.missing, finding.unexpected)
    return (
        finding.id,
        finding.payload,
        *(f"{count:,}" for count in counts),
        order,
        f"{finding.duplicates:,}",
        f"{finding.resent:,}",
        f"{finding.receipts:,}",
        "as due" if finding.as_due else "nothing was due" if not finding.due else "NOT AS DUE",
    )


def _cell(text: str, width: int, column: int) -> str:
    return text.rjust(width) if 2 <= column <= 9 else text.ljust(width)


def _late(places: Sequence[int]) -> int:
    """How many came after one that was to come after them."""
    return sum(place < latest for place, latest in zip(places[1:], _running_maximum(places), strict=False))


def _running_maximum(places: Sequence[int]) -> Iterable[int]:
    latest = -1
    for place in places:
        latest = max(latest, place)
        yield latest


def _due(example: Example, line: Line) -> Due:
    return Due(_content_due(example.payload, line), _user(line))


def _user(line: Line) -> str:
    return json.dumps([line["organisation"], line["lrs_id"], line["user_id"]])


def _content_due(payload: PayloadKind, line: Line) -> str:
    """What the payload made of this record has to say."""
    message = {name: value for name, value in line.items() if name not in _ENVELOPE}
    if payload == "record":
        return _as_text(message)
    if payload == "statement":
        verb = _VERB + _VERBS[line["event"] if line["kind"] == "event" else line["kind"]]
        return _as_text([line["id"], verb, line["user_id"], line["timestamp"]])
    names = ("kind", "organisation", "lrs_id", "timestamp", "metadata")
    return _as_sorted_text({**message, "_id": line["id"], **{name: line[name] for name in names}})


def _content(payload: PayloadKind, data: bytes) -> str:
    """What a payload that arrived says: the same text as `_content_due` for the record it was made of."""
    try:
        value = json.loads(data)
        if payload == "record":
            return _as_text(value)
        if payload == "statement":
            return _as_text([value["id"], value["verb"]["id"], value["actor"]["account"]["name"], value["timestamp"]])
        statement = value.pop("statement")
        return _as_sorted_text(value) if statement["id"] == value["_id"] else "its statement is another record's"
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        return f"not a {payload}: {error!r}"


def _user_id(data: bytes) -> Any:
    value = json.loads(data)
    return value["user_id"] if "user_id" in value else value["actor"]["account"]["name"]


def _as_text(value: object) -> str:
    """Compact JSON, keys in their order: two texts are equal when the values are, number by number as written."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def _as_sorted_text(value: Json) -> str:
    """The same, for an object whose own keys are in no promised order."""
    return _as_text(dict(sorted(value.items())))


def _header_faults(example: Example, attempts: Iterable[Attempt]) -> list[str]:
    """What is wrong with the requests' headers (docs/spec/forwarders.md section 2)."""
    expected = {"Content-Type": "application/json", **example.headers}
    if example.payload == "statement":
        expected["X-Experience-API-Version"] = "1.0.3"
    wrong: Counter[str] = Counter()
    for attempt in attempts:
        for name, value in expected.items():
            if attempt.headers.get(name) != value:
                wrong[f"{name} is {attempt.headers.get(name)!r}, not {value!r}"] += 1
        for name in ("Idempotency-Key", "User-Agent", "X-Forward-Hops"):
            if not attempt.headers.get(name):
                wrong[f"{name} is absent"] += 1
    return [f"{count} requests: {fault}" for fault, count in wrong.items()]


def _early_retries(attempts: Iterable[Attempt]) -> int:
    """Retries of a throttled request that did not wait as long as they were asked to."""
    by_key: defaultdict[str, list[Attempt]] = defaultdict(list)
    for attempt in attempts:
        by_key[attempt.key].append(attempt)
    pairs = chain.from_iterable(pairwise(same) for same in by_key.values())
    return sum(first.fault is InjectedFault.THROTTLED and then.at - first.at < _TOO_EARLY for first, then in pairs)


def faults_met(attempts: Iterable[Attempt]) -> Mapping[InjectedFault, int]:
    """How often the receiver failed, and how."""
    return Counter(attempt.fault for attempt in attempts if attempt.fault is not None)
