"""Real statements, forwarded as they are to a real LRS and read back:

    python -m tests.lrs.real_data [--most N]

All of `../shared/data` goes to one LRS through one forwarder, and again to another LRS through a forwarder for each
verb. What an LRS holds then is compared with the files. With all of it this takes many minutes: an LRS takes some
hundred statements a second.
"""

import argparse
import gzip
import json
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.lrs_server import Lrs, running
from tests.support.paths import SHARED
from tests.support.workshop import Workshop

FILES = ("fun_mooc_statements.jsonl.gz", "tccc_dev.json")
ADDED_BY_THE_LRS = ("stored", "authority", "version")


@dataclass(frozen=True)
class Outcome:
    """What came of forwarding.

    Attributes:
        sent: the statements of the files, by id.
        held: what the LRS holds, by id.
        refused: the dead letters, by id: reason, and what the LRS answered.
        matched: by forwarder.
    """

    sent: Mapping[str, dict[str, Any]]
    held: Mapping[str, dict[str, Any]]
    refused: Mapping[str, str]
    matched: Mapping[str, int]

    def changed(self) -> list[str]:
        """The ids of statements that are held, and are not what was sent."""
        return [id_ for id_, statement in self.held.items() if as_sent(statement, self.sent[id_]) != self.sent[id_]]

    def lost(self) -> set[str]:
        """The ids of statements that are neither held nor refused."""
        return self.sent.keys() - self.held.keys() - self.refused.keys()


def real_statements(most: int | None = None) -> dict[str, dict[str, Any]]:
    """The statements of the files by id, `most` of each file at most."""
    found: dict[str, dict[str, Any]] = {}
    mooc, tccc = (SHARED / "data" / name for name in FILES)
    with gzip.open(mooc) as lines:
        of_mooc = [json.loads(line) for line in lines]
    for statements in (of_mooc, json.loads(tccc.read_bytes())):
        found.update({each["id"]: each for each in statements[:most]})
    return found


def by_verb(statements: Iterable[Mapping[str, Any]]) -> Counter[str]:
    """How many statements have each verb: counted without the job."""
    return Counter(each["verb"]["id"] for each in statements)


def forward(place: Path, lrs: Lrs, sent: Mapping[str, dict[str, Any]], queries: Mapping[str, Any]) -> Outcome:
    """Forward statements to an LRS, each to the forwarders whose query, by their ids, it matches."""
    workshop = Workshop(place)
    workshop.write_lines(json.dumps(each).encode() for each in sent.values())
    workshop.write_forwarders(*(_document(lrs, id_, query) for id_, query in queries.items()))
    status = workshop.run("--input_format=xapi")
    assert status in (0, 3), status
    report = workshop.report()
    assert report["balanced"]
    refused = {row["id"]: f"{row['reason']}: {row['response']}" for row in workshop.avro("dead_letters")}
    matched = {account["id"]: account["matched"] for account in report["forwarders"]}
    return Outcome(sent, lrs.statements(), refused, matched)


def as_sent(held: Mapping[str, Any], sent: Mapping[str, Any]) -> dict[str, Any]:
    """A statement of an LRS without what that has added."""
    return {name: value for name, value in held.items() if name in sent or name not in ADDED_BY_THE_LRS}


def _document(lrs: Lrs, id_: str, query: Any) -> dict[str, Any]:
    return {
        "_id": id_,
        "active": True,
        "query": json.dumps(query),
        "configuration": {
            "protocol": "http",
            "url": lrs.host_and_path,
            "authType": "basic auth",
            "basicUsername": lrs.username,
            "basicPassword": lrs.password,
            "maxRetries": 2,
            "timeout": 60,
        },
    }


def verb_queries(sent: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """A forwarder for each verb: its query by its id, which is the verb's."""
    return {verb: {"statement.verb.id": verb} for verb in sorted(by_verb(sent.values()))}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--most", type=int, metavar="N", help="statements of each file (default: all)")
    arguments = parser.parse_args()
    if not (SHARED / "data").is_dir():
        print(f"skipped: {SHARED / 'data'} is absent")
        return 0
    sent = real_statements(arguments.most)
    good = True
    for name, queries in (("one forwarder", {"all": {}}), ("a forwarder for each verb", verb_queries(sent))):
        with tempfile.TemporaryDirectory() as directory, running(Path(directory) / "lrs", indexed=True) as lrs:
            (Path(directory) / "job").mkdir()
            outcome = forward(Path(directory) / "job", lrs, sent, queries)
        lost, changed = outcome.lost(), outcome.changed()
        reasons = Counter(outcome.refused.values())
        print(f"{name}: {len(sent):,} sent, {len(outcome.held):,} held, {len(outcome.refused):,} refused by the LRS, ")
        print(f"    {len(lost):,} lost, {len(changed):,} changed")
        for reason, count in reasons.most_common(5):
            print(f"    {count:,} refused: {reason[:300]}")
        good &= not lost and not changed
        if len(queries) > 1:
            counts_equal = outcome.matched == dict(by_verb(sent.values()))
            print(f"    {len(queries)} verbs; matched by verb as counted apart: {counts_equal}")
            good &= counts_equal
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
