import json
from typing import Any

import pytest

from transforms.reading.activity import ActivityDecoder, ActivityError
from transforms.reading.admission import admit_message
from transforms.reading.blocks import Block
from transforms.reading.bucket_blobs import BucketBlobs, sort_in


def activity(number: int) -> dict[str, Any]:
    return {
        "record_id": f"r{number}",
        "user_id": f"u{number}",
        "session_id": "s",
        "activity_id": "a",
        "action": "START",
        "occurred_at": 1581951803000,
    }


class Unwrapping(ActivityDecoder):
    """Activity that may come in an object: `{"wrapped": [...]}`."""

    def expand(self, line: bytes) -> list[bytes] | None:
        wrapped = json.loads(line).get("wrapped")
        return None if wrapped is None else [json.dumps(each).encode() for each in wrapped]


def users(message: bytes) -> list[str]:
    """The user of each activity in a message, and the reason of each that is refused."""
    outcomes = admit_message(message, Unwrapping())
    return [str(outcome) if isinstance(outcome, ActivityError) else outcome[0] for outcome in outcomes]


ONE, TWO = (json.dumps(activity(number)).encode() for number in (1, 2))


@pytest.mark.parametrize(
    "message",
    [
        ONE + TWO,
        ONE + b"\n" + TWO + b"\n",
        b"[" + ONE + b"," + TWO + b",]",
        b"\xef\xbb\xbf" + json.dumps(activity(1), indent=1).encode() + TWO,
        b'{"wrapped":[' + ONE + b"," + TWO + b"]}",
        b'[{"wrapped":[' + ONE + b"]}," + TWO + b"]",
    ],
)
def test_a_message_may_hold_what_a_file_may(message: bytes) -> None:
    assert users(message) == ["u1", "u2"]


def test_what_is_refused_in_a_message_says_why() -> None:
    assert users(ONE) == ["u1"]
    assert users(b"[]") == []
    assert users(b'{"wrapped":[]}') == []
    assert users(b"")[0].startswith("not JSON")
    assert users(b"{}")[0].startswith("record_id: missing")
    first, second = users(ONE + b"garbage")
    assert (first, second[:8]) == ("u1", "not JSON")
    assert users(b"[" + ONE)[1] == "the array is not closed"


def test_a_wrapping_on_a_line_counts_as_what_is_in_it() -> None:
    lines = [ONE, b'{"wrapped":[' + ONE + b',{"x":1},' + TWO + b"]}", b'{"wrapped":[]}', b"{}"]
    counts, rejects = sort_in(Block(100, lines, kind="lines"), "file", Unwrapping(), BucketBlobs())
    assert (counts.accepted, counts.rejected) == (3, 2)
    assert [(reject.position, reject.content) for reject in rejects] == [
        (100 + len(ONE) + 1, b'{"x": 1}'),
        (100 + sum(len(line) + 1 for line in lines[:3]), b"{}"),
    ]
