import random
from collections import Counter, defaultdict
from itertools import pairwise
from typing import Any

import orjson
from hypothesis import given
from hypothesis import strategies as st

from schemas import Activity, Reject
from schemas.buckets import BUCKETS, bucket_of
from schemas.reject import CONTENT_LIMIT
from transforms.reading.activity import ActivityDecoder, canonical, decode_admitted
from transforms.reading.blocks import Block, Broken
from transforms.reading.bucket_blobs import BucketBlobs, ReadCounts, in_passes, lines_by_user, sort_in
from transforms.reading.reasons import Place


def line(user: str, number: int = 0, **more: Any) -> bytes:
    return orjson.dumps(
        {
            "record_id": f"{user}-{number}",
            "user_id": user,
            "session_id": "s",
            "activity_id": "a",
            "action": "START",
            "occurred_at": 1581951803000 + number,
        }
        | more
    )


def sorted_in(*blocks: Block | Broken) -> tuple[dict[int, list[bytes]], ReadCounts, list[Reject]]:
    """All blocks through one BucketBlobs, emptied after each: what every bucket gets, the sum and the rejects."""
    shards, counts, rejects = BucketBlobs(), ReadCounts(), []
    blobs: defaultdict[int, list[bytes]] = defaultdict(list)
    for block in blocks:
        more, refused = sort_in(block, "file", ActivityDecoder(), shards)
        counts += more
        rejects += refused
        for bucket, blob in shards.take():
            blobs[bucket].append(blob)
    return blobs, counts, rejects


def read_back(blobs: dict[int, list[bytes]]) -> dict[str, list[Activity]]:
    found: dict[str, list[Activity]] = {}
    for bucket, of_bucket in blobs.items():
        for user_id, lines in in_passes(of_bucket, lines_by_user):
            assert user_id not in found
            assert bucket_of(user_id) == bucket
            found[user_id] = [decode_admitted(line) for line in lines]
    return found


USERS = st.sampled_from(["u", "é", "学生", "x" * 256, "user 1", "user 2"])


@given(st.lists(st.tuples(USERS, st.integers(0, 5)), max_size=30), st.sets(st.integers(1, 29)))
def test_every_activity_comes_out_with_its_user_however_it_was_cut(said: list[tuple[str, int]], cuts: set[int]) -> None:
    lines = [line(user, number) for user, number in said]
    edges = [0, *sorted(cut for cut in cuts if cut < len(lines)), len(lines)]
    blocks = [Block(a, lines[a:b], kind="elements") for a, b in pairwise(edges)]
    blobs, counts, rejects = sorted_in(*blocks)
    assert (counts, rejects) == (ReadCounts(accepted=len(lines), accepted_bytes=sum(map(len, lines))), [])
    found = read_back(blobs)
    assert {user: Counter(map(canonical, activities)) for user, activities in found.items()} == {
        user: Counter(
            canonical(ActivityDecoder().decode(text)) for text in lines if orjson.loads(text)["user_id"] == user
        )
        for user in {user for user, _ in said}
    }


def test_rejects_say_where_and_why() -> None:
    lines = [line("u"), b"", b"nonsense\r", b" \r", b"\xef\xbb\xbf\r", line("u", action="STOP"), line("v")]
    _, counts, rejects = sorted_in(Block(1000, lines, kind="lines"))
    assert (counts.accepted, counts.rejected, counts.blank) == (2, 2, 3)
    first, second = rejects
    assert (first.file, first.position, first.content, first.length) == (
        "file",
        1000 + len(lines[0]) + 2,
        b"nonsense\r",
        9,
    )
    assert first.reason.startswith("not JSON")
    assert second.position == 1000 + sum(len(text) + 1 for text in lines[:5])
    assert second.reason.startswith("action: not allowed")


def test_positions_of_elements_are_indexes_and_a_blank_element_is_no_blank_line() -> None:
    _, counts, rejects = sorted_in(Block(7, [line("u"), b" ", b"1"], kind="elements"))
    assert (counts.accepted, counts.rejected, counts.blank) == (1, 2, 0)
    assert [reject.position for reject in rejects] == [8, 9]


def test_a_long_reject_keeps_its_beginning() -> None:
    text = line("u", action="STOP", x="y" * 200_000)
    (reject,) = sorted_in(Block(0, [text], kind="lines"))[2]
    assert (reject.content, reject.length) == (text[:CONTENT_LIMIT], len(text))


def test_what_could_not_be_cut_is_one_reject() -> None:
    _, counts, rejects = sorted_in(Broken(5, "cut short", b"xy", 2))
    assert (counts.accepted, counts.rejected, counts.rejected_bytes) == (0, 1, 2)
    assert rejects == [Reject("file", 5, "cut short", b"xy", 2)]


def test_a_row_is_shown_as_json() -> None:
    rows = [orjson.loads(line("u")), {"user_id": "\udcff", "x": 1.5}, "no record"]
    _, counts, rejects = sorted_in(Block(0, rows, kind="rows"))
    assert (counts.accepted, counts.rejected, counts.blank) == (1, 2, 0)
    assert [reject.content for reject in rejects] == [b'{"user_id": "\\udcff", "x": 1.5}', b'"no record"']
    assert [reject.position for reject in rejects] == [1, 2]


def test_the_same_user_of_two_organisations_stays_together() -> None:
    blobs, _, _ = sorted_in(Block(0, [line("u", organisation="a"), line("u", organisation="b")], kind="lines"))
    assert [activity.organisation for activity in read_back(blobs)["u"]] == ["a", "b"]


def test_a_large_bucket_is_gone_through_in_parts() -> None:
    users = [user for user in (f"user-{number}" for number in range(64 * 40)) if bucket_of(user) == 0]
    lines = [line(user, number) for user in users for number in range(50)]
    random.Random(1).shuffle(lines)  # noqa: S311
    shards = BucketBlobs()
    sort_in(Block(0, lines, kind="lines"), "file", ActivityDecoder(), shards)
    ((bucket, blob),) = shards.take()
    assert bucket == 0
    at_once = list(in_passes([blob], lines_by_user))
    in_parts = list(in_passes([blob], lines_by_user, pass_size=100_000))
    assert [user for user, _ in in_parts] != [user for user, _ in at_once]
    assert {user: sorted(found) for user, found in in_parts} == {user: sorted(found) for user, found in at_once}
    assert len(in_parts) == len(users)


def test_every_bucket_of_many_users_is_used() -> None:
    blobs, _, _ = sorted_in(Block(0, [line(f"user-{number}") for number in range(5000)], kind="lines"))
    assert sorted(blobs) == list(range(BUCKETS))


def test_bytes_are_counted_as_they_are_in_the_file() -> None:
    lines = [line("u"), b"", b"nonsense", line("v", x=1.5)]
    size = sum(len(text) + 1 for text in lines)
    counts, _ = sort_in(Block(0, lines, kind="lines", size=size), "file", ActivityDecoder(), BucketBlobs())
    assert (counts.accepted_bytes, counts.rejected_bytes) == (size - 8, 8)
    row = orjson.loads(line("u"))
    counts, _ = sort_in(Block(0, [row, row | {"seq": "x"}], kind="rows"), "file", ActivityDecoder(), BucketBlobs())
    assert counts.accepted_bytes == len(line("u"))
    assert counts.rejected_bytes > len(line("u"))
    counts, _ = sort_in(Broken(5, "damaged", b"xy", 2000, 30, unread=True), "file", ActivityDecoder(), BucketBlobs())
    assert (counts.rejected, counts.rejected_bytes, counts.unread) == (30, 2000, frozenset({"file"}))


def test_counts_add_up() -> None:
    one = ReadCounts(1, 2, 3, 4, 5, 6, 7, frozenset({"a"}), {"f": {0: 10}})
    other = ReadCounts(10, 20, 30, 40, 50, 60, 70, frozenset({"b"}), {"f": {64: 20}, "g": {0: 1}})
    lines = {"f": {0: 10, 64: 20}, "g": {0: 1}}
    assert one + other == ReadCounts(11, 22, 33, 44, 55, 66, 77, frozenset({"a", "b"}), lines)
    assert (one + other).line_of(Place("f", 64, 0, 3, "element", None, "")) == 13
    assert (one + other).line_of(Place("h", 0, 0, 3, "element", None, "")) == 3
    assert ReadCounts(accepted=3, rejected=2).read == 5
