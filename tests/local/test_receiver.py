"""The receiver's behaviour, seen through a plain HTTP client."""

import http.client
import ssl
from collections import Counter
from collections.abc import Iterator

import pytest
import trustme

from local.receiver import RETRY_AFTER, FaultPlan, InjectedFault, Receiver

NO_FAULTS = FaultPlan(seed=1, share=0)
ALL_FAIL = FaultPlan(seed=1, share=1)
PATHS = {"/open": None, "/token": "Bearer abc"}


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver(PATHS, NO_FAULTS) as running:
        yield running


def post(receiver: Receiver, path: str, key: str, authorization: str | None = None) -> http.client.HTTPResponse:
    """One request on a connection of its own; raises what http.client raises for a cut connection."""
    connection = http.client.HTTPConnection(receiver.http, timeout=5)
    headers = {"Idempotency-Key": key}
    if authorization:
        headers["Authorization"] = authorization
    connection.request("POST", path, body=key.encode(), headers=headers)
    return connection.getresponse()


def key_that_meets(plan: FaultPlan, fault: InjectedFault) -> str:
    return next(key for key in map(str, range(1000)) if plan.fault("/open", key, 0) is fault)


def test_it_remembers_what_came_in_order_and_deduplicates_nothing(receiver: Receiver) -> None:
    for key in ("b", "a", "b"):
        assert post(receiver, "/open", key).status == 200
    assert [(attempt.key, attempt.body, attempt.taken) for attempt in receiver.attempts("/open")] == [
        ("b", b"b", True),
        ("a", b"a", True),
        ("b", b"b", True),
    ]
    assert receiver.attempts("/token") == []


def test_each_path_asks_for_its_own_credentials(receiver: Receiver) -> None:
    assert post(receiver, "/token", "1", "Bearer abc").status == 200
    assert post(receiver, "/token", "2", "Bearer wrong").status == 401
    assert post(receiver, "/token", "3").status == 401
    assert post(receiver, "/open", "4", "Bearer abc").status == 401
    assert post(receiver, "/elsewhere", "5").status == 404
    assert [attempt.taken for attempt in receiver.attempts("/token")] == [True, False, False]


@pytest.mark.parametrize(("fault", "status"), [(InjectedFault.UNAVAILABLE, 503), (InjectedFault.THROTTLED, 429)])
def test_a_fault_with_an_answer_does_not_take_the_request(fault: InjectedFault, status: int) -> None:
    with Receiver(PATHS, ALL_FAIL) as receiver:
        response = post(receiver, "/open", key_that_meets(ALL_FAIL, fault))
        assert response.status == status
        assert response.headers["Retry-After"] == (str(RETRY_AFTER) if status == 429 else None)
        assert [attempt.taken for attempt in receiver.attempts("/open")] == [False]


@pytest.mark.parametrize(("fault", "taken"), [(InjectedFault.CUT, False), (InjectedFault.ANSWER_LOST, True)])
def test_a_cut_connection_answers_nothing(fault: InjectedFault, taken: bool) -> None:
    with Receiver(PATHS, ALL_FAIL) as receiver:
        with pytest.raises((http.client.RemoteDisconnected, ConnectionResetError)):
            post(receiver, "/open", key_that_meets(ALL_FAIL, fault))
        (attempt,) = receiver.attempts("/open")
        assert (attempt.taken, attempt.status) == (taken, None)


def test_a_body_cut_comes_after_the_status() -> None:
    with Receiver(PATHS, ALL_FAIL) as receiver:
        response = post(receiver, "/open", key_that_meets(ALL_FAIL, InjectedFault.BODY_CUT))
        assert response.status == 200
        with pytest.raises(http.client.IncompleteRead):
            response.read()
        assert receiver.attempts("/open")[0].taken


def test_faults_are_the_same_for_a_seed_and_end_after_two() -> None:
    keys = [str(number) for number in range(5000)]
    first = [FaultPlan(7).fault("/open", key, 0) for key in keys]
    assert first == [FaultPlan(7).fault("/open", key, 0) for key in keys]
    assert first != [FaultPlan(8).fault("/open", key, 0) for key in keys]
    counts = Counter(fault for fault in first if fault)
    assert set(counts) == set(InjectedFault)
    assert 50 < counts.total() < 150
    assert not any(ALL_FAIL.fault("/open", key, 2) for key in keys)


def test_https_with_a_certificate() -> None:
    authority = trustme.CA()
    certificate = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(certificate)
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    with Receiver(PATHS, NO_FAULTS, certificate) as receiver:
        connection = http.client.HTTPSConnection(receiver.https, timeout=5, context=trusting)
        connection.request("POST", "/open", body=b"x")
        assert connection.getresponse().status == 200
        assert receiver.http != receiver.https
