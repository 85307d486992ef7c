"""The page of a run: the figures of its report, texts from outside as texts, and of one size whatever the run was."""

import json
import logging
import os
import re
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from pipeline.options import Job
from pipeline.page import rendered
from pipeline.page.charts import lines, mean
from pipeline.page.examples import Letter
from pipeline.page.sections import Contents
from pipeline.report import Report
from pipeline.runs import kept_runs, leave
from tests.support.activity import activity, sessions
from tests.support.browser import MISSING, axe_core, chromium
from tests.support.forwarder_documents import http_document
from tests.support.forwarders import http_forwarder
from tests.support.laboratory.http_fault_server import Answer, in_thread, scripted
from tests.support.receiver import Receiver
from tests.support.workshop import Workshop
from transforms.accounting.accounts import Moment
from transforms.accounting.summary import Summary
from transforms.reading.activity import encode
from transforms.reading.bucket_blobs import ReadCounts
from transforms.reading.reasons import Place, Reasons
from transforms.receipts.runs import run_number

LIMIT = 300_000
HOSTILE = "<script>alert('x')</script><img src=x onerror=alert(1)>\"'&amp;\u202e"


class Page(HTMLParser):
    """A page as a browser takes it: its elements, the rows of its tables, and its text."""

    def __init__(self, content: bytes) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.rows: list[list[str]] = []
        self.headings: list[str] = []
        self.text = ""
        self._open: list[str] = []
        self.feed(content.decode())
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self._open.append(tag)
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append("")
        elif tag in ("h1", "h2"):
            self.headings.append("")

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag, f"{tag} is not the element that is open"

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        if "style" in self._open:
            return
        self.text += data
        if "td" in self._open or "th" in self._open:
            self.rows[-1][-1] += data
        elif self._open and self._open[-1] in ("h1", "h2"):
            self.headings[-1] += data

    def row(self, head: str) -> list[str]:
        """The cells of the first row whose first cell begins so, without that one."""
        return next(cells[1:] for cells in self.rows if cells and cells[0].startswith(head))


def page_of(workshop: Workshop) -> Page:
    return Page((workshop.output / "report.html").read_bytes())


def number(text: str) -> int:
    return int(text.replace(",", ""))


def refusing(receiver: Receiver, times: int) -> None:
    """Let the receiver refuse the first so many records."""
    refused: list[str] = []

    def script(arrival: Any) -> Answer:
        if len(refused) < times:
            refused.append(arrival.key)
            return Answer(400, body=f"no: {HOSTILE}".encode())
        return Answer(200)

    receiver.script = script


def ran(workshop: Workshop, receiver: Receiver) -> Workshop:
    """A run with dead letters and rejects, of users with hostile names."""
    workshop.write_lines(
        [encode(each) for each in sessions(12)]
        + [encode(activity("START", user_id=HOSTILE, session_id="hostile"))]
        + [encode(activity("DISCARD", user_id="left")), encode(activity("START", user_id="looked", state="review"))]
        + [b'{"record_id": 5}'] * 2
    )
    document = http_document(receiver, description=HOSTILE)
    workshop.write_forwarders(document, {**document, "_id": "other", "query": json.dumps({"kind": "score"})})
    refusing(receiver, 3)
    assert workshop.run("--max_reject_ratio=0.5") == 3
    return workshop


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    """Such a run, to look at."""
    receiver = Receiver()
    with in_thread(receiver):
        return ran(Workshop(tmp_path_factory.mktemp("run")), receiver)


def test_the_figures_are_those_of_the_report_and_add_up(run: Workshop) -> None:
    page, report = page_of(run), run.report()
    assert number(page.row("Read")[0]) == report["input"]["read"]
    assert number(page.row("Rejected")[0]) == report["input"]["rejected"] == 2
    assert number(page.row("Accepted")[0]) == report["input"]["read"] - 2
    assert number(page.row("Sessions")[0]) == report["sessions"]
    for kind, count in report["records"].items():
        assert number(page.row(f"Records: {kind}")[0]) == count
    totals = {
        "Due to forwarders": "matched",
        "Delivered before": "already_delivered",
        "Delivered": "delivered",
        "Dead letters": "dead_lettered",
        "Pending": "pending",
        "Attempts": "attempts",
        "Calls": "calls",
    }
    counts = {key: sum(entry[key] for entry in report["forwarders"]) for key in totals.values()}
    assert {key: number(page.row(name)[0]) for name, key in totals.items()} == counts
    assert counts["matched"] == sum(
        counts[key] for key in ("delivered", "already_delivered", "dead_lettered", "pending")
    )
    assert "The parts add up to what was due." in page.text
    assert page.row("http_400")[0].startswith(str(counts["dead_lettered"]))
    assert report["session_outcomes"] == {"Completed": 12, "Discarded": 1, "Incomplete": 1, "none": 1}
    for outcome, count in {"Completed": 12, "Discarded": 1, "Incomplete": 1, "Without a status": 1}.items():
        assert number(page.row(outcome)[0]) == count


def test_it_says_what_happened_and_what_comes_next(run: Workshop) -> None:
    page, report = page_of(run), run.report()
    assert page.headings[0] == "Finished, with 3 dead letters and 2 rejects"
    assert page.headings[1:] == [
        "What to do next",
        "The books",
        "Over time",
        "Forwarders",
        "Dead letters by reason",
        "Rejects by reason",
        "Sessions and users",
        "Hints and warnings",
        "What was configured",
    ]
    assert f"session-forwarder redrive --output {run.output}" in page.text
    assert f"show rejects --output {run.output} --run {report['run_id']}" in page.text
    assert "first in" in page.text
    assert '{"record_id": 5}' in page.text
    assert "--max_reject_ratio0.5" in page.text


def test_what_comes_from_outside_is_text_and_nothing_is_asked_of_the_network(run: Workshop) -> None:
    content = (run.output / "report.html").read_text()
    page = Page(content.encode())
    assert page.text.count("<script>alert('x')</script>") >= 3, "a description, a user, an answer"
    assert not {"script", "img", "iframe", "link", "object", "a", "form"} & {tag for tag, _ in page.elements}
    assert not [name for _, attributes in page.elements for name in attributes if name.startswith("on")]
    assert not [attributes for _, attributes in page.elements if {"src", "href", "style"} & set(attributes)]
    assert "url(" not in content
    assert "@import" not in content
    assert not re.search("\u202e", content)


def test_it_lies_beside_the_report_and_under_the_run_s_own_name(run: Workshop) -> None:
    kept = run.output / "runs" / run.report()["run_id"]
    for name in ("report.json", "report.html"):
        assert (kept / name).read_bytes() == (run.output / name).read_bytes()
        assert (kept / name).stat().st_mode & 0o777 == 0o600
    assert sorted(path.name for path in kept.iterdir()) == ["report.html", "report.json"]


def test_the_next_run_is_compared_with_it(workshop: Workshop, receiver: Receiver) -> None:
    run = ran(workshop, receiver)
    before = run.report()
    run.write_activity(sessions(20))
    assert run.run("--dry_run") == 0
    assert "Compared with" not in page_of(run).text, "a dry run is not compared with a run"
    assert run.run() == 0
    page, now = page_of(run), run.report()
    assert f"Compared with the run before, {before['run_id']}" in page.text
    read, was, change = page.row("Read")
    assert (number(read), number(was)) == (now["input"]["read"], before["input"]["read"])
    assert change == f"+{number(read) - number(was):,}"
    assert page.row("Rejected") == ["0", "2", "\u22122"]
    assert page.row("Dead letters")[:2] == ["0", "3"]


def test_letters_of_earlier_runs_are_told_apart(workshop: Workshop, receiver: Receiver) -> None:
    workshop.write_activity(sessions(3))
    workshop.write_forwarders(http_document(receiver, configuration={"maxRetries": 0}))
    state = f"--state={workshop.path}/state"
    receiver.script = scripted(default=[503] * 99)
    assert workshop.run(state) == 3
    title = "Dead letters of earlier runs"
    assert [title, "this run"] not in page_of(workshop).rows
    receiver.script = scripted()
    assert workshop.run(state) == 0
    rows = page_of(workshop).rows
    letters = workshop.account("http")["caught_up"]["delivered"]
    assert letters > 3
    begin = rows.index([title, "this run", "before", "change"])
    assert [(row[0], number(row[1])) for row in rows[begin + 1 : begin + 5]] == [
        ("Tried again", letters),
        ("Delivered", letters),
        ("Still dead", 0),
        ("Pending", 0),
    ]


def test_runs_are_listed_the_latest_first(workshop: Workshop, receiver: Receiver) -> None:
    run = ran(workshop, receiver)
    first = run.report()
    assert run.redrive() == 0
    later = run.report()
    (run.output / "runs" / "r000009-20260203T101500Z-5f3a9c").mkdir()
    runs = list(kept_runs(str(run.output)))
    assert [(kept.id, kept.mode) for kept in runs] == [(later["run_id"], "redrive"), (first["run_id"], "run")]
    assert [(kept.delivered, kept.dead_lettered, kept.balanced) for kept in runs][1] == (
        sum(entry["delivered"] for entry in first["forwarders"]),
        3,
        True,
    )
    assert runs[0].delivered == 3
    assert all(kept.begin <= kept.end for kept in runs)
    assert (runs[1].read, runs[1].rejected, runs[1].exit_status, runs[1].state) == (
        first["input"]["read"],
        2,
        3,
        "done",
    )


def test_a_run_that_settles_nothing_has_a_number_of_its_own(workshop: Workshop, receiver: Receiver) -> None:
    workshop.write_activity([activity("START")])
    workshop.write_forwarders(http_document(receiver, "nobody", query='{"user_id": "nobody"}'))
    assert [workshop.run(), workshop.run("--dry_run"), workshop.run()] == [0, 0, 0]
    assert [run_number(run.id) for run in kept_runs(str(workshop.output))] == [3, 2, 1]


def test_a_run_that_failed_has_a_page_too(workshop: Workshop, receiver: Receiver) -> None:
    workshop.write_lines([b"no activity"] * 20)
    workshop.write_forwarders(http_document(receiver))
    assert workshop.run() == 1
    page = page_of(workshop)
    assert page.headings[0] == "Too much of the input was rejected, and nothing was delivered"
    assert "Do what the reasons of the rejects say" in page.text


def test_of_a_webhook_s_address_only_the_host_is_shown(workshop: Workshop, receiver: Receiver) -> None:
    workshop.write_activity(sessions(2))
    workshop.write_forwarders(http_document(receiver))
    assert workshop.run(f"--alert_url=http://127.0.0.1:{receiver.port}/T0/a-token?key=k", "--metrics_port=0") == 0
    text = page_of(workshop).text
    assert f"--alert_urlhttp://127.0.0.1:{receiver.port}/..." in text
    assert "a-token" not in text
    assert "--metrics_port127.0.0.1:0" in text


def test_records_that_were_given_up_untried_have_no_latency() -> None:
    assert mean(Moment(dead=1000, tried=10, waited=400, slowest=50)) == 40
    assert mean(Moment(dead=1000)) == 0
    assert "<path" not in str(lines([Moment(dead=1000)], "latency"))


def test_a_page_that_cannot_be_written_is_no_failure_of_the_run(
    workshop: Workshop, receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    workshop.write_activity(sessions(2))
    workshop.write_forwarders(http_document(receiver))
    (workshop.output / "report.html").mkdir(parents=True)
    with caplog.at_level(logging.WARNING):
        assert workshop.run() == 0
    assert "the page of the run is missing" in caplog.text
    assert workshop.report()["exit_status"] == 0


def test_no_page_of_the_run_before_is_left_beside_a_report_whose_page_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    report = replace(large_report(1), job=Job(output=str(tmp_path)))
    leave(report)
    assert (tmp_path / "report.html").exists()

    def too_large(*_: object) -> bytes:
        raise ValueError("the page cannot be made")

    monkeypatch.setattr("pipeline.runs.page_of", too_large)
    leave(replace(report, run_id="r000002-x"))
    assert not (tmp_path / "report.html").exists()


def large_report(forwarders: int = 10_000) -> Report:
    """A million receipts of so many forwarders, with every list longer than what is shown, and long texts in all."""
    summary = Summary(busiest={f"{HOSTILE} {number} " * 30: 1000 - number for number in range(20)})
    summary.derivation.sessions, summary.derivation.outcomes = 10, {"Completed": 10}
    reasons = Reasons()
    for reason in range(64):
        place = Place(
            "in/" + "long " * 60, 0, reason, reason, "line", f"field{reason}", f"field{reason}: {'why ' * 80}"
        )
        reasons.add(place, f"rule {reason}", None, 100)
    summary.read = ReadCounts(accepted=1_000_000, rejected=6400, reasons=reasons)
    names = [f"forwarder {number} {'long ' * 20}" for number in range(forwarders)]
    for place_, name in enumerate(names):
        account = summary.books.account(name)
        account.matched, account.delivered = 100, 60
        account.dead_lettered = {f"http_{400 + place_ % 40}_{'x' * 80}": 40}
        for moment in range(32):
            account.timeline.add(1_600_000_000_000 + moment * 1000, Moment(3, 1, 4, 400, 300))
    job = Job(forwarders="f.json", output="out", inputs=tuple(f"in/{number}.jsonl" for number in range(1000)))
    warnings = tuple(f"warning {number} {'long ' * 60}" for number in range(500))
    made = [http_forwarder(name) for name in names]
    return Report(
        job, "r000001-x", "done", summary, tuple(made), (), warnings, 1000, "digest", 1_600_000_000_000, 3600.0
    )


def large_page() -> bytes:
    report = large_report()
    facts = report.as_json()
    letters = {
        reason: Letter("f", "id" * 40, HOSTILE * 40, 400, 3, "said " * 200)
        for entry in facts["forwarders"][:40]
        for reason in entry["dead_letter_reasons"]
    }
    return rendered(Contents(report, facts, facts, letters, {}))


def test_it_stays_small_however_large_the_run_was() -> None:
    content = large_page()
    assert len(content) < LIMIT / 3
    page = Page(content)
    assert "And 9,990 more forwarders" in page.text
    assert number(page.row("Due to forwarders")[0]) == 1_000_000


needs_browser = pytest.mark.skipif(bool(MISSING), reason=MISSING)


@pytest.fixture
def browser() -> Iterator[Any]:
    with chromium() as browser:
        yield browser


@needs_browser
def test_it_fits_small_screens_and_two_pages_of_paper(run: Workshop, browser: Any, tmp_path: Path) -> None:
    """The page of a run, and the largest that there is. With SCREENSHOTS set they can be looked at."""
    (tmp_path / "large.html").write_bytes(large_page())
    for name, path in (("run", run.output / "report.html"), ("large", tmp_path / "large.html")):
        for width in (1280, 375):
            page = browser.new_page(viewport={"width": width, "height": 800})
            asked: list[str] = []
            page.on("request", lambda request, asked=asked: asked.append(request.url))
            page.goto(path.as_uri())
            assert page.evaluate("document.documentElement.scrollWidth") <= width, (name, width)
            assert asked == [path.as_uri()]
            if directory := os.environ.get("SCREENSHOTS"):
                page.screenshot(path=str(Path(directory) / f"page-{name}-{width}.png"), full_page=True)
            page.close()
        page = browser.new_page()
        page.goto(path.as_uri())
        pdf = page.pdf(prefer_css_page_size=True)
        assert len(re.findall(rb"/Type\s*/Page\b", pdf)) <= 2, name
        page.close()


@needs_browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_breaks_no_rule_of_accessibility(run: Workshop, browser: Any, scheme: str) -> None:
    page = browser.new_page(color_scheme=scheme)
    page.goto((run.output / "report.html").as_uri())
    page.evaluate(axe_core())
    found = page.evaluate("axe.run(document)")["violations"]
    assert [(rule["id"], rule["nodes"][0]["html"]) for rule in found] == []
