"""Fixtures of the tests of the steps and their cores."""

from collections.abc import Iterator

import pytest

from tests.support.laboratory.aws_fake import AwsFake


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Iterator[AwsFake]:
    """A Kinesis and Firehose with faults by script, which every AWS client of the test talks to."""
    with AwsFake() as server:
        monkeypatch.setenv("AWS_ENDPOINT_URL", server.endpoint)
        yield server
