"""A document that asks for no batches, compression, limit or OAuth 2.0 sends as before these were there."""

import base64
from collections.abc import Sequence
from typing import Any

import pytest

from tests.support.http_sink import delivered, http_item, loaded_forwarder, statement_item
from tests.support.laboratory.http_fault_server import FaultServer, in_thread
from transforms.delivery.policy import DeliverySettings
from transforms.sinks.base import Item
from transforms.sinks.user_agent import USER_AGENT

STATEMENT = b'{"id":"3f2a1c9e-0000-4000-8000-000000000001",\n "actor":{"mbox":"mailto:a@b.c"},"version":"1.0.1"}'
ALWAYS = {"content-type": "application/json", "user-agent": USER_AGENT, "accept": "*/*", "accept-encoding": "identity"}
BASIC = "Basic " + base64.b64encode(b"ann:secret").decode()
EXPECTED: list[tuple[dict[str, Any], Item, dict[str, str]]] = [
    ({}, http_item("id-7"), {"idempotency-key": "id-7", "x-forward-hops": "1"}),
    ({}, http_item("id-7", hops=3), {"idempotency-key": "id-7", "x-forward-hops": "4"}),
    (
        {"authType": "token", "secret": "t", "headers": '{"X-Own":"yes"}'},
        http_item("id-8"),
        {"authorization": "Bearer t", "x-own": "yes", "idempotency-key": "id-8", "x-forward-hops": "1"},
    ),
    (
        {"authType": "basic auth", "basicUsername": "ann", "basicPassword": "secret"},
        http_item("id-9", kind="statement"),
        {
            "authorization": BASIC,
            "x-experience-api-version": "1.0.3",
            "idempotency-key": "id-9",
            "x-forward-hops": "1",
        },
    ),
    (
        {},
        statement_item(STATEMENT),
        {
            "x-experience-api-version": "1.0.1",
            "idempotency-key": "3f2a1c9e-0000-4000-8000-000000000001",
            "x-forward-hops": "1",
        },
    ),
]
ASKING_FOR_NOTHING: list[dict[str, Any]] = [{}, {"batch": {"records": 1}}, {"compression": "none", "rateLimit": {}}]


def deliver(configuration: dict[str, Any], due: Sequence[Item]) -> FaultServer:
    server = FaultServer()
    with in_thread(server):
        document = {"protocol": "http", "url": f"127.0.0.1:{server.port}/in?a=b", **configuration}
        delivered(loaded_forwarder(document), due, DeliverySettings())
    return server


@pytest.mark.parametrize("nothing", ASKING_FOR_NOTHING)
@pytest.mark.parametrize(("configuration", "item", "headers"), EXPECTED)
def test_a_request_is_what_it_was(
    configuration: dict[str, Any], item: Item, headers: dict[str, str], nothing: dict[str, Any]
) -> None:
    server = deliver({**configuration, **nothing}, [item])
    (arrival,) = server.log
    assert arrival.request_line == "POST /in?a=b HTTP/1.1"
    assert arrival.headers.pop("host") == f"127.0.0.1:{server.port}"
    assert arrival.headers.pop("content-length") == str(len(item.payload))
    assert list(arrival.headers.items()) == [*ALWAYS.items(), *headers.items()], "in this order, too"
    assert arrival.body == item.payload
