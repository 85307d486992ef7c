"""Which source a location names, and what is refused at the command line."""

import pickle

import pytest

from transforms.sources.base import Access, StatementSource
from transforms.sources.credentials import Login, reference_problem
from transforms.sources.locations import is_source, source_at, source_problem


@pytest.mark.parametrize(
    "location",
    [
        "https://lrs.example/xAPI/statements",
        "https://lrs.example:8443/statements?since=2026-01-01T00:00:00Z&limit=10&format=exact&ascending=true",
        "http://[::1]:8080/xapi/statements?agent=%7B%7D&attachments=false",
        "mongodb://host/learninglocker_v2.statements",
        "mongodb://a:27017,b:27018/db.statements?replicaSet=rs0&readPreference=secondary",
        "mongodb+srv://cluster.example/db.some.statements",
    ],
)
def test_a_source_is_known_and_nothing_is_wrong_with_it(location: str) -> None:
    assert is_source(location)
    assert source_problem(location) is None
    source: StatementSource = source_at(location, Access("env:NAME"))
    assert pickle.loads(pickle.dumps(source)) == source  # noqa: S301
    assert source.name == location.partition("?")[0]


@pytest.mark.parametrize(
    ("location", "told"),
    [
        ("https://key:hunter2@lrs.example/statements", "holds a user"),
        ("https://hunter2@lrs.example/statements", "holds a user"),
        ("https:///statements", "not the address"),
        ("https://lrs.example:0/statements", "not the address"),
        ("https://lrs.example:x/statements", "not a url"),
        ("https://lrs.example/statements#hunter2", "not the address"),
        ("https://lrs.example/a b/statements", "not the address"),
        ("https://lrs.example/xAPI", "does not end in /statements"),
        ("https://lrs.example/xAPI/statements/?limit=1", "does not end in /statements"),
        ("https://lrs.example/statements?ascending=false", "leave `ascending` out"),
        ("https://lrs.example/statements?format=ids", "leave `format` out"),
        ("https://lrs.example/statements?statementId=hunter2", "leave `statementId` out"),
        ("https://lrs.example/statements?since=yesterday", "`since`: 'yesterday'"),
        ("mongodb://key:hunter2@host/db.statements", "holds a user"),
        ("mongodb://host/db.statements?tlsCertificateKeyFilePassword=hunter2", "is a password"),
        ("mongodb://host/db", "names no collection"),
        ("mongodb://host/", "names no collection"),
        ("mongodb://host", "names no collection"),
        ("mongodb:///db.statements", "names no collection"),
    ],
)
def test_what_is_wrong_with_a_location_is_told_without_repeating_it(location: str, told: str) -> None:
    problem = source_problem(location)
    assert problem is not None
    assert told in problem
    assert "hunter2" not in problem


@pytest.mark.parametrize("location", ["in/*.jsonl", "-", "s3://bucket/in.jsonl", "kinesis://stream?region=eu-west-1"])
def test_files_and_streams_are_no_sources(location: str) -> None:
    assert not is_source(location)


@pytest.mark.parametrize("reference", ["env:LRS", "file:/run/secrets/lrs"])
def test_a_reference_to_a_login(reference: str) -> None:
    assert reference_problem(reference) is None


@pytest.mark.parametrize("reference", ["key:hunter2", "hunter2", "", "env:", "file:", "env:hunter2-"])
def test_what_is_no_reference_is_not_repeated(reference: str) -> None:
    problem = reference_problem(reference)
    assert problem is not None
    assert "hunter2" not in problem


def test_a_login_does_not_show_itself() -> None:
    assert "hunter2" not in repr(Login("key", "hunter2"))
    assert "hunter2" not in f"{Login('key', 'hunter2')}"


@pytest.mark.parametrize(
    ("location", "warned"),
    [
        ("http://lrs.example/statements", True),
        ("http://127.0.0.1:8080/statements", False),
        ("http://localhost/statements", False),
        ("https://lrs.example/statements", False),
        ("mongodb://host/db.statements", False),
    ],
)
def test_who_sends_a_login_in_the_clear_is_warned(location: str, warned: bool) -> None:
    assert (source_at(location, Access()).warning is not None) == warned
