"""docs/queries.md, run: the page's own activity, commands and queries, and what the page says of them.

Also the table of the query document's fields in docs/spec/records.md, field by field, on the same activity.
"""

import contextlib
import json
import logging
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Lock, Thread
from typing import Any

import pytest

from pipeline.command import main
from tests.docs.page import Section, sections, tables
from tests.support.paths import ROOT

PAGE = ROOT / "docs/queries.md"
RECORDS = ROOT / "docs/spec/records.md"
HOME_PAGE = "--actor_home_page=https://id.school-1.example"
QUERY_LANGUAGES = ("json", "js")  # `js`: a query that is no JSON


@dataclass(frozen=True)
class Example:
    """One query of the page. `selects`: the names of the records, None of a query that is refused; `says`: the job."""

    id: str
    heading: str
    text: str
    selects: frozenset[str] | None
    says: str

    def forwarder(self, url: str) -> dict[str, Any]:
        """A document with the query, as a string; or with the fields of the document that the page shows."""
        shown = {"query": self.text}
        with contextlib.suppress(ValueError):
            part = json.loads(self.text)
            if "query" in part:
                shown = part
        target = {"protocol": "http", "url": f"{url}/{self.id}", "concurrency": 1, "maxRetries": 0}
        return {"_id": self.id, "active": True, "payload": "document", "configuration": target, **shown}


def names_of_records(section: Section) -> list[list[str]]:
    return tables(section)[0][1:]


def examples() -> list[Example]:
    """Every query of the page with what follows it: `Selects:`, or what the job says, or both."""
    by_title = {section.title: section for section in sections(PAGE)}
    every = frozenset(row[0] for row in names_of_records(by_title["Try it"]))
    found: list[Example] = []
    for section in by_title.values():
        if section.level != 3:
            continue
        for place, block in enumerate(section.blocks):
            if block.language not in QUERY_LANGUAGES:
                continue
            following = section.blocks[place + 1] if place + 1 < len(section.blocks) else None
            says = following.text if following is not None and following.language == "text" else ""
            told = re.search(r"^Selects: ([^.]*)\.$", "\n".join(block.after), re.MULTILINE)
            selects = None if told is None else selected(" ".join(told[1].split()), every)
            found.append(Example(f"example-{len(found)}", section.title, block.text, selects, " ".join(says.split())))
    return found


def selected(told: str, every: frozenset[str]) -> frozenset[str]:
    if told == "nothing":
        return frozenset()
    if told == "every record":
        return every
    names = told.split(", ")
    assert every.issuperset(names), f"no such record: {set(names) - every}"
    return frozenset(names)


EXAMPLES = examples()
RUN = [example for example in EXAMPLES if example.selects is not None]
REFUSED = [example for example in EXAMPLES if example.selects is None]


def test_the_page_has_twenty_numbered_recipes_and_says_something_of_every_query() -> None:
    numbers = [example.heading.partition(".")[0] for example in EXAMPLES if example.heading[0].isdigit()]
    assert list(dict.fromkeys(numbers)) == [str(number) for number in range(1, 21)]
    assert all(example.selects is not None for example in EXAMPLES if example.heading[0].isdigit())
    assert [example.heading for example in EXAMPLES if example.selects is None and not example.says] == []


class Receiver(ThreadingHTTPServer):
    """Takes every record and keeps its query document by the path it was posted to."""

    daemon_threads = True
    request_queue_size = 256  # every forwarder connects at once

    def __init__(self) -> None:
        self.documents: dict[str, list[dict[str, Any]]] = {}
        self.lock = Lock()
        super().__init__(("127.0.0.1", 0), _Handler)

    @property
    def url(self) -> str:
        return f"127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Receiver

    def do_POST(self) -> None:
        document = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with self.server.lock:
            self.server.documents.setdefault(self.path.strip("/"), []).append(document)
        self.send_response(204)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


@dataclass(frozen=True)
class Field:
    """A row of the table of fields: `types` are `$type`'s names, `kinds` those of the records that have the field."""

    id: str
    path: str
    types: list[str]
    kinds: list[str]


def fields() -> list[Field]:
    (section,) = (section for section in sections(RECORDS) if section.title.startswith("4. "))
    (table,) = (table for table in tables(section) if table[0][:3] == ["field", "type", "in"])
    found: list[Field] = []
    for row in table[1:]:
        paths = re.findall("`([^`]+)`", row[0])
        kinds = ["event", "status", "score"] if row[2] == "all" else row[2].split(", ")
        found += [Field(f"field-{len(found) + at}", path, row[1].split(" or "), kinds) for at, path in enumerate(paths)]
    return found


FIELDS = fields()


@dataclass(frozen=True)
class Delivered:
    """What one run delivered: query documents by forwarder, and its report."""

    documents: Mapping[str, list[dict[str, Any]]]
    report: Mapping[str, Any]
    names: Mapping[str, str]

    def of(self, forwarder_id: str) -> frozenset[str]:
        """The names that the page has for the records that a forwarder got."""
        got = [self.names[document["_id"]] for document in self.documents.get(forwarder_id, [])]
        assert len(got) == len(set(got))
        return frozenset(got)


def write_inputs(directory: Path) -> None:
    (try_it,) = (section for section in sections(PAGE) if section.title == "Try it")
    blocks = {block.language: block.text for block in reversed(try_it.blocks)}
    (directory / "activity.jsonl").write_text(blocks["jsonl"] + "\n")
    (directory / "forwarders.json").write_text(blocks["json"])


def name_of(document: Mapping[str, Any]) -> str:
    user = document["user_id"].partition("@")[0]
    return f"{user} {document.get('event', document['kind']).removeprefix('session-')}"


@pytest.fixture(scope="module")
def delivered(tmp_path_factory: pytest.TempPathFactory) -> Delivered:
    """One run with a forwarder for each query of the page, and for each field of the table."""
    directory = tmp_path_factory.mktemp("queries")
    write_inputs(directory)
    receiver = Receiver()
    thread = Thread(target=receiver.serve_forever, daemon=True)
    thread.start()
    documents = [example.forwarder(receiver.url) for example in RUN]
    for field in FIELDS:
        query = json.dumps({field.path: {"$type": field.types}})
        documents.append(Example(field.id, "", query, None, "").forwarder(receiver.url))
    documents.append(Example("all", "", "{}", None, "").forwarder(receiver.url))
    (directory / "forwarders.json").write_text(json.dumps(documents))
    inputs = ["--input", str(directory / "activity.jsonl"), "--forwarders", str(directory / "forwarders.json")]
    try:
        status = main([*inputs, "--output", str(directory / "out"), "--allow_network=127.0.0.0/8", HOME_PAGE])
    finally:
        receiver.shutdown()
        receiver.server_close()
        thread.join()
    assert status == 0
    report = json.loads((directory / "out" / "report.json").read_text())
    names = {document["_id"]: name_of(document) for document in receiver.documents["all"]}
    return Delivered(receiver.documents, report, names)


def test_the_activity_of_the_page_gives_rise_to_the_records_it_lists(delivered: Delivered) -> None:
    (try_it,) = (section for section in sections(PAGE) if section.title == "Try it")
    listed = [(row[0], row[1], row[2]) for row in names_of_records(try_it)]
    derived = [
        (name_of(document), document["kind"], document["timestamp"].replace("T", " ").removesuffix(".000Z"))
        for document in delivered.documents["all"]
    ]
    assert sorted(listed) == sorted(derived)


@pytest.mark.parametrize("example", RUN, ids=lambda example: f"{example.id}: {example.heading}")
def test_a_query_selects_the_records_that_the_page_says_and_no_others(delivered: Delivered, example: Example) -> None:
    assert delivered.of(example.id) == example.selects


def test_of_a_query_that_selects_nothing_the_job_says_what_the_page_says(delivered: Delivered) -> None:
    said = [*delivered.report["hints"], *delivered.report["warnings"]]
    for example in RUN:
        if example.says:
            of_it = [line for line in said if re.match(rf"forwarder {example.id}\b", line)]
            assert [line for line in of_it if line.endswith(f" {example.says}")] != [], of_it


def test_a_query_that_breaks_a_rule_is_refused_in_the_words_of_the_page(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_inputs(tmp_path)
    documents = [example.forwarder("example.org") for example in REFUSED]
    (tmp_path / "forwarders.json").write_text(json.dumps(documents))
    inputs = ["--input", str(tmp_path / "activity.jsonl"), "--forwarders", str(tmp_path / "forwarders.json")]
    assert main([*inputs, "--dry_run"]) == 2
    errors = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    told = [
        f"forwarder {example.id} ({tmp_path}/forwarders.json[{at}]): {example.says}"
        for at, example in enumerate(REFUSED)
    ]
    assert errors == told != []


def test_the_commands_of_the_page_print_what_it_shows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_inputs(tmp_path)
    monkeypatch.chdir(tmp_path)
    (try_it,) = (section for section in sections(PAGE) if section.title == "Try it")
    commands = [place for place, block in enumerate(try_it.blocks) if block.language == "sh"]
    assert len(commands) == 2
    for place in commands:
        command = shlex.split(try_it.blocks[place].text)
        assert command[:3] == ["python", "-m", "pipeline"]
        assert main(command[3:]) == 0
        printed = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
        for line in try_it.blocks[place + 1].text.splitlines():
            assert " ".join(line.split()) in printed


@pytest.mark.parametrize("field", FIELDS, ids=lambda field: field.path)
def test_a_field_of_the_query_document_is_of_the_type_and_in_the_records_that_the_table_says(
    delivered: Delivered, field: Field
) -> None:
    expected = {
        delivered.names[document["_id"]] for document in delivered.documents["all"] if document["kind"] in field.kinds
    }
    assert delivered.of(field.id) == expected


def test_the_table_of_fields_leaves_none_out(delivered: Delivered) -> None:
    listed = {field.path for field in FIELDS}
    for document in delivered.documents["all"]:
        assert listed >= set(document)
        assert listed >= {f"statement.{name}" for name in document["statement"] if name != "result"}
