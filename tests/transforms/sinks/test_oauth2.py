"""Tokens of a real authorization server: one for all requests, renewed, refused, and nowhere to be read."""

import base64
import json
import logging
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any
from urllib.parse import unquote_plus

import pytest

from tests.support.http_sink import LOCAL, delivered, loaded_forwarder
from tests.support.laboratory.http_fault_server import Answer, Arrival, FaultServer, in_thread
from tests.support.ports import free_port
from tests.support.records import items
from tests.support.token_server import CLIENT, SECRET, TokenServer
from transforms.delivery.lane_sender import LaneCounts
from transforms.delivery.policy import DeliverySettings
from transforms.sinks.addresses import AddressGuard
from transforms.sinks.base import Item, Settlement

FAST = DeliverySettings(max_backoff=0.02, outage_budget=20.0, linger=0.002)


class Lab:
    """A token server, and a receiver that wants its tokens."""

    def __init__(self, life: int = 3600) -> None:
        self.tokens = TokenServer(life)
        self.before: Callable[[int], None] = lambda number: None
        self.stored: list[Arrival] = []
        self.receiver = FaultServer(self._answer)
        self.seen = 0

    def _answer(self, arrival: Arrival) -> Answer:
        self.before(self.seen)
        self.seen += 1
        authorization = arrival.headers.get("authorization")
        if not self.tokens.is_good(authorization):
            return Answer(401, body=f"{authorization} is not good".encode())
        self.stored.append(arrival)
        return Answer(200)

    def deliver(
        self,
        due: Sequence[Item],
        configuration: dict[str, Any] | None = None,
        settings: DeliverySettings = FAST,
        allow: Sequence[str] = LOCAL,
    ) -> tuple[list[Settlement], LaneCounts]:
        with ExitStack() as stack:
            url = stack.enter_context(self.tokens.running())
            stack.enter_context(in_thread(self.receiver))
            document = {
                "protocol": "http",
                "url": f"127.0.0.1:{self.receiver.port}/in",
                "authType": "oauth2",
                "tokenUrl": url,
                "clientId": CLIENT,
                "clientSecret": SECRET,
                **(configuration or {}),
            }
            return delivered(loaded_forwarder(document), due, settings, allow)


def due_items(users: int, each: int) -> list[Item]:
    return items(users, each, "f1")


def all_delivered(settled: Sequence[Settlement]) -> bool:
    return all(each.delivered and each.item.attempts == 1 for each in settled)


def test_one_token_serves_all_requests_however_many_begin_at_once() -> None:
    lab = Lab()
    settled, _ = lab.deliver(due_items(30, 3), {"scope": "statements/write none", "audience": "urn:lrs"})
    assert all_delivered(settled)
    (asked,) = lab.tokens.asked
    assert {asked[name] for name in ("grant_type", "scope", "audience")} == {
        "client_credentials",
        "statements/write none",
        "urn:lrs",
    }
    user, _, password = base64.b64decode(asked["authorization"].removeprefix("Basic ")).decode().partition(":")
    assert (unquote_plus(user), unquote_plus(password)) == (CLIENT, SECRET)


def test_a_client_may_show_itself_in_the_body() -> None:
    lab = Lab()
    settled, _ = lab.deliver(due_items(3, 1), {"clientAuth": "post"})
    assert all_delivered(settled)
    (asked,) = lab.tokens.asked
    assert (asked["client_id"], asked["client_secret"], asked["authorization"]) == (CLIENT, SECRET, None)


@pytest.mark.parametrize("batch", [{}, {"batch": {"records": 5}}])
def test_a_token_that_is_revoked_is_renewed_and_costs_no_attempt(batch: dict[str, Any]) -> None:
    lab = Lab()
    lab.before = lambda number: lab.tokens.revoke() if number in (3, 11) else None
    settled, _ = lab.deliver(due_items(20, 5), {**batch, "maxRetries": 0, "concurrency": 1})
    assert all_delivered(settled)
    assert len(lab.tokens.asked) == 3
    keys = [arrival.key for arrival in lab.receiver.log]
    assert len(keys) == len(set(keys)) + 2, "each was sent again once"


def test_a_token_is_renewed_before_it_ends() -> None:
    lab = Lab(life=1)
    settled, _ = lab.deliver(due_items(1, 60), {"rateLimit": {"requests": 30, "burst": 1}})
    assert all_delivered(settled)
    assert len(lab.tokens.asked) >= 2
    assert all(arrival.answer.status == 200 for arrival in lab.receiver.log), "no request had one that had ended"


def test_a_token_endpoint_that_is_down_is_an_outage_that_spends_no_attempt() -> None:
    lab = Lab()
    lab.tokens.status = 503

    class Asked(list[dict[str, Any]]):
        def append(self, asked: dict[str, Any]) -> None:
            super().append(asked)
            if len(self) == 5:
                lab.tokens.status = None

    lab.tokens.asked = Asked()
    settled, _ = lab.deliver(due_items(10, 3), {"maxRetries": 0})
    assert all_delivered(settled)
    assert len(lab.tokens.asked) == 5


@pytest.mark.parametrize(
    ("configuration", "reason"),
    [
        ({"clientSecret": "hunter-wrong"}, "oauth2_invalid_client"),
        ({"clientId": "nobody", "clientAuth": "post"}, "oauth2_invalid_client"),
    ],
)
def test_an_endpoint_that_refuses_opens_the_breaker(
    configuration: dict[str, Any], reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    lab = Lab()
    settings = DeliverySettings(max_backoff=0.05, outage_budget=0.5)
    settled, _ = lab.deliver(due_items(20, 3), {**configuration, "maxRetries": 5}, settings)
    assert not lab.receiver.log
    assert all(each.item.attempts == 0 and not each.delivered for each in settled)
    told = {each.outcome.reason for each in settled}
    assert told <= {"unavailable", reason}
    assert any(reason in (each.outcome.response or "") for each in settled)
    assert caplog.text.count(reason) >= 1
    assert "hunter" not in caplog.text
    assert len(lab.tokens.asked) < 60, "the breaker spares the endpoint"


def test_an_endpoint_that_nobody_serves_is_an_outage() -> None:
    lab = Lab()
    settings = DeliverySettings(max_backoff=0.05, outage_budget=0.3)
    gone = {"tokenUrl": f"http://127.0.0.1:{free_port()}/token"}
    settled, _ = lab.deliver(due_items(2, 3), gone, settings)
    assert {each.outcome.reason for each in settled} <= {"unavailable", "oauth2_connection_refused"}
    assert not any(each.item.attempts for each in settled)


def test_a_receiver_that_takes_no_token_is_not_asked_for_ever() -> None:
    lab = Lab()
    lab.before = lambda number: lab.tokens.revoke()
    settled, _ = lab.deliver(due_items(10, 1), {"concurrency": 1})
    assert {each.outcome.reason for each in settled} == {"http_401"}
    assert len(lab.tokens.asked) == 2, "a new one that is refused as well is not renewed again and again"
    for each in settled:
        assert "hunter" not in (each.outcome.response or "")
        assert "is not good" in (each.outcome.response or "")


@pytest.mark.parametrize("quoted", ["hunter2_of_the_client", "no_hunter2_of_the_client_here"])
def test_an_error_of_the_endpoint_that_quotes_the_secret_is_not_told(
    quoted: str, caplog: pytest.LogCaptureFixture
) -> None:
    lab = Lab()
    endpoint = FaultServer(lambda arrival: Answer(400, body=json.dumps({"error": quoted}).encode()))
    with in_thread(endpoint):
        configuration = {
            "tokenUrl": f"http://127.0.0.1:{endpoint.port}/token",
            "clientSecret": "Hunter2_of_the_client",
        }
        settings = DeliverySettings(max_backoff=0.05, outage_budget=0.2)
        settled, _ = lab.deliver(due_items(1, 2), configuration, settings)
    assert any("oauth2_http_400" in (each.outcome.response or "") for each in settled)
    assert "hunter2" not in f"{settled} {caplog.text}"


@pytest.mark.parametrize("allow", [(), ("10.0.0.0/8",)])
def test_the_address_guard_is_for_the_endpoint_too(allow: tuple[str, ...]) -> None:
    lab = Lab()
    settings = DeliverySettings(max_backoff=0.05, outage_budget=0.2)
    settled, _ = lab.deliver(due_items(1, 1), {}, settings, allow)
    assert not lab.tokens.asked
    assert settled[0].outcome.reason in ("unavailable", "oauth2_address_refused")


def test_over_http_only_a_network_that_is_named_is_asked() -> None:
    assert AddressGuard(named_only=True).refusal("93.184.216.34") == "not within --allow_network"
    assert AddressGuard(["93.184.216.0/24"], named_only=True).refusal("93.184.216.34") is None
    assert AddressGuard(["93.184.216.0/24"], named_only=True).refusal("127.0.0.1") is not None


@pytest.mark.parametrize(
    "answer",
    [
        b"{}",
        b"no json",
        b'{"access_token":"a b","token_type":"bearer"}',
        b'{"access_token":"ab","token_type":"mac"}',
        b'{"access_token":"ab","expires_in":"soon"}',
        b'{"access_token":"ab\\r\\nX-Evil: 1"}',
    ],
)
def test_what_is_no_token_is_not_sent(answer: bytes) -> None:
    lab = Lab()
    endpoint = FaultServer(lambda arrival: Answer(200, body=answer))
    with in_thread(endpoint):
        settings = DeliverySettings(max_backoff=0.05, outage_budget=0.2)
        url = {"tokenUrl": f"http://127.0.0.1:{endpoint.port}/token"}
        settled, _ = lab.deliver(due_items(1, 2), url, settings)
    assert not lab.receiver.log
    assert {each.outcome.reason for each in settled} <= {"unavailable", "oauth2_bad_answer"}


def test_the_secret_and_the_tokens_are_nowhere(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    lab = Lab()

    def quoting(arrival: Arrival) -> Answer:
        authorization = arrival.headers["authorization"]
        token = authorization.removeprefix("Bearer ")
        basic = lab.tokens.asked[0]["authorization"].removeprefix("Basic ")
        texts = [authorization, token.upper(), base64.b64encode(token.encode()).decode(), SECRET, basic]
        return Answer(400, body=json.dumps(texts).encode())

    lab.receiver = FaultServer(quoting)
    settled, _ = lab.deliver(due_items(1, 3))
    tokens = list(lab.tokens.granted)
    assert tokens
    for each in settled:
        told = f"{each.outcome}"
        assert each.outcome.reason == "http_400"
        assert (each.outcome.response or "").count("[redacted]") >= 5
        for secret in (*tokens, SECRET):
            assert secret.lower() not in told.lower()
            assert base64.b64encode(secret.encode()).decode() not in told
    for secret in (*tokens, SECRET, json.dumps(SECRET)[1:-1]):
        assert secret not in caplog.text
