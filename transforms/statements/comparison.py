"""Whether two texts are the same statement (xAPI 1.0.3, Data, "Statement Immutability" and "Duration").

A store may change some things about a statement that it takes: it sets `stored`, `authority` and `version`, and
`timestamp` where there was none; it may write names in another order, numbers and times in another spelling, and cut
what is beyond a hundredth of a second of a duration; it lists the members of a Group in any order, and makes an array
of a context activity that came alone. None of that makes another statement.
"""

import re
from decimal import Decimal
from hashlib import blake2b
from typing import Any

from transforms.reading.exact_json import canonical_text, loads_exactly
from transforms.reading.instants import TimeRefusedError, read_instant

_OF_THE_STORE = frozenset({"stored", "authority", "version"})
_DURATION = re.compile(
    r"P(?:(\d+(?:[.,]\d+)?)Y)?(?:(\d+(?:[.,]\d+)?)M)?(?:(\d+(?:[.,]\d+)?)W)?(?:(\d+(?:[.,]\d+)?)D)?"
    r"(?:T(?:(\d+(?:[.,]\d+)?)H)?(?:(\d+(?:[.,]\d+)?)M)?(?:(\d+(?:[.,]\d+)?)S)?)?",
    re.ASCII,
)
DIGEST_SIZE = 16
"""Bytes of the digest in a fingerprint."""


def equal_statements(one: bytes, other: bytes) -> bool:
    """Whether two statements are the same one.

    They are if they are equal apart from `stored`, `authority`, `version`, and a `timestamp` that only one of them has.
    It makes no difference in which order names come, how a number is spelled, in which zone a time is given, and which
    parts of a duration are written that are zero. The members of a Group have no order, and a context activity that
    stands alone is an array of one. Ids are the same in upper and lower case. Numbers are compared exactly:
    9007199254740993 is not 9007199254740992, though no double tells them apart.

    Args:
        one: a JSON object as UTF-8.
        other: as `one`.

    Raises:
        ValueError: one of them is no JSON object.
    """
    if one == other:
        return True
    left, right = _comparable(one), _comparable(other)
    if ("timestamp" in left) != ("timestamp" in right):
        left.pop("timestamp", None)
        right.pop("timestamp", None)
    try:
        return left == right
    except RecursionError:
        return False


def fingerprint(text: bytes) -> tuple[bytes, int | None]:
    """What is kept of a statement to tell later whether another text is the same one (`same_fingerprint`).

    Args:
        text: a JSON object as UTF-8.

    Returns:
        A digest of all that makes the statement but its `timestamp`, and that in epoch ms; None if it has none.

    Raises:
        ValueError: it is no JSON object.
    """
    value = _comparable(text)
    timestamp = value.pop("timestamp", None)
    digest = blake2b(canonical_text(value).encode(), digest_size=DIGEST_SIZE).digest()
    return digest, timestamp if isinstance(timestamp, int) else None


def same_fingerprint(one: tuple[bytes, int | None], other: tuple[bytes, int | None]) -> bool:
    """Whether two statements are the same one by their fingerprints: as `equal_statements`, with numbers as doubles."""
    return one[0] == other[0] and (one[1] is None or other[1] is None or one[1] == other[1])


def _comparable(text: bytes) -> dict[str, Any]:
    """A statement as a value that equals that of the same statement by Python's `==`, but for a `timestamp`."""
    try:
        statement = loads_exactly(text)
        if not isinstance(statement, dict):
            raise ValueError("a statement is a JSON object")
        return _of_statement({name: value for name, value in statement.items() if name not in _OF_THE_STORE})
    except RecursionError:
        raise ValueError("nested too deep") from None


def _of_statement(statement: dict[str, Any]) -> dict[str, Any]:
    """Of a statement, or of a SubStatement."""
    members = {name: _value(value) for name, value in statement.items()}
    _replace(members, "id", str.lower)
    _replace(members, "timestamp", _instant)
    result, context, thing = members.get("result"), members.get("context"), statement.get("object")
    if isinstance(result, dict):
        _replace(result, "duration", _duration)
    if isinstance(context, dict):
        _of_context(context)
    for group in (members.get("actor"), members.get("object")):
        _unorder(group)
    if isinstance(thing, dict):
        if thing.get("objectType") == "SubStatement":
            members["object"] = _of_statement(thing)
        elif thing.get("objectType") == "StatementRef":
            _replace(members["object"], "id", str.lower)
    return members


def _of_context(context: dict[str, Any]) -> None:
    _replace(context, "registration", str.lower)
    for group in (context.get("instructor"), context.get("team")):
        _unorder(group)
    activities = context.get("contextActivities")
    if isinstance(activities, dict):
        for name, activity in activities.items():
            if isinstance(activity, dict):
                activities[name] = [activity]


def _unorder(group: Any) -> None:
    """Put the members of a Group into an order that is the same whatever theirs was."""
    if isinstance(group, dict) and group.get("objectType") == "Group" and isinstance(group.get("member"), list):
        group["member"].sort(key=canonical_text)


def _value(value: Any) -> Any:
    if isinstance(value, bool):
        return ("boolean", value)  # for Python, true is 1
    if isinstance(value, dict):
        return {name: _value(member) for name, member in value.items()}
    if isinstance(value, list):
        return [_value(item) for item in value]
    return value


def _replace(members: dict[str, Any], name: str, by: Any) -> None:
    if isinstance(members.get(name), str):
        members[name] = by(members[name])


def _instant(text: str) -> object:
    try:
        return read_instant(text, naive_utc=True)
    except TimeRefusedError:
        return text


def _duration(text: str) -> object:
    """The parts of a duration that are not zero, seconds cut to hundredths; the text itself if it is none."""
    found = _DURATION.fullmatch(text)
    if found is None or text.endswith(("P", "T")):
        return text
    *parts, seconds = [(part or "0").replace(",", ".") for part in found.groups()]
    whole, _, fraction = seconds.partition(".")
    # As text: to calculate with a number of so many digits as a text may have takes minutes, or is refused.
    return (*map(Decimal, parts), whole.lstrip("0"), fraction[:2].ljust(2, "0"))
