"""An LRS that can be made to misbehave: pages of statements, by `GET /xAPI/statements` and `more`."""

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any
from urllib.parse import parse_qsl, urlsplit
from uuid import UUID

import pytest

from schemas.times import rfc3339
from tests.support.laboratory.http_fault_server import Answer, Arrival, in_thread
from tests.support.receiver import Receiver

FIRST_STORED = 1_767_225_600_000
"""2026-01-01 in epoch ms: when the first statement was stored. Each further one came a minute later."""

_VERBS = ("initialized", "answered", "completed", "terminated")
_RESOURCE = "/xAPI/statements"


def statement(number: int, users: int = 5) -> bytes:
    """Statement `number` of a log in which learners open a course, answer, complete and leave it, by turns."""
    user, session = number % users, number // (users * len(_VERBS))
    verb = _VERBS[number // users % len(_VERBS)]
    stored = rfc3339(FIRST_STORED + number * 60_000)
    thing: dict[str, Any] = {"id": f"https://course.example/{session}"}
    result: dict[str, Any] = {}
    if verb == "answered":
        thing = {
            "id": f"https://course.example/{session}/q",
            "definition": {"type": "http://adlnet.gov/expapi/activities/cmi.interaction"},
        }
        result = {"score": {"raw": 1.5, "max": 2}}
    return json.dumps(
        {
            "id": str(UUID(int=(0xA << 124) + number)),
            "actor": {"account": {"homePage": "https://school.example", "name": f"user {user}"}},
            "verb": {"id": f"http://adlnet.gov/expapi/verbs/{verb}"},
            "object": thing,
            "result": result,
            "context": {"registration": str(UUID(int=(0xB << 124) + session * users + user))},
            "timestamp": stored,
            "stored": stored,
        }
    ).encode()


def with_attachments(statements: bytes, data: Iterable[tuple[str, bytes]]) -> Answer:
    """An LRS's answer, with the data of attachments by its hash."""
    body = b"--b\r\nContent-Type: application/json\r\n\r\n" + statements
    for digest, content in data:
        body += b"\r\n--b\r\nContent-Transfer-Encoding: binary\r\nX-Experience-API-Hash: %b\r\n\r\n%b" % (
            digest.encode(),
            content,
        )
    return Answer(headers=(("Content-Type", "multipart/mixed; boundary=b"),), body=body + b"\r\n--b--")


class Feed(Receiver):
    """Serves `statements`, which are in the order of their `stored`.

    Attributes:
        data: of attachments, by its hash; it is sent with a page that names it, if it is asked for.
        page: statements on a page.
        versions: what `/about` says; None: it is not there.
        through: the header X-Experience-API-Consistent-Through; None: it is not sent.
        since_is_of: the property of a statement that the parameter `since` is compared with.
        faults: answers to the next requests for statements, in the place of a page.
        more: the address of the next page, given its path.
    """

    def __init__(self, statements: Sequence[bytes] = (), page: int = 3) -> None:
        super().__init__()
        self.script = self._answer
        self.statements = list(statements)
        self.data: dict[str, bytes] = {}
        self.page = page
        self.versions: list[str] | None = ["1.0.3"]
        self.through: str | None = None
        self.since_is_of = "stored"
        self.faults: list[Answer] = []
        self.more: Callable[[str], str] = lambda path: path

    @property
    def resource(self) -> str:
        return f"http://127.0.0.1:{self.port}{_RESOURCE}"

    def asked(self) -> list[str]:
        """Path and query of all requests for statements so far."""
        targets = [arrival.request_line.split(" ")[1] for arrival in self.log]
        return [target for target in targets if target.startswith(_RESOURCE)]

    def _answer(self, arrival: Arrival) -> Answer:
        target = urlsplit(arrival.request_line.split(" ")[1])
        if target.path.endswith("/about"):
            if self.versions is None:
                return Answer(404)
            return Answer(body=json.dumps({"version": self.versions}).encode())
        if self.faults:
            return self.faults.pop(0)
        return self.page_of(dict(parse_qsl(target.query)))

    def page_of(self, parameters: dict[str, str]) -> Answer:
        begin = int(parameters.get("begin", "0"))
        since = parameters.get("since", "")
        found = [each for each in self.statements if json.loads(each)[self.since_is_of] > since]
        end = begin + self.page
        with_data = parameters.get("attachments") == "true"
        following = f"{_RESOURCE}?since={since}&begin={end}" + ("&attachments=true" if with_data else "")
        more = self.more(following) if end < len(found) else ""
        body = b'{"statements":[%b],"more":%b}' % (b",".join(found[begin:end]), json.dumps(more).encode())
        headers = () if self.through is None else (("X-Experience-API-Consistent-Through", self.through),)
        if with_data:
            answer = with_attachments(body, [pair for pair in self.data.items() if pair[0].encode() in body])
            return replace(answer, headers=(*answer.headers, *headers))
        return Answer(body=body, headers=headers)


@pytest.fixture
def feed() -> Iterator[Feed]:
    server = Feed()
    with in_thread(server):
        yield server
