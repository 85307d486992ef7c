"""Documents that ask for batches, compression, a limited rate, OAuth 2.0 or aggregation."""

from typing import Any

import pytest

from tests.support.forwarder_documents import HTTP, KINESIS, changed, load, said
from transforms.forwarders.model import Batch, HttpTarget, KinesisTarget, OAuth2, RateLimit

OAUTH2 = {
    "configuration.authType": "oauth2",
    "configuration.tokenUrl": "https://login.example/token?tenant=hunter",
    "configuration.clientId": "us",
    "configuration.clientSecret": "hunter2",
}


def http_target(changes: dict[str, Any]) -> HttpTarget:
    loaded = load(changed(HTTP, changes))
    assert (said(loaded.faults), said(loaded.warnings)) == ([], [])
    target = loaded.forwarders[0].target
    assert isinstance(target, HttpTarget)
    return target


def test_a_document_that_asks_for_nothing_gets_nothing() -> None:
    target = http_target({})
    assert (target.batch, target.compression, target.rate_limit, target.oauth2) == (None, "none", None, None)
    assert http_target({"configuration.batch": {"records": 1}}).batch is None


def test_what_is_left_out_of_a_batch_has_its_default() -> None:
    assert http_target({"configuration.batch": {"records": 100}}).batch == Batch(
        100, 1024 * 1024, None, "array", "all_or_nothing"
    )
    given = {"records": 1000, "bytes": 1024, "wait": 0, "format": "lines", "outcome": "per_record"}
    assert http_target({"configuration.batch": given}).batch == Batch(1000, 1024, 0.0, "lines", "per_record")


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("batch.records", 1001, "is not a number above 0 and up to 1000"),
        ("batch.records", 2.5, "is not a whole number"),
        ("batch.bytes", 1023, "is not a number from 1024 to 10485760"),
        ("batch.wait", 61, "is not a number from 0 to 60"),
        ("batch.outcome", "207", 'is "207": it must be one of all_or_nothing, per_record'),
        ("batch", 5, "is not an object"),
        ("compression", "br", 'is "br": it must be one of none, gzip'),
        ("rateLimit.requests", 0, "is not a number above 0 and up to 1000000"),
        ("rateLimit.burst", 0.5, "is not a number from 1 to 1000000"),
    ],
)
def test_what_a_field_cannot_be_is_told_with_what_it_can_be(field: str, value: Any, message: str) -> None:
    loaded = load(changed(HTTP, {f"configuration.{field}": value}))
    assert said(loaded.faults) == [(f"configuration.{field}", message)]


@pytest.mark.parametrize(
    ("changes", "field", "beginning"),
    [
        ({"configuration.batch": {"bytes": 2048}}, "configuration.batch", "has no effect without batch.records"),
        ({"configuration.rateLimit": {"burst": 2}}, "configuration.rateLimit.burst", "has no effect without"),
        (
            {"configuration.compression": "gzip", "configuration.headers": '{"content-encoding": "br"}'},
            "configuration.headers.content-encoding",
            "has no effect with configuration.compression gzip",
        ),
        ({"configuration.batch": {"records": 5, "recrods": 5}}, "configuration.batch.recrods", "is not a known field"),
    ],
)
def test_what_has_no_effect_is_a_warning(changes: dict[str, Any], field: str, beginning: str) -> None:
    loaded = load(changed(HTTP, changes))
    assert not loaded.faults
    ((path, message),) = said(loaded.warnings)
    assert path == field
    assert message.startswith(beginning)


def test_a_batch_holds_no_attachments() -> None:
    loaded = load(changed(HTTP, {"sendAttachments": True, "configuration.batch": {"records": 2}}))
    ((path, message),) = said(loaded.faults)
    assert path == "sendAttachments"
    assert "stands beside configuration.batch" in message


def test_a_limit_is_of_requests_or_records_or_both() -> None:
    assert http_target({"configuration.rateLimit": {"requests": 0.5}}).rate_limit == RateLimit(0.5, None, None)
    given = {"requests": 50, "records": 1000, "burst": 10}
    assert http_target({"configuration.rateLimit": given}).rate_limit == RateLimit(50.0, 1000.0, 10.0)
    assert http_target({"configuration.rateLimit": {}}).rate_limit is None


def test_oauth2_has_its_endpoint_client_and_secret() -> None:
    oauth2 = http_target({**OAUTH2, "configuration.scope": "lrs:write all"}).oauth2
    assert isinstance(oauth2, OAuth2)
    assert oauth2.token_url.reveal() == "https://login.example/token?tenant=hunter"
    assert (oauth2.client_id, oauth2.scope, oauth2.audience, oauth2.client_auth) == (
        "us",
        "lrs:write all",
        None,
        "basic",
    )
    assert "hunter" not in repr(oauth2)


@pytest.mark.parametrize("absent", ["tokenUrl", "clientId", "clientSecret"])
def test_oauth2_cannot_do_without_these(absent: str) -> None:
    loaded = load(changed(HTTP, {**OAUTH2, f"configuration.{absent}": None}))
    assert said(loaded.faults) == [(f"configuration.{absent}", "is absent: authType oauth2 needs it")]


@pytest.mark.parametrize(
    ("field", "value", "beginning"),
    [
        ("tokenUrl", "login.example/token", "does not start with https://"),
        ("tokenUrl", "ftp://login.example/token", "does not start with https://"),
        ("tokenUrl", "https://me@login.example/token", "has user information before the host: leave it out, clientId"),
        ("tokenUrl", "https://login.example/token#x", "has a fragment"),
        ("scope", "a  b", "is not a list of scopes"),
        ("clientSecret", "", "is empty"),
    ],
)
def test_what_oauth2_does_not_take(field: str, value: str, beginning: str) -> None:
    ((path, message),) = said(load(changed(HTTP, {**OAUTH2, f"configuration.{field}": value})).faults)
    assert path == f"configuration.{field}"
    assert message.startswith(beginning)


def test_a_stream_may_hold_many_records_in_one() -> None:
    for aggregate in (True, False):
        target = load(changed(KINESIS, {"kinesisOptions.aggregate": aggregate})).forwarders[0].target
        assert isinstance(target, KinesisTarget)
        assert target.aggregate is aggregate


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("configuration.batch", {"records": 100}),
        ("configuration.rateLimit", {"requests": 5}),
        ("configuration.compression", "gzip"),
        ("configuration.signingSecret", "whsec_c2VjcmV0LW9uZQ=="),
        ("sendAttachments", True),
    ],
)
def test_what_counts_over_http_alone_is_a_warning_beside_kinesis(field: str, value: Any) -> None:
    loaded = load(changed(KINESIS, {field: value}))
    assert not loaded.faults
    assert said(loaded.warnings) == [(field, "has no effect with configuration.protocol Kinesis")]


def test_what_learning_locker_writes_into_any_document_is_no_warning_beside_kinesis() -> None:
    written = {"url": "a.example", "authType": "no auth", "headers": "{}", "secret": ""}
    changes = {f"configuration.{name}": value for name, value in written.items()}
    assert said(load(changed(KINESIS, {**changes, "sendAttachments": False})).warnings) == []
