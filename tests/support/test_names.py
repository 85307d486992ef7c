"""Names of tests: the same in every process that collects them."""

import gzip

import pytest


@pytest.mark.parametrize("content", [gzip.compress(b"made at another second by every worker of pytest-xdist")])
def test_a_parameter_of_bytes_is_named_after_its_argument(content: bytes, request: pytest.FixtureRequest) -> None:
    assert content.startswith(b"\x1f\x8b")
    assert request.node.name == "test_a_parameter_of_bytes_is_named_after_its_argument[content]"
