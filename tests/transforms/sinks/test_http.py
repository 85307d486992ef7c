"""The HTTP sink against a receiver that misbehaves: docs/spec/forwarders.md section 2, row by row."""

import asyncio
import base64
import json
import socket
import threading
from collections.abc import Sequence
from dataclasses import replace
from email.utils import formatdate
from random import Random
from typing import Any

import pytest
import uvloop
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from tests.support.http_sink import LOCAL, http_item, loaded_forwarder, opened, outcomes, with_fault_server
from tests.support.laboratory.http_fault_server import Answer, Arrival, FaultServer, in_thread, scripted
from transforms.sinks import preflight as checks
from transforms.sinks.base import AttemptResult, Verdict
from transforms.sinks.http import RESPONSE_KEPT, PostSink, retry_after
from transforms.sinks.preflight import preflight

DELIVERED, RETRY, GIVE_UP = Verdict.DELIVERED, Verdict.RETRY, Verdict.GIVE_UP


def one(answer: int | Answer, **options: Any) -> AttemptResult:
    (outcome,), _ = outcomes(scripted(default=[answer]), **options)
    return outcome


class TestRequest:
    def headers(self, configuration: dict[str, Any] | None = None, **of_item: Any) -> dict[str, str]:
        _, server = outcomes(scripted(), http_item(**of_item), configuration=configuration)
        return server.log[0].headers

    def test_is_a_post_of_the_payload_as_it_is(self) -> None:
        payload = '{"user_id":"ann","note":"naïve ✓"}'.encode()
        _, server = outcomes(scripted(), http_item(payload=payload))
        assert server.log[0].request_line == "POST /in HTTP/1.1"
        assert server.log[0].body == payload
        assert server.log[0].headers["content-length"] == str(len(payload))

    def test_headers_of_a_record(self) -> None:
        headers = self.headers(key="the-id", hops=2)
        assert headers["content-type"] == "application/json"
        assert headers["idempotency-key"] == "the-id"
        assert headers["user-agent"].startswith("session-forwarder/")
        assert headers["x-forward-hops"] == "3"
        assert headers["accept-encoding"] == "identity"
        assert not {"authorization", "x-experience-api-version", "webhook-id", "cookie"} & set(headers)

    def test_a_statement_says_its_version_unless_the_headers_do(self) -> None:
        assert self.headers(kind="statement")["x-experience-api-version"] == "1.0.3"
        set_to = {"headers": '{"x-experience-api-version": "1.0.1"}'}
        assert self.headers(set_to, kind="statement")["x-experience-api-version"] == "1.0.1"
        assert self.headers(set_to, kind="record")["x-experience-api-version"] == "1.0.1"

    def test_credentials_and_extra_headers(self) -> None:
        assert self.headers({"authType": "token", "secret": "t0p"})["authorization"] == "Bearer t0p"
        basic = {"authType": "basic auth", "basicUsername": "ünï", "basicPassword": "p:w✓"}
        expected = base64.b64encode("ünï:p:w✓".encode()).decode()
        assert self.headers(basic)["authorization"] == f"Basic {expected}"
        assert (
            self.headers({"headers": '{"Test-Header-Key":"Test-Header-Value"}'})["test-header-key"]
            == "Test-Header-Value"
        )

    def test_the_url_goes_out_as_it_was_written(self) -> None:
        async def talk(sink: PostSink, server: FaultServer) -> None:
            rest = "/a%2Fb/./c?sig=a%2Bb%3D+c&x=%41&empty=&ü={1}"
            forwarder = loaded_forwarder({"protocol": "http", "url": f"127.0.0.1:{server.port}{rest}"})
            async with opened(forwarder) as other:
                await other.send(http_item())

        server = with_fault_server(talk)
        assert server.log[0].request_line.split()[1] == "/a%2Fb/./c?sig=a%2Bb%3D+c&x=%41&empty=&%C3%BC=%7B1%7D"

    def test_signed_as_standard_webhooks_says_with_each_key_while_they_rotate(self) -> None:
        keys = ["whsec_" + base64.b64encode(bytes([n]) * 32).decode() for n in (1, 2)]
        payload = '{"user_id":"ann","x":"✓"}'.encode()
        _, server = outcomes(scripted(), http_item(payload=payload), configuration={"signingSecret": keys})
        headers = server.log[0].headers
        for key in keys:
            Webhook(key).verify(payload, headers)
        with pytest.raises(WebhookVerificationError):
            Webhook("whsec_" + base64.b64encode(b"3" * 32).decode()).verify(payload, headers)
        assert headers["webhook-id"] == headers["idempotency-key"]

    def test_a_record_that_came_too_far_is_not_sent(self) -> None:
        found, server = outcomes(scripted(), http_item(hops=4), http_item(hops=5))
        assert found[0].verdict is DELIVERED
        assert server.log[0].headers["x-forward-hops"] == "5"
        assert found[1] == AttemptResult(GIVE_UP, "too_many_hops", spends_attempt=False)
        assert len(server.log) == 1

    def test_no_cookie_comes_back_and_no_proxy_is_asked(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("no_proxy", "")
        monkeypatch.setenv("NO_PROXY", "")
        monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
        monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
        _, server = outcomes(
            scripted(default=[Answer(200, headers=(("Set-Cookie", "a=b"),))]), http_item(), http_item("id-2")
        )
        assert "cookie" not in server.log[1].headers


class TestStatus:
    @pytest.mark.parametrize("status", [200, 201, 202, 204, 206, 299])
    def test_2xx_is_delivered(self, status: int) -> None:
        assert one(status) == AttemptResult(DELIVERED, status=status)

    @pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504])
    def test_is_tried_again(self, status: int) -> None:
        outcome = one(status)
        assert (outcome.verdict, outcome.reason, outcome.status) == (RETRY, f"http_{status}", status)
        assert outcome.failure == (status >= 500)
        assert outcome.ambiguous == (status in (502, 504))
        assert outcome.spends_attempt

    @pytest.mark.parametrize("status", [300, 304, 400, 401, 403, 404, 409, 410, 413, 422, 451, 501, 505, 507, 599, 600])
    def test_is_given_up(self, status: int) -> None:
        outcome = one(status)
        assert (outcome.verdict, outcome.reason, outcome.status) == (GIVE_UP, f"http_{status}", status)
        assert not outcome.opens_breaker
        assert outcome.failure == (500 <= status < 600)

    def test_an_lrs_that_has_the_statement_already_has_it(self) -> None:
        (outcome,), _ = outcomes(scripted(default=[409]), http_item(kind="statement"))
        assert (outcome.verdict, outcome.status) == (DELIVERED, 409)

    @pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
    def test_no_redirect_is_followed(self, status: int) -> None:
        (outcome,), server = outcomes(scripted(default=[Answer(status, headers=(("Location", "/elsewhere"),))]))
        assert (outcome.verdict, outcome.reason) == (GIVE_UP, f"http_{status}")
        assert len(server.log) == 1

    @pytest.mark.parametrize(
        ("location", "shown"),
        [
            ("https://new.example/in", "https://new.example/in"),
            ("/elsewhere?key=hidden", "/elsewhere"),
            ("https://ann:hidden@new.example/in?key=hidden#hidden", "https://new.example/in"),
            ("//ann:hidden@new.example", "//new.example"),
            ("https:\\\\ann:hidden@new.example\\in", "https:\\\\new.example\\in"),
            ("https://a@b:hidden@new.example/in", "https://new.example/in"),
            ("/in;jsessionid=hidden", "/in"),
            ("in/" + "x" * 5000, "in/" + "x" * 1021),
        ],
    )
    def test_a_redirect_says_where_to_without_credentials(self, location: str, shown: str) -> None:
        outcome = one(Answer(302, headers=(("Location", location),), body=b"moved"))
        assert outcome.response == f"Location: {shown}\nmoved"

    def test_a_location_hides_the_forwarder_s_own_secrets(self) -> None:
        answer = Answer(308, headers=(("Location", "/s3cret-token/in"),))
        outcome = one(answer, configuration={"authType": "token", "secret": "s3cret-token"})
        assert outcome.response is not None
        assert outcome.response.splitlines()[0] == "Location: /[redacted]/in"

    def test_retry_after_is_told(self) -> None:
        assert one(Answer(503, headers=(("Retry-After", "7"),))).retry_after == 7.0
        assert (
            one(Answer(429, headers=(("Retry-After", formatdate(1000, usegmt=True)),)), clock=lambda: 940.0).retry_after
            == 60
        )
        assert one(Answer(400, headers=(("Retry-After", "7"),))).retry_after is None

    def test_a_date_to_retry_after_is_by_the_receiver_s_own_clock(self) -> None:
        headers = (("Retry-After", formatdate(1000, usegmt=True)), ("Date", formatdate(940, usegmt=True)))
        assert one(Answer(503, headers=headers), clock=lambda: 86_940.0).retry_after == 60
        headers = (("Retry-After", formatdate(1000, usegmt=True)), ("Date", "today"))
        assert one(Answer(503, headers=headers), clock=lambda: 990.0).retry_after == 10

    @pytest.mark.parametrize(
        ("value", "seconds"),
        [
            (None, None),
            ("", None),
            ("0", 0.0),
            (" 120 ", 120.0),
            ("-1", None),
            ("1.5", 1.5),
            ("3.2", 3.2),
            ("3.", 3.0),
            ("1e3", None),
            ("3,2", None),
            ("NaN", None),
            ("soon", None),
            ("٣", None),
            ("9" * 400, 1e12),
            ("Thu, 01 Jan 1970 00:16:40 GMT", 900.0),
            ("Thursday, 01-Jan-70 00:16:40 GMT", 900.0),
            ("Thu, 01 Jan 1970 00:00:01 GMT", 0.0),
            ("Thu, 01 Jan 1970 00:16:40 -0000", 900.0),
            ("Thu, 99 Jan 1970 00:16:40 GMT", None),
            ("Thu, 01 Jan 999999999 00:16:40 GMT", None),
        ],
    )
    def test_forms_of_retry_after(self, value: str | None, seconds: float | None) -> None:
        assert retry_after(value, now=100.0) == seconds


class TestBody:
    @pytest.mark.parametrize("fault", ["cut_body", "reset_body", "extra_bytes", "informational"])
    def test_after_2xx_the_body_may_do_as_it_likes(self, fault: Any) -> None:
        answer = Answer(201, fault=fault, extra=b"HTTP/1.1 400 Bad\r\nContent-Length: 0\r\n\r\n")
        found, server = outcomes(scripted(by_key={"id-1": [answer]}), http_item(), http_item("id-2"))
        assert [(outcome.verdict, outcome.status) for outcome in found] == [(DELIVERED, 201), (DELIVERED, 200)]
        assert [arrival.key for arrival in server.log] == ["id-1", "id-2"]

    @pytest.mark.parametrize("extra", [b"junk", b"\0" * 100, b"HTTP/9.9 200 OK\r\n\r\n"])
    @pytest.mark.parametrize("status", [200, 204, 503])
    def test_what_follows_an_answer_takes_nothing_from_it(self, status: int, extra: bytes) -> None:
        assert one(Answer(status, fault="extra_bytes", extra=extra)).status == status

    def test_may_begin_late(self) -> None:
        assert one(Answer(201, fault="late", interval=0.02)) == AttemptResult(DELIVERED, status=201)

    @pytest.mark.parametrize("fault", ["hold_body", "drip", "endless_body"])
    def test_after_2xx_it_is_waited_for_no_longer_than_the_timeout(self, fault: Any) -> None:
        answer = Answer(200, fault=fault, interval=0.05)
        assert one(answer, configuration={"timeout": 0.3}) == AttemptResult(DELIVERED, status=200)

    @pytest.mark.parametrize("fault", ["hold_body", "drip", "endless_body", "cut_body", "reset_body"])
    def test_the_status_decides_whatever_the_body_of_an_error_does(self, fault: Any) -> None:
        outcome = one(Answer(503, fault=fault, interval=0.05), configuration={"timeout": 0.3})
        assert (outcome.verdict, outcome.reason) == (RETRY, "http_503")
        assert len(outcome.response or "") <= RESPONSE_KEPT

    def test_is_kept_bounded(self) -> None:
        assert one(Answer(400, body=b'{"error":"no"}')).response == '{"error":"no"}'
        assert one(Answer(400, body="é".encode() * 50_000)).response == "é" * (RESPONSE_KEPT // 2)
        assert one(Answer(400, body=b"\xff\xfe")).response == "��"

    def test_packed_is_neither_unpacked_nor_kept(self) -> None:
        outcome = one(Answer(400, headers=(("Content-Encoding", "gzip"),), body=b"\x1f\x8b not really"))
        assert outcome.response == "(a body in a content encoding that was not asked for)"

    def test_holds_no_secret(self) -> None:
        secret = 'pass/wörd"&+'
        body = (
            f'{{"you sent": {{"plain": "{secret}", "basic": "{base64.b64encode(f"ann:{secret}".encode()).decode()}"}}}}'
        )
        configuration = {"authType": "basic auth", "basicUsername": "ann", "basicPassword": secret}
        response = one(Answer(401, body=body.encode()), configuration=configuration).response
        assert response == '{"you sent": {"plain": "[redacted]", "basic": "[redacted]"}}'

    def test_holds_nothing_that_is_made_of_a_secret(self) -> None:
        key = base64.b64encode(bytes(range(32))).decode()
        basic = base64.b64encode(b"ann:correct-horse").decode()
        configuration = {
            "headers": json.dumps({"Authorization": f"Basic {basic}"}),
            "signingSecret": f"whsec_{key}",
        }
        body = f"{basic} ann:correct-horse http://ann:correct%2dhorse@a.example {bytes(range(32)).hex()} {key}"
        response = one(Answer(401, body=body.encode()), configuration=configuration).response
        assert response == "[redacted] [redacted] http://[redacted]@a.example [redacted] [redacted]"

    def test_is_searched_before_it_is_cut(self) -> None:
        configuration = {"authType": "token", "secret": "correct-horse-battery"}
        for before in range(RESPONSE_KEPT - 90, RESPONSE_KEPT, 7):
            body = b"." * before + "".join(f"&#{ord(letter)};" for letter in "correct-horse-battery").encode()
            response = one(Answer(400, body=body), configuration=configuration).response
            assert response == ("." * before + "[redacted]")[:RESPONSE_KEPT]

    def test_that_ends_in_the_middle_of_a_secret_holds_none_of_it(self) -> None:
        answer = Answer(400, body=b"you sent: correct-horse-bat", fault="cut_body")
        response = one(answer, configuration={"authType": "token", "secret": "correct-horse-battery"}).response
        assert response == "you sent: [redacted]"


class TestConnection:
    @pytest.mark.parametrize(
        ("fault", "reason"),
        [
            ("reset", "reset"),
            ("close", "closed"),
            ("half_close", "closed"),
            ("cut_headers", "closed"),
            ("reset_headers", "reset"),
            ("garbage", "bad_response"),
        ],
    )
    def test_cut_before_the_headers_are_complete(self, fault: Any, reason: str) -> None:
        (outcome,), server = outcomes(scripted(default=[Answer(fault=fault)]))
        assert outcome == AttemptResult(RETRY, reason, ambiguous=True, failure=True)
        assert len(server.log) == 1

    @pytest.mark.parametrize("fault", ["huge_header", "many_headers"])
    def test_headers_beyond_all_bounds_are_not_read_but_the_status_counts(self, fault: Any) -> None:
        assert one(Answer(200, fault=fault)) == AttemptResult(DELIVERED, status=200)
        assert one(Answer(503, fault=fault)) == AttemptResult(RETRY, "http_503", status=503, failure=True)

    @pytest.mark.parametrize("fault", ["hold", "endless_informational"])
    def test_no_answer_in_time(self, fault: Any) -> None:
        outcome = one(Answer(fault=fault), configuration={"timeout": 0.2})
        assert outcome == AttemptResult(RETRY, "timeout", ambiguous=True, failure=True)

    def test_refused(self) -> None:
        with socket.socket() as unused:
            unused.bind(("127.0.0.1", 0))
            port = unused.getsockname()[1]

            async def main() -> AttemptResult:
                async with opened(loaded_forwarder({"url": f"127.0.0.1:{port}"})) as sink:
                    return await sink.send(http_item())

            assert uvloop.run(main()) == AttemptResult(RETRY, "connection_refused", failure=True)

    @pytest.mark.parametrize("host", ["nowhere.invalid", "a" * 64 + ".invalid"])
    def test_no_such_host(self, host: str) -> None:
        def getaddrinfo(name: str, *_: Any, **__: Any) -> Any:
            name.encode("idna")
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

        async def main() -> AttemptResult:
            async with opened(loaded_forwarder({"url": host}), getaddrinfo=getaddrinfo) as sink:
                return await sink.send(http_item())

        assert uvloop.run(main()) == AttemptResult(RETRY, "dns", failure=True)

    def test_a_name_server_that_hangs_costs_the_timeout(self) -> None:
        hang = threading.Event()

        def getaddrinfo(*_: Any, **__: Any) -> Any:
            hang.wait(10)
            raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

        async def main() -> AttemptResult:
            async with opened(
                loaded_forwarder({"url": "slow.example", "timeout": 0.2}), getaddrinfo=getaddrinfo
            ) as sink:
                outcome = await sink.send(http_item())
                hang.set()
                return outcome

        assert uvloop.run(main()) == AttemptResult(RETRY, "timeout", failure=True)

    def test_one_connection_serves_many_requests(self) -> None:
        _, server = outcomes(scripted(), *[http_item(f"id-{n}") for n in range(5)])
        assert {arrival.connection for arrival in server.log} == {1}

    @pytest.mark.parametrize("fault", ["close_on_next", "reset_on_next"])
    def test_a_stale_one_costs_one_resend_that_does_not_count(self, fault: Any) -> None:
        found, server = outcomes(scripted(by_key={"id-1": [Answer(fault=fault)]}), http_item(), http_item("id-2"))
        assert [outcome.verdict for outcome in found] == [DELIVERED, DELIVERED]
        # The request may have been read before the connection went: the receiver may have it twice.
        assert [outcome.ambiguous for outcome in found] == [False, True]
        assert server.connections == 2

    def test_the_resend_goes_out_on_a_new_connection_and_only_once(self) -> None:
        # Ten stale connections in the pool, and a receiver that closes the new one too.
        async def talk(sink: PostSink, server: FaultServer) -> None:
            held = [asyncio.create_task(sink.send(http_item(f"old-{n}"))) for n in range(10)]
            await server.arrivals(10)
            server.release()
            assert {outcome.verdict for outcome in await asyncio.gather(*held)} == {DELIVERED}
            outcome = await sink.send(http_item("new"))
            assert outcome == AttemptResult(RETRY, "closed", ambiguous=True, failure=True)
            assert server.connections == 11

        def script(arrival: Any) -> Answer:
            return Answer(fault="close") if arrival.key == "new" else Answer(fault="hold")

        server = with_fault_server(talk, script)
        assert [arrival.key for arrival in server.log][10:] == ["new", "new"]

    def test_cut_after_a_byte_of_the_answer_is_no_stale_one(self) -> None:
        found, server = outcomes(
            scripted(by_key={"id-1": [Answer(fault="cut_on_next")]}), http_item(), http_item("id-2")
        )
        assert found[1] == AttemptResult(RETRY, "closed", ambiguous=True, failure=True)
        assert server.connections == 1

    def test_closed_between_requests_is_replaced(self) -> None:
        async def talk(sink: PostSink, server: FaultServer) -> None:
            assert (await sink.send(http_item())).verdict is DELIVERED
            assert (await sink.send(http_item("id-2"))).verdict is DELIVERED

        server = with_fault_server(talk, scripted(by_key={"id-1": [Answer(fault="close_after")]}))
        assert [arrival.key for arrival in server.log] == ["id-1", "id-2"]
        assert server.connections == 2

    @pytest.mark.parametrize("fault", ["extra_bytes", "late_extra"])
    def test_bytes_that_came_unasked_are_nobodys_answer(self, fault: Any) -> None:
        extra = b"HTTP/1.1 400 Smuggled\r\nContent-Length: 0\r\n\r\n"

        async def talk(sink: PostSink, server: FaultServer) -> None:
            assert (await sink.send(http_item())).status == 200
            server.release()
            for _ in range(50):  # until it has come in on the idle connection
                await asyncio.sleep(0)
            assert (await sink.send(http_item("id-2"))).status == 201

        script = scripted(by_key={"id-1": [Answer(fault=fault, extra=extra)], "id-2": [201]})
        assert with_fault_server(talk, script).connections == 2

    def test_many_at_once_are_bounded_by_the_concurrency(self) -> None:
        async def talk(sink: PostSink, server: FaultServer) -> None:
            tasks = [asyncio.create_task(sink.send(http_item(f"id-{n}"))) for n in range(20)]
            await server.arrivals(4)
            server.release()
            await asyncio.gather(*tasks)

        server = with_fault_server(talk, lambda _: Answer(fault="hold"), {"concurrency": 4})
        assert server.connections == 4
        assert len(server.log) == 20

    def test_cancelling_closes_the_connection(self) -> None:
        async def talk(sink: PostSink, server: FaultServer) -> None:
            task = asyncio.create_task(sink.send(http_item()))
            await server.arrivals(1)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert (await sink.send(http_item("id-2"))).verdict is DELIVERED

        server = with_fault_server(talk, scripted(by_key={"id-1": [Answer(fault="hold")]}))
        assert server.connections == 2

    def test_an_error_nobody_foresaw_ends_no_run(self) -> None:
        async def talk(sink: PostSink, server: FaultServer) -> None:
            assert await sink.send(http_item()) == AttemptResult(RETRY, "internal_error", failure=True)

        def resolver(*_: object, **__: object) -> list[tuple[Any, ...]]:
            raise ZeroDivisionError

        with_fault_server(talk, configuration={"url": "receiver.example"}, getaddrinfo=resolver)


@pytest.mark.parametrize("seed", range(5))
def test_what_the_sink_says_is_what_the_receiver_has(seed: int) -> None:
    """Faults at random, eight requests at a time: the log of the receiver bears out every outcome."""
    random = Random(seed)  # noqa: S311
    statuses = [200, 201, 204, 400, 429, 500, 503]
    faults = ["reset", "close", "cut_headers", "reset_headers", "cut_body", "reset_body", "garbage", "informational"]
    faults += ["extra_bytes", "close_after", "close_on_next", "reset_on_next", "cut_on_next", "huge_header"]
    faults += ["none"] * 4
    no_answer = ("reset", "close", "cut_headers", "reset_headers", "garbage")

    def script(_: Arrival) -> Answer:
        fault: Any = random.choice(faults)
        stored = random.random() < 0.5 if fault in no_answer else None
        return Answer(random.choice(statuses), fault=fault, stored=stored, extra=b"junk")

    found: dict[str, list[AttemptResult]] = {}

    async def talk(sink: PostSink, server: FaultServer) -> None:
        async def one_lane(lane: int) -> None:
            for n in range(25):
                key = f"{lane}-{n}"
                found[key] = [await sink.send(http_item(key))]
                while found[key][-1].verdict is RETRY and len(found[key]) < 4:
                    found[key].append(await sink.send(http_item(key)))

        await asyncio.gather(*map(one_lane, range(8)))

    server = with_fault_server(talk, script)
    ambiguous = 0
    for key, tried in found.items():
        arrivals = [arrival for arrival in server.log if arrival.key == key]
        stored = sum(arrival.stored for arrival in arrivals)
        # An unambiguous outcome is one arrival, and it was kept exactly if the outcome says so.
        unambiguous = [outcome for outcome in tried if not outcome.ambiguous]
        delivered = any(outcome.verdict is DELIVERED for outcome in tried)
        assert stored >= delivered
        if len(unambiguous) == len(tried):
            assert len(arrivals) == len(tried)
            assert stored == delivered
        ambiguous += len(tried) - len(unambiguous)
        # A resend within an attempt is the only request beyond one an attempt.
        assert len(arrivals) <= len(tried) + sum(outcome.ambiguous for outcome in tried)
    assert 0 < ambiguous < len(server.log) / 2
    assert len(found) == 200


class TestPreflight:
    def test_addresses(self) -> None:
        def getaddrinfo(host: str, port: int, **_: Any) -> Any:
            addresses = {
                "inside.example": ["10.0.0.1", "fd00::1"],
                "half.example": ["10.0.0.1", "93.184.216.34"],
                "fine.example": ["93.184.216.34"],
            }
            if host not in addresses:
                raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in addresses[host]]

        hosts = ["inside.example", "half.example", "fine.example", "nowhere.example"]
        forwarders = [replace(loaded_forwarder({"url": host}), id=host) for host in hosts]
        found = preflight(forwarders, getaddrinfo=getaddrinfo)
        assert [fault.forwarder_id for fault in found.faults] == ["inside.example"]
        assert "10.0.0.1 (private), fd00::1 (private)" in found.faults[0].message
        assert [warning.forwarder_id for warning in found.warnings] == ["half.example", "nowhere.example"]
        allowed = preflight(forwarders, ["10.0.0.0/8", "fd00::/8"], getaddrinfo)
        assert not allowed.faults

    def test_token_endpoints(self) -> None:
        asked = []

        def getaddrinfo(host: str, port: int, **_: Any) -> Any:
            asked.append((host, port))
            addresses = {"fine.example": "93.184.216.34", "inside.example": "10.0.0.1"}
            if host not in addresses:
                raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (addresses[host], port))]

        def found(*endpoints: str, allow: Sequence[str] = ()) -> list[str]:
            client = {"authType": "oauth2", "clientId": "c", "clientSecret": "hunter2", "url": "fine.example/in"}
            forwarders = [
                replace(loaded_forwarder({**client, "tokenUrl": each}), id=str(number))
                for number, each in enumerate(endpoints)
            ]
            told = preflight(forwarders, allow, getaddrinfo)
            return [f"fault {each}" for each in told.faults] + [str(each) for each in told.warnings]

        field = "(preflight): configuration.tokenUrl names"
        refused = "refused unless --allow_network names the network"
        inside, nowhere = "https://inside.example/t?k=hunter2", "https://nowhere.example/t"
        assert found("https://fine.example/t", inside, inside, nowhere) == [
            f"fault forwarder 1 {field} a host at 10.0.0.1 (private): {refused}",
            f"fault forwarder 2 {field} a host at 10.0.0.1 (private): {refused}",
            f"forwarder 3 {field} the host nowhere.example, which does not resolve",
        ]
        assert sorted(asked) == [
            ("fine.example", 80),
            ("fine.example", 443),
            ("inside.example", 443),
            ("nowhere.example", 443),
        ]
        assert not found(inside, allow=["10.0.0.0/8"])
        # In clear text the client's secret goes to named networks only.
        assert found("http://fine.example/t") == [
            f"fault forwarder 0 {field} a host at 93.184.216.34 (not within --allow_network): {refused}"
        ]
        assert not found("http://fine.example/t", allow=["93.184.216.0/24"])

    def test_a_host_is_looked_up_once_and_all_of_them_only_for_so_long(self, monkeypatch: pytest.MonkeyPatch) -> None:
        asked = []
        go_on = threading.Event()

        def getaddrinfo(host: str, port: int, **_: Any) -> Any:
            asked.append(host)
            if host == "hangs.example":
                go_on.wait(10)
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("93.184.216.34", port))]

        fine, hangs = loaded_forwarder({"url": "fine.example"}), loaded_forwarder({"url": "hangs.example"})
        forwarders = [replace(each, id=str(number)) for number, each in enumerate([fine] * 1000 + [hangs] * 3)]
        monkeypatch.setattr(checks, "LOOK_UP_SECONDS", 0.2)
        found = preflight(forwarders, getaddrinfo=getaddrinfo)
        go_on.set()
        assert sorted(asked) == ["fine.example", "hangs.example"]
        assert not found.faults
        assert [str(warning) for warning in found.warnings] == [
            "forwarder 1000 (preflight): configuration.url names a host that was not looked up within 0.2 s, as those "
            "of 2 other forwarders: it is looked up when there is something to send"
        ]

    def test_a_bug_of_a_look_up_is_not_kept_quiet(self) -> None:
        def getaddrinfo(host: str, port: int, **_: Any) -> Any:
            raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            preflight([loaded_forwarder({"url": "fine.example"})], getaddrinfo=getaddrinfo)

    def test_tls_files(self) -> None:
        found = preflight(
            [loaded_forwarder({"protocol": "https", "url": "127.0.0.1", "caFile": "/nowhere/ca.pem"})], LOCAL
        )
        assert [str(fault) for fault in found.faults] == [
            "forwarder f1 (preflight): configuration.caFile /nowhere/ca.pem does not load: No such file or directory"
        ]


def test_the_server_serves_from_a_thread_too() -> None:
    async def main(port: int) -> AttemptResult:
        async with opened(loaded_forwarder({"url": f"127.0.0.1:{port}"})) as sink:
            return await sink.send(http_item())

    with in_thread(FaultServer(scripted(by_user={"ann": [201]}))) as server:
        assert uvloop.run(main(server.port)).status == 201
    assert [arrival.user for arrival in server.log] == ["ann"]
