"""The signer against botocore's own."""

import datetime
from typing import Any
from urllib.parse import urlsplit

import botocore.auth
import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import ReadOnlyCredentials
from hypothesis import given
from hypothesis import strategies as st

from transforms.sinks.sigv4 import Signer

KEYS = st.text("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/+=", min_size=1, max_size=60)
CREDENTIALS = st.builds(ReadOnlyCredentials, KEYS, KEYS, st.none() | KEYS)
HEADERS = {"Content-Type": "application/x-amz-json-1.1", "X-Amz-Target": "Kinesis_20131202.PutRecords"}


def as_botocore_signs(
    url: str, body: bytes, credentials: ReadOnlyCredentials, region: str, service: str, now: float, headers: Any
) -> str:
    request = AWSRequest("POST", url, headers, body)
    moment = datetime.datetime.fromtimestamp(now, datetime.UTC)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(botocore.auth, "get_current_datetime", lambda *_, **__: moment)
        SigV4Auth(credentials, service, region).add_auth(request)
    told = [f"X-Amz-Date: {request.headers['X-Amz-Date']}\r\n"]
    if credentials.token:
        told.append(f"X-Amz-Security-Token: {request.headers['X-Amz-Security-Token']}\r\n")
    return "".join([*told, f"Authorization: {request.headers['Authorization']}\r\n"])


@given(
    bodies=st.lists(st.binary(max_size=200), min_size=1, max_size=3),
    sets=st.lists(CREDENTIALS, min_size=1, max_size=2),
    region=st.sampled_from(["us-east-1", "eu-west-1", "us-gov-west-1", "cn-north-1"]),
    service=st.sampled_from(["kinesis", "firehose"]),
    # In milliseconds: botocore's clock rounds to microseconds, which a float just below a second shows.
    moments=st.lists(st.integers(0, 4_000_000_000_000).map(lambda ms: ms / 1000), min_size=1, max_size=3),
    more=st.dictionaries(st.sampled_from(["X-Amz-A", "X-Amz-E", "X-Amz-Z", "A"]), KEYS, max_size=3),
    host=st.sampled_from(["kinesis.eu-west-1.amazonaws.com", "127.0.0.1:4566", "[::1]:4566"]),
)
def test_the_signature_is_botocore_s(
    bodies: list[bytes],
    sets: list[ReadOnlyCredentials],
    region: str,
    service: str,
    moments: list[float],
    more: dict[str, str],
    host: str,
) -> None:
    headers = {**HEADERS, **more}
    url = f"https://{host}/"
    assert urlsplit(url).netloc == host
    signer = Signer(region, service, "/", {**{name.lower(): value for name, value in headers.items()}, "host": host})
    # One signer for all of them: what it keeps from one to the next must not show.
    for now in moments:
        for credentials in sets:
            for body in bodies:
                expected = as_botocore_signs(url, body, credentials, region, service, now, headers)
                assert signer.lines(body, credentials, now) == expected


def test_the_day_of_the_key_is_that_of_the_date() -> None:
    signer = Signer("us-east-1", "kinesis", "/", {"host": "h"})
    credentials = ReadOnlyCredentials("AKID", "secret", None)
    midnight = 1_800_000_000 // 86_400 * 86_400
    for now in (midnight - 0.001, midnight, midnight + 86_400.0, midnight - 1):
        expected = as_botocore_signs("https://h/", b"{}", credentials, "us-east-1", "kinesis", now, {})
        assert signer.lines(b"{}", credentials, now) == expected


def test_nothing_secret_shows() -> None:
    signer = Signer("us-east-1", "kinesis", "/", {"host": "h"})
    signer.lines(b"", ReadOnlyCredentials("AKID", "very-secret", "very-secret-token"), 0.0)
    assert "secret" not in repr(signer)
