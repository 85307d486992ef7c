"""Numbered records of named users, and items of them: what is sent, for the tests of the sending side."""

from schemas import Record
from transforms.sinks.base import Item


def record(user: str, number: int, body: bytes | None = None) -> Record:
    return Record(
        id=f"{user}/{number}",
        kind="event",
        organisation=None,
        lrs_id=None,
        user_id=user,
        timestamp=1_600_000_000_000 + number,
        record_id=str(number),
        place=number,
        message={"user_id": user, "number": number},
        body=body or b'{"user_id":"%b","number":%d}' % (user.encode(), number),
        metadata={},
    )


def item(user: str, number: int, forwarder_id: str = "f", payload: bytes | None = None) -> Item:
    made = record(user, number)
    return Item(forwarder_id, made, payload if payload is not None else made.body, "record")


def items(users: int, each: int, forwarder_id: str = "f") -> list[Item]:
    """Round by round, so that records of one user are far apart."""
    return [item(f"user-{user}", number, forwarder_id) for number in range(each) for user in range(users)]


def number_of(record_id: str) -> tuple[str, int]:
    user, _, number = record_id.rpartition("/")
    return user, int(number)
