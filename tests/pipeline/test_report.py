"""What a run tells its user when it ends: exit status, verdict, hints, table and `report.json`."""

import json
from dataclasses import replace
from typing import Any

import msgspec
import pytest

from pipeline.options import Job
from pipeline.report import DONE, FAILED, LEFT_OVER, Report, State
from tests.support.forwarders import SECRET_KEY, aws_forwarder, http_forwarder
from tests.support.settlements import delivered, documented_record, given_up
from transforms.accounting.summary import MOST_EXAMPLES, Sample, Summary
from transforms.forwarders import Forwarder
from transforms.reading.bucket_blobs import ReadCounts

FORWARDERS = (http_forwarder("f-1"), aws_forwarder("f-2", "firehose", "lake"))


def report(
    summary: Summary, state: State = "done", forwarders: tuple[Forwarder, ...] = FORWARDERS, **job: Any
) -> Report:
    fields = {"forwarders": "forwarders.json", "output": "out", **job}
    return Report(Job(**fields), "run", state, summary, forwarders, (), (), 3, "digest", 1_600_000_000_000, 2.5)


def summary(delivered_count: int = 0, dead: int = 0, *, matched: int | None = None) -> Summary:
    """Of a run in which `f-1` was due that many records."""
    made = Summary()
    account = made.books.account("f-1")
    account.matched = delivered_count + dead if matched is None else matched
    settled = [delivered(str(number)) for number in range(delivered_count)]
    settled += [given_up(str(delivered_count + number)) for number in range(dead)]
    made.books.settle(settled, 1_700_000_000_500)
    return made


@pytest.mark.parametrize(
    ("made", "status", "verdict"),
    [
        (report(summary(4)), DONE, "finished after 2.5 s (details in out/report.json)"),
        (report(summary(4), output=None), DONE, "finished after 2.5 s"),
        (report(summary(3, dead=1)), LEFT_OVER, "finished with dead letters or rejects after 2.5 s"),
        (report(summary(3, matched=4)), FAILED, "failed: the books do not balance for f-1"),
        (report(summary(4), "stopped"), FAILED, "stopped before the end; run the same command again to go on"),
        (report(summary(4), "failed"), FAILED, "failed"),
        (report(summary(3, dead=1), dry_run=True), DONE, "finished after 2.5 s"),
    ],
    ids=["all delivered", "no output", "a dead letter", "a record is missing", "stopped", "failed", "a dry run"],
)
def test_the_exit_status_and_the_last_line_say_how_it_ended(made: Report, status: int, verdict: str) -> None:
    assert made.exit_status == made.as_json()["exit_status"] == status
    text, _, commands = made.as_text().partition("\nnext, to look at the dead letters")
    assert text.splitlines()[-1].startswith(verdict)
    assert bool(commands) == (status == LEFT_OVER)


def test_too_many_rejects_say_how_many_and_what_the_limit_is() -> None:
    made = Summary(read=ReadCounts(accepted=7, rejected=3))
    text = report(made, "too_many_rejects").as_text()
    assert "failed: 30.0% of the input was rejected, more than --max_reject_ratio 5.0%; nothing was delivered" in text


def test_who_got_nothing_is_told_why() -> None:
    made = summary(1)
    made.books.see("a", None)
    made.books.see("b", "store")
    other = Forwarder("f-3", "c", None, None, "record", 0, FORWARDERS[1].target)
    hints = report(made, forwarders=(*FORWARDERS, other)).hints
    seen = "organisations/stores seen: a/-, b/store"
    assert hints == [
        "forwarder f-2: its query matched no record; --explain ID says of a record which clause decided",
        f"forwarder f-3: no record is in its scope; {seen}",
    ]


def test_a_query_that_matched_nothing_is_told_the_clause_that_refuses_the_nearest_record() -> None:
    made = summary(1)
    for record in (documented_record(kind="event"), documented_record(kind="score")):
        made.count_records([record])
    query = '{"kind": "score", "score": {"$gt": 900}}'
    other = Forwarder("f-3", None, None, query, "record", 0, FORWARDERS[1].target)
    (hint,) = report(made, forwarders=(FORWARDERS[0], other)).hints
    assert hint == "forwarder f-3: its query matched no record; of a score it refuses score $gt 900"


def test_nobody_is_told_that_he_got_nothing_where_there_was_nothing() -> None:
    assert report(Summary()).hints == []


def test_the_table_has_a_row_for_each_forwarder_and_lines_for_its_dead_letters() -> None:
    lines = report(summary(1_000, dead=2)).as_text().splitlines()
    (header,) = [line for line in lines if line.startswith("forwarder  ")]
    rows = [line.split() for line in lines if line.startswith(("f-1 ", "f-2 "))]
    assert header.split()[:6] == ["forwarder", "to", "matched", "delivered", "already", "dead"]
    assert rows[0][:7] == ["f-1", "http", "example.org", "1,002", "1,000", "0", "2"]
    assert rows[1][:4] == ["f-2", "firehose", "lake", "0"]
    assert "forwarder f-1: dead letters: 2 http_400" in lines


@pytest.mark.parametrize("width", [60, 80, 120])
def test_the_table_fits_the_terminal_and_its_most_telling_columns_stay(width: int) -> None:
    lines = report(summary(1_000, dead=2)).as_text(width).splitlines()
    (header,) = [line for line in lines if line.startswith("forwarder  ")]
    rows = lines[lines.index(header) : lines.index(header) + 3]
    assert all(len(line) <= width for line in rows)
    titles = " ".join(header.split())
    assert all(title in titles for title in ("matched", "delivered", "dead", "pending"))
    assert ("p50 ms" in titles) == (width == 120)


def test_one_of_a_thing_is_no_several() -> None:
    made = summary(1)
    made.read = replace(made.read, accepted=1)
    made.derivation.sessions = 1
    text = replace(report(made), files=1).as_text()
    assert "read      1 activity in 1 file, 0 rejected, 0 duplicates" in text
    assert "derived   1 session: " in text
    assert "read      0 activities in 3 files" in report(summary(1)).as_text()


def test_report_json_balances_and_holds_no_secret() -> None:
    found = report(summary(3, dead=1)).as_json()
    first, second = found["forwarders"]
    assert (first["matched"], first["delivered"], first["dead_lettered"]) == (4, 3, 1)
    assert first["dead_letter_reasons"] == {"http_400": 1}
    assert (second["target"], found["balanced"], found["started"]) == (
        "firehose lake",
        True,
        "2020-09-13T12:26:40.000Z",
    )
    assert SECRET_KEY not in json.dumps(found)


def test_a_dry_run_shows_what_would_be_sent() -> None:
    made = summary(matched=5)
    made.samples["f-1"] = Sample(0, "1", b'{"a":1}')
    dry = report(made, dry_run=True)
    assert dry.as_json()["forwarders"][0]["sample"] == {"a": 1}
    assert dry.as_json()["balanced"] is None
    assert 'sample for f-1:\n{"a":1}' in dry.as_text()


@pytest.mark.parametrize("number", ["9" * 5000, "1e400"])
def test_a_sample_with_a_number_that_few_can_read_is_shown_as_its_text(number: str) -> None:
    made = summary(matched=5)
    made.samples["f-1"] = Sample(0, "1", b'{"number":%b}' % number.encode())
    shown = json.dumps(report(made, dry_run=True).as_json(), allow_nan=False)
    assert json.loads(shown)["forwarders"][0]["sample"] == f'{{"number":{number}}}'


def test_a_query_that_matched_nothing_is_held_against_a_record_of_its_own_organisation() -> None:
    ours = replace(http_forwarder("ours"), query='{"user_id": "nobody"}', organisation="b")
    made = Summary()
    for organisation in ("a", "b"):
        made.count_records([msgspec.structs.replace(documented_record(), organisation=organisation)])
    (hint,) = report(made, forwarders=(ours,)).hints
    assert hint == 'forwarder ours: its query matched no record; of a session-started it refuses user_id $eq "nobody"'


def test_examples_are_few_however_many_organisations_there_are() -> None:
    made = Summary()
    made.count_records(
        [msgspec.structs.replace(documented_record(), organisation=str(number)) for number in range(1000)]
    )
    other = Summary()
    other.count_records([documented_record()])
    made.add(other)
    assert len(made.examples) == MOST_EXAMPLES
