"""What nobody can beat who matches statements in Python: a loop that reads, decodes, asks the queries and writes.

No identity of the learner, no order, no check of times, nothing that survives it. It decodes the whole of each
statement, makes the one date that the queries look at, and asks the job's own compiled queries one after the other.
(The job asks up to 32 of them by one function, `transforms.query.codegen.compile_together`.) Of statements with one id
it takes the first, so that it delivers the same as the job.
"""

from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec
import orjson

from benchmarks.workload import Tally
from transforms.forwarders import Forwarder
from transforms.query import compile_query

CHUNK = 256 * 1024

DECODERS: dict[str, Callable[[bytes], Any]] = {"orjson": orjson.loads, "msgspec": msgspec.json.Decoder().decode}


def lines(path: Path) -> Iterator[bytes]:
    """The lines of a file, without their ends."""
    rest = b""
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            *whole, rest = (rest + chunk).split(b"\n")
            yield from whole
    if rest:
        yield rest


def loop(path: Path, forwarders: tuple[Forwarder, ...], decoder: str) -> dict[str, Any]:
    """Match the statements of a file; count what is due."""
    decode, tally = DECODERS[decoder], Tally()
    queries = [(forwarder.id, compile_query(forwarder.query).compiled()) for forwarder in forwarders]
    seen: set[str] = set()
    for line in lines(path):
        statement = decode(line)
        id_ = statement["id"]
        if id_ in seen:
            continue
        seen.add(id_)
        statement["stored"] = datetime.fromisoformat(statement["stored"])
        document = {"_id": id_, "kind": "statement", "organisation": None, "lrs_id": None, "statement": statement}
        for forwarder_id, matches in queries:
            if matches(document):
                tally.add(forwarder_id, line)
    return tally.as_json()
