"""What a 409 to a statement means: the receiver is asked for the statement that it holds (docs/spec/statements.md).

By xAPI's Communication, "POST Statements", a store says 409 where it holds another statement under the id. Some say so
of an equal one, too, and what was sent by a run that was killed is often sent again.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from urllib.parse import urlencode

import msgspec

from transforms.sinks.base import AttemptResult, Verdict
from transforms.statements.comparison import equal_statements

ALREADY_THERE = "already_there"
"""The remark of a statement that the receiver turned out to hold."""

ACCEPTED = "conflict_accepted"
"""The remark of a statement that was answered with 409, which the forwarder takes as delivered."""

CONFLICT = "conflict"
"""The reason where the receiver holds another statement under the id, or says so and is believed."""

UNKNOWN = "conflict_unknown"
"""The reason where nobody can say what the receiver holds."""

STATEMENT_READ = 16 * 1024 * 1024
"""Bytes of an answer that are read. No statement that is forwarded is longer."""

LOOK_UPS_AT_ONCE = 4
"""Look-ups that a forwarder has under way at a time. Each may hold an answer of STATEMENT_READ bytes in memory."""

PARAMETERS = ("statementId", "voidedStatementId")
"""By what a statement is asked for. A store that was told that it is void answers to the second alone."""

_NOT_FOUND = 404


@dataclass(frozen=True, slots=True)
class Held:
    """The answer to a request for a statement.

    Attributes:
        status: of the answer.
        body: None if it is longer than STATEMENT_READ, or in a content encoding.
        shown: the beginning of the body as a dead letter may hold it.
    """

    status: int
    body: bytes | None
    shown: str | None


Ask = Callable[[str], Awaitable[Held | AttemptResult]]
"""Gets a url. An attempt result is what follows from an outage: the statement is to be tried again."""


async def look_up(ask: Ask, url: str, sent: bytes, refusal: AttemptResult) -> AttemptResult:
    """Ask the receiver for the statement that it holds under the id of one that was sent, and compare.

    Args:
        ask: makes one request.
        url: where statements are posted to.
        sent: the statement as it was sent.
        refusal: the attempt that was answered with 409.

    Returns:
        What becomes of the statement: it is there already, or a dead letter, or it is to be tried again.
    """
    # Some stores compare ids letter by letter, so it is asked for as it was spelled.
    statement_id = _decode_id(sent).id
    told = []
    for parameter in PARAMETERS:
        held = await ask(asking_url(url, parameter, statement_id))
        if isinstance(held, AttemptResult):
            return held
        if held.status == 200:
            statement = None if held.body is None else statement_in(held.body)
            if statement is not None:
                return _compared(sent, statement, held, refusal)
            told.append(f"GET ?{parameter}= answered with no statement that can be read")
        else:
            told.append(f"GET ?{parameter}= answered {held.status}")
        if held.status != _NOT_FOUND:
            break
    response = "; ".join(told) + (f"\nthe answer to the statement: {refusal.response}" if refusal.response else "")
    return msgspec.structs.replace(refusal, reason=UNKNOWN, response=response)


def asking_url(url: str, parameter: str, statement_id: str) -> str:
    """The url that asks for one statement. What the query has already stays as it is written."""
    separator = "&" if "?" in url else "?"
    return url + separator + urlencode({parameter: statement_id})


class _Identified(msgspec.Struct, gc=False):
    id: str


class _Page(msgspec.Struct, gc=False):
    statements: list[msgspec.Raw]


_decode_id = msgspec.json.Decoder(_Identified).decode
_decode_page = msgspec.json.Decoder(_Page).decode
_decode_object = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


def statement_in(body: bytes) -> bytes | None:
    """The statement in an answer; None if there is none, or more than one.

    The answer to a request for one statement is that statement. Ralph answers with a page that holds it.
    """
    try:
        if "actor" in _decode_object(body):
            return body
        statements = _decode_page(body).statements
    except (msgspec.DecodeError, RecursionError):
        return None
    return bytes(statements[0]) if len(statements) == 1 else None


def _compared(sent: bytes, statement: bytes, held: Held, refusal: AttemptResult) -> AttemptResult:
    try:
        equal = equal_statements(sent, statement)
    except ValueError:
        equal = False
    if equal:
        return AttemptResult(Verdict.DELIVERED, status=refusal.status, remarks=(ALREADY_THERE,))
    return msgspec.structs.replace(refusal, reason=CONFLICT, response=held.shown)
