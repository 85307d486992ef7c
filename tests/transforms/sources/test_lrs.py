"""An LRS as a source: what is asked, what is followed, what is tried again, and what is not."""

import errno
import json
import os
import ssl
import tracemalloc
from hashlib import sha256, sha512
from pathlib import Path
from typing import NoReturn

import pytest
import trustme

from schemas.times import rfc3339
from tests.support.laboratory.http_fault_server import Answer, Arrival, FaultServer, in_thread
from tests.support.limits import files_of_at_most
from tests.support.lrs_feed import FIRST_STORED, Feed, statement, with_attachments
from transforms.reading.blocks import Block, Broken
from transforms.reading.positions import NOWHERE, OVERLAP_MS, Position
from transforms.sources import lrs_client
from transforms.sources.attachments import NOT_ITS_HASH
from transforms.sources.base import Access, SourceError
from transforms.sources.lrs import LrsReader, LrsSource
from transforms.sources.lrs_url import KEY, SECRET
from transforms.storage import StorageError

LOCAL = Access(allow_networks=("127.0.0.0/8",), max_backoff=0.001, outage_budget=0.5)
STATEMENTS = [statement(number) for number in range(8)]


@pytest.fixture
def full(feed: Feed) -> Feed:
    feed.statements = STATEMENTS
    return feed


def source(feed: Feed, query: str = "", access: Access = LOCAL) -> LrsSource:
    return LrsSource(f"{feed.resource}{query}", access)


def reader_of(source: LrsSource, environment: dict[str, str] | None = None) -> LrsReader:
    return LrsReader(source, lambda: False, environment or {})


def items_of(reader: LrsReader) -> list[bytes]:
    return [item for block in reader.blocks() if isinstance(block, Block) for item in block.items]


def refusal(source: LrsSource, environment: dict[str, str] | None = None) -> str:
    with pytest.raises(SourceError) as caught:
        items_of(reader_of(source, environment))
    return str(caught.value)


def test_all_pages_are_read_as_they_were_sent_and_positions_count_on(full: Feed) -> None:
    blocks = [block for block in reader_of(source(full)).blocks() if isinstance(block, Block)]
    assert [item for block in blocks for item in block.items] == STATEMENTS
    assert [block.start for block in blocks] == [0, 3, 6]
    assert full.asked()[0] == "/xAPI/statements?ascending=true"
    assert len(full.asked()) == 3
    assert full.connections == 1


def test_what_the_url_asks_for_is_asked_for(full: Feed) -> None:
    query = "?verb=http%3A%2F%2Fv.example%2F1&limit=2&until=2027-01-01T00:00:00Z"
    items_of(reader_of(source(full, query)))
    assert full.asked()[0] == f"/xAPI/statements{query}&ascending=true"


@pytest.mark.parametrize(
    ("versions", "asked"),
    [(["1.0.3"], "1.0.3"), (["1.0.3", "2.0.0"], "2.0.0"), (None, "1.0.3"), (["0.95"], "1.0.3")],
)
def test_the_version_is_the_one_that_the_lrs_says(full: Feed, versions: list[str] | None, asked: str) -> None:
    full.versions = versions
    items_of(reader_of(source(full)))
    assert {arrival.headers.get("x-experience-api-version") for arrival in full.log[1:]} == {asked}


def test_the_login_comes_from_the_variables_or_by_reference(
    full: Feed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    items_of(reader_of(source(full), {KEY: "key", SECRET: " secret\n"}))
    assert full.log[-1].headers["authorization"] == "Basic a2V5OnNlY3JldA=="
    (tmp_path / "login").write_text("key:secret\n")
    monkeypatch.setenv("ANY_NAME", "key:secret")
    for reference in (f"file:{tmp_path}/login", "env:ANY_NAME"):
        full.log.clear()
        items_of(reader_of(source(full, access=Access(reference, LOCAL.allow_networks))))
        assert full.log[-1].headers["authorization"] == "Basic a2V5OnNlY3JldA=="
    items_of(reader_of(source(full)))
    assert "authorization" not in full.log[-1].headers


@pytest.mark.parametrize(
    ("auth", "environment", "told"),
    [
        (None, {KEY: "key"}, "go together"),
        ("env:NOT_SET", {}, "NOT_SET, which is not set"),
        ("env:NO_COLON", {}, "is not user:password"),
        ("file:relative", {}, "relative path"),
        ("file:/nowhere/at/all", {}, "not there"),
    ],
)
def test_a_login_that_cannot_be_had_ends_the_reading(
    full: Feed, auth: str | None, environment: dict[str, str], told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_COLON", "hunter2")
    text = refusal(source(full, access=Access(auth, LOCAL.allow_networks)), environment)
    assert told in text
    assert "hunter2" not in text
    assert full.log == []


@pytest.mark.parametrize(
    "fault",
    [
        Answer(429, headers=(("Retry-After", "0"),)),
        Answer(503),
        Answer(520),
        Answer(fault="reset"),
        Answer(fault="close"),
        Answer(fault="cut_headers"),
        Answer(fault="cut_body", body=b'{"statements":['),
        Answer(fault="reset_body"),
        Answer(fault="garbage"),
        Answer(fault="close_after", body=b'{"statements":[],"more":"/xAPI/statements?begin=0"}'),
    ],
    ids=lambda answer: f"{answer.status}-{answer.fault}",
)
def test_what_may_pass_is_tried_again_and_no_statement_comes_twice(full: Feed, fault: Answer) -> None:
    full.faults = [fault, fault]
    reader = reader_of(source(full))
    if fault.fault == "close_after":
        full.faults = [fault]  # a page that is good, on a connection that ends after it without a word
    assert items_of(reader) == STATEMENTS


def test_a_page_that_breaks_off_in_the_middle_of_the_feed_is_asked_for_again(full: Feed) -> None:
    original, asked = full.script, iter(range(100))

    def script(arrival: Arrival) -> Answer:
        answer = original(arrival)
        if "begin=3" in arrival.request_line and next(asked) < 2:
            return Answer(body=answer.body, fault="cut_body")
        return answer

    full.script = script
    assert items_of(reader_of(source(full))) == STATEMENTS


def test_who_stays_away_is_given_up_after_the_outage_budget(full: Feed) -> None:
    full.faults = [Answer(503)] * 10_000
    told = refusal(source(full, access=Access(None, LOCAL.allow_networks, 0.001, 0.05)))
    assert "0.05 s (--outage_budget)" in told
    assert "HTTP status 503" in told


def test_a_run_that_is_to_stop_waits_for_nobody(full: Feed) -> None:
    full.faults = [Answer(503)] * 10_000
    reader = LrsReader(source(full), lambda: len(full.log) > 2, {})
    assert items_of(reader) == []
    assert reader.stopped


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (Answer(401), f"see {KEY}"),
        (Answer(403), "allowed to read statements"),
        (Answer(404), "ends in /statements"),
        (Answer(302, headers=(("Location", "https://elsewhere.example/?key=1"),)), "give the address it leads to"),
        (Answer(400, body=b"no such \x01 verb, says hunter2"), "HTTP status 400: no such   verb, says [redacted]"),
        (Answer(body=b"<html>"), "statements resource"),
        (Answer(headers=(("Content-Encoding", "gzip"),), body=b"\x1f\x8b"), "content encoding"),
    ],
    ids=lambda value: str(getattr(value, "status", "")),
)
def test_what_will_not_pass_ends_the_reading_at_once(full: Feed, answer: Answer, told: str) -> None:
    full.faults = [answer]
    text = refusal(source(full, "?agent=secretive"), {KEY: "key", SECRET: "hunter2"})
    assert told in text
    assert "secretive" not in text
    assert "elsewhere" not in text
    assert len(full.asked()) == 1


@pytest.mark.parametrize(
    "more",
    [
        "http://127.0.0.1:1{}",
        "https://elsewhere.example{}",
        "//elsewhere.example{}",
        "https://127.0.0.1{}",
        "ftp://127.0.0.1{}",
        "http://[broken{}",
    ],
)
def test_another_origin_is_not_asked(full: Feed, more: str) -> None:
    full.more = more.format
    assert "another host" in refusal(source(full), {KEY: "key", SECRET: "hunter2"})
    assert len(full.asked()) == 1


def test_an_absolute_address_of_the_same_origin_is_asked_and_one_with_a_user_is_not(full: Feed) -> None:
    full.more = f"http://127.0.0.1:{full.port}{{}}".format
    assert items_of(reader_of(source(full))) == STATEMENTS
    full.more = f"http://a:b@127.0.0.1:{full.port}{{}}".format
    assert "another host" in refusal(source(full))


def test_circles_end(full: Feed) -> None:
    full.more = lambda path: "/xAPI/statements?begin=0"
    assert "circle" in refusal(source(full)) or "same page" in refusal(source(full))
    counter = iter(range(10_000))
    full.more = lambda path: f"/xAPI/statements?begin=0&token={next(counter)}"
    assert "gives the same page again and again" in refusal(source(full))
    full.statements, full.script = [], lambda arrival: _empty(arrival, next(counter))
    assert "one empty page after the other" in refusal(source(full))


def _empty(arrival: Arrival, number: int) -> Answer:
    if "about" in arrival.request_line:
        return Answer(404)
    return Answer(body=b'{"statements":[],"more":"/xAPI/statements?token=%d"}' % number)


def test_empty_pages_before_the_end_are_passed(full: Feed) -> None:
    full.faults = [Answer(body=b'{"statements":[],"more":"/xAPI/statements?begin=0"}')]
    assert items_of(reader_of(source(full))) == STATEMENTS


def test_a_page_has_a_bound(full: Feed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lrs_client, "PAGE_LIMIT", 500)
    assert "add limit=100" in refusal(source(full))
    monkeypatch.setattr(lrs_client, "PAGE_LIMIT", 100_000)
    full.faults = [Answer(fault="endless_body")]
    assert "add limit=100" in refusal(source(full))


def test_the_address_guard_holds(full: Feed) -> None:
    told = refusal(LrsSource(full.resource, Access()))
    assert "127.0.0.1 is refused: loopback; --allow_network" in told
    assert full.connections == 0


def test_a_certificate_is_checked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    server = FaultServer(lambda arrival: Answer(body=b'{"statements":[{}]}'), tls=context)
    with in_thread(server):
        there = LrsSource(f"https://127.0.0.1:{server.port}/statements", LOCAL)
        assert "its certificate is not valid" in refusal(there)
        assert server.log == []
        authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
        assert items_of(reader_of(there)) == [b"{}"]


# Attachments


def page_with_attachments(statements: list[bytes], data: list[tuple[str, bytes]]) -> Answer:
    return with_attachments(b'{"statements":[%b]}' % b",".join(statements), data)


DATA = [b"", b"\r\n--c\r\n" * 1000, bytes(range(256)) * 3000]


def test_the_data_of_attachments_is_kept_by_its_hash(full: Feed, tmp_path: Path) -> None:
    pairs = [(sha256(content).hexdigest(), content) for content in DATA] + [(sha512(b"x").hexdigest().upper(), b"x")]
    full.faults = [page_with_attachments(STATEMENTS[:2], pairs)]
    access = Access(None, LOCAL.allow_networks, attachments=str(tmp_path / "attachments"))
    assert items_of(reader_of(source(full, "?attachments=true", access))) == STATEMENTS[:2]
    assert full.log[-1].headers["accept"] == "multipart/mixed, application/json"
    kept = {path.name: path.read_bytes() for path in (tmp_path / "attachments").iterdir()}
    assert kept == {digest.lower(): content for digest, content in pairs if content}


@pytest.mark.parametrize("digest", [sha256(b"other").hexdigest(), "", "../../../etc/passwd", "0" * 40, "g" * 64])
def test_data_that_does_not_match_its_hash_is_a_reject_and_is_not_kept(full: Feed, tmp_path: Path, digest: str) -> None:
    full.faults = [page_with_attachments(STATEMENTS[:2], [(digest, b"data")])]
    access = Access(None, LOCAL.allow_networks, attachments=str(tmp_path))
    refused, read = reader_of(source(full, "?attachments=true", access)).blocks()
    assert isinstance(refused, Broken)
    assert (refused.reason, refused.content, refused.length) == (NOT_ITS_HASH, b"data", 4)
    assert isinstance(read, Block)
    assert read.items == STATEMENTS[:2]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "answer",
    [
        Answer(headers=(("Content-Type", "multipart/mixed"),), body=b"--b--"),
        Answer(headers=(("Content-Type", "multipart/mixed; boundary=c"),), body=b"--b--"),
        Answer(headers=(("Content-Type", "multipart/mixed; boundary=b"),), body=b"--b--"),
        Answer(headers=(("Content-Type", "multipart/mixed; boundary=b"),), body=b"--b\r\nA: 1\r\n\r\n{}"),
    ],
    ids=["no boundary", "another boundary", "no part", "no end"],
)
def test_multipart_that_cannot_be_read_ends_the_reading(full: Feed, answer: Answer) -> None:
    full.faults = [answer]
    assert "statements resource" in refusal(source(full, "?attachments=true"))


# Positions


def scheduled(feed: Feed) -> LrsSource:
    return source(feed).going_on_from(None)


def position_after(feed: Feed, going_on: LrsSource) -> Position | None:
    reader = reader_of(going_on)
    list(reader.blocks())
    return reader.position


def test_the_next_run_goes_on_before_what_the_lrs_says_is_complete(full: Feed) -> None:
    through = FIRST_STORED + 5 * 60_000
    full.through = rfc3339(through)
    position = position_after(full, scheduled(full))
    assert position == Position(stored=through)
    items_of(reader_of(source(full).going_on_from(position)))
    since = rfc3339(through - OVERLAP_MS)
    assert full.asked()[-1].startswith(f"/xAPI/statements?since={since}") or full.asked()[-1].startswith(
        f"/xAPI/statements?since={since}&begin"
    )


def test_without_that_it_goes_on_before_the_latest_statement(full: Feed) -> None:
    assert position_after(full, scheduled(full)) == Position(stored=FIRST_STORED + 7 * 60_000)


def test_the_earliest_of_what_the_pages_say_counts(full: Feed) -> None:
    original = full.script
    minutes = iter((30, 2, 40))

    def script(arrival: Arrival) -> Answer:
        if "/statements" in arrival.request_line:
            full.through = rfc3339(FIRST_STORED + next(minutes) * 60_000)
        return original(arrival)

    full.script = script
    assert position_after(full, scheduled(full)) == Position(stored=FIRST_STORED + 2 * 60_000)


def test_a_time_ahead_of_the_clock_of_the_lrs_moves_no_position_there(full: Feed) -> None:
    ahead = json.loads(STATEMENTS[0]) | {"stored": "2099-01-01T00:00:00.000Z"}
    full.statements = [json.dumps(ahead).encode()]
    original = full.script

    def script(arrival: Arrival) -> Answer:
        answer = original(arrival)
        return Answer(body=answer.body, headers=(("Date", "Thu, 01 Jan 2026 12:00:00 GMT"),))

    full.script = script
    assert position_after(full, scheduled(full)) == Position(stored=FIRST_STORED + 12 * 3_600_000)


def test_nothing_new_has_no_position(feed: Feed) -> None:
    assert position_after(feed, scheduled(feed)) is None


@pytest.mark.parametrize("late", [3, 60_000, 10**10])
def test_an_lrs_that_goes_by_timestamp_is_found_out_and_read_again_as_a_whole(
    full: Feed, late: int, caplog: pytest.LogCaptureFixture
) -> None:
    for number in (0, 5):
        stored = FIRST_STORED + number * 60_000
        full.statements[number] = json.dumps(
            json.loads(STATEMENTS[number]) | {"timestamp": rfc3339(stored - late)}
        ).encode()
    assert position_after(full, scheduled(full)) == Position(stored=FIRST_STORED + 7 * 60_000)
    assert caplog.text == ""
    full.since_is_of = "timestamp"
    assert position_after(full, scheduled(full)) == NOWHERE
    assert "goes by `timestamp`" in caplog.text
    assert scheduled(full).going_on_from(NOWHERE) == scheduled(full)


def test_what_the_url_asks_for_stays_where_it_is_later() -> None:
    early, late = Position(stored=FIRST_STORED), Position(stored=FIRST_STORED + 10 * OVERLAP_MS)
    there = LrsSource("https://lrs.example/statements?since=2026-01-01T00:30:00Z&verb=v")

    def first_of(position: Position | None) -> str:
        source = there.going_on_from(position)
        return source.target(source.since)

    assert first_of(None) == "/statements?since=2026-01-01T00:30:00Z&verb=v&ascending=true"
    assert first_of(early) == "/statements?since=2026-01-01T00:30:00Z&verb=v&ascending=true"
    assert first_of(late) == "/statements?verb=v&since=2026-01-01T01:30:00.000Z&ascending=true"


def test_another_selection_has_another_key_and_the_shape_of_pages_has_not() -> None:
    def key(query: str) -> str:
        return LrsSource(f"https://lrs.example/statements{query}").key

    assert key("") == key("?limit=5&ascending=true&format=exact")
    assert key("?verb=a&since=2026-01-01T00:00:00Z") == key("?since=2026-01-01T00:00:00Z&limit=3&verb=a")
    assert len({key(""), key("?verb=a"), key("?verb=b"), key("?since=2026-01-01T00:00:00Z")}) == 4
    assert "mailto" not in key("?agent=%7B%22mbox%22:%22mailto:a@b.example%22%7D")


def test_a_date_in_retry_after_is_by_the_clock_of_the_lrs(full: Feed) -> None:
    then = "Sat, 01 Jan 2050 00:00:00 GMT"
    full.faults = [Answer(503, headers=(("Date", then), ("Retry-After", then)))]
    patient = Access(allow_networks=LOCAL.allow_networks, max_backoff=60, outage_budget=20)
    # By our own clock it would be a wait of years, which is cut to 60 s and is more than the budget.
    assert items_of(reader_of(source(full, access=patient))) == STATEMENTS


def test_parts_of_an_answer_are_never_in_memory_together(full: Feed) -> None:
    items_of(reader_of(source(full)))  # What is imported for it is not measured.
    count = 20_000
    body = b'--b\r\n\r\n{"statements":[]}' + b"\r\n--b\r\n\r\n" * count + b"\r\n--b--"
    full.faults = [Answer(headers=(("Content-Type", "multipart/mixed; boundary=b"),), body=body)]
    reader = reader_of(source(full, "?attachments=true"))
    tracemalloc.start()
    try:
        refused = sum(isinstance(block, Broken) for block in reader.blocks())
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert refused == count
    assert peak < 3_000_000, "an LRS may send 100 million of them"


def test_a_full_disk_here_is_told_and_is_not_said_of_the_lrs(full: Feed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lrs_client, "_IN_MEMORY", 64)
    reader = reader_of(source(full))
    with (
        files_of_at_most(100),
        pytest.raises(StorageError, match=r"\(TMPDIR\) cannot be written: File too large; allow"),
    ):
        items_of(reader)
    assert len(full.asked()) == 1, "it was asked again, as if the LRS were to blame"


def test_a_lack_of_descriptors_here_is_told_and_is_not_said_of_the_lrs(
    full: Feed, monkeypatch: pytest.MonkeyPatch
) -> None:
    def nothing_left(*_: object, **__: object) -> NoReturn:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr("socket.getaddrinfo", nothing_left)
    told = refusal(source(full))
    assert "this machine lacks something: Too many open files: allow this process more open files (`ulimit -n`)" in told
    assert "when the source is well" not in told
