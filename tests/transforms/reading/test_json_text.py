import json
import random
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.reject import CONTENT_LIMIT
from tests.support.parts import chunked, read, taken
from tests.support.paths import ROOT
from transforms.reading.activity import BOM, TOO_LONG, ActivityDecoder
from transforms.reading.admission import is_object
from transforms.reading.blocks import CHUNK, Block, Broken, CutShortError
from transforms.reading.bucket_blobs import BucketBlobs, sort_in
from transforms.reading.json_text import NOT_CLOSED, JsonText
from transforms.reading.limits import ReadLimits


def activity(number: int, **more: Any) -> dict[str, Any]:
    return {
        "record_id": f"r{number:03}",
        "user_id": "u",
        "session_id": 's}\\\n{"[',
        "activity_id": "é",
        "action": "START",
        "occurred_at": 1581951803000 + number,
    } | more


RESPONSES = [{"response_id": "q", "item_reference": "}{][", "attempted": True, "score": 1, "max_score": 2}]
MORE: list[dict[str, Any]] = [
    {},
    {"responses": RESPONSES},
    {"responses": RESPONSES * 2, "metadata": {"k": '"', "l": None}},
]
ACTIVITIES = st.lists(st.sampled_from(MORE), max_size=10).map(
    lambda parts: [activity(number) | part for number, part in enumerate(parts)]
)
SPELLING = st.tuples(st.sampled_from([None, None, 0, 1, 2, "\t"]), st.booleans())
BETWEEN = st.sampled_from(["\n", "\r\n", "", ",", ",\n", " , ", "\n\n", "\ufeff", "\n\ufeff", "\x1e", "\n\x1e", "\n  "])


@st.composite
def texts(draw: st.DrawFn, activities: list[dict[str, Any]]) -> str:
    """The activities in some way of joining, nesting and spelling them."""
    text = draw(st.sampled_from(["", "\ufeff", "\n", " "]))
    left = list(activities)
    while left:
        count = draw(st.integers(0, 4))
        if count == 0:
            text += spelled(left.pop(0), *draw(SPELLING))
        elif draw(st.booleans()):
            text += spelled(left[:count], *draw(SPELLING))
            del left[:count]
        else:
            elements = [spelled(each, *draw(SPELLING)) for each in left[:count]]
            text += "[" + draw(BETWEEN) + draw(BETWEEN).join(elements) + draw(BETWEEN) + "]"
            del left[:count]
        text += draw(BETWEEN)
    return text


def spelled(value: Any, indent: int | str | None, ascii_only: bool) -> str:
    return json.dumps(value, indent=indent, ensure_ascii=ascii_only)


@given(st.data(), ACTIVITIES, st.sampled_from([1, 2, 3, 7, 50, 300, 100_000]))
def test_the_same_activities_come_of_any_way_of_joining_and_cutting(
    data: st.DataObject, activities: list[dict[str, Any]], size: int
) -> None:
    content = data.draw(texts(activities)).encode()
    text = JsonText(chunked(content, size))
    found, counts, rejects = taken(text)
    expected, _, _ = taken(JsonText(iter([json.dumps(activities).encode()])))
    assert (found, rejects, counts.accepted) == (expected, [], len(activities))
    assert text.line_ends == content.count(b"\n")


BAD_LINES = st.sampled_from(
    [
        *(json.dumps(activity(999))[:cut] for cut in (1, 2, 14, 30, 60, 90, 135)),
        "garbage",
        "12 34",
        "2026,a,b",
        "<html>",
        "END RequestId: 0",
        '"text"',
        '{"a":NaN}',
        '{"a":"\\ud800"}',
        '{"a":1e999}',
        "{" + '"a":[' * 2000 + "]" * 2000 + "}",
        "null",
    ]
)


@given(st.lists(st.one_of(BAD_LINES, st.none()), max_size=12), st.sampled_from([1, 9, 100, 100_000]), st.booleans())
def test_a_bad_line_costs_itself_only(lines: list[str | None], size: int, ends: bool) -> None:
    """None is a good line. Each bad one is a reject with its place, its line and its bytes, and nothing else is."""
    content, bad, good = b"", [], 0
    for number, line in enumerate(lines):
        if line is not None:
            bad.append((len(content), line.encode(), len(line.encode())))
        good += line is None
        end = b"\n" if ends or number < len(lines) - 1 else b""
        content += (json.dumps(activity(number)) if line is None else line).encode() + end
    _, counts, rejects = taken(JsonText(chunked(content, size)))
    assert [(reject.position, reject.content, reject.length) for reject in rejects] == bad
    assert (counts.accepted, counts.rejected) == (good, len(bad))
    assert not counts.unread


def placed(text: JsonText) -> tuple[list[tuple[int, int | None, bytes]], list[Broken]]:
    """The position, the line and the content of every value, and what was broken.

    Lines that hold no whole object are asked for by value, as by a decoder.
    """
    items: list[tuple[int, int | None, bytes]] = []
    broken = []
    for part in text:
        if isinstance(part, Broken):
            broken.append(part)
            continue
        for index, (position, item) in enumerate(zip(part.positions(), part.items, strict=False)):
            if part.recut and item and not is_object(item):
                part.recut(index)
                break
            if item:
                items.append((position, part.line_of(index), item))
    return items, broken


def values(text: JsonText) -> tuple[list[tuple[int, bytes]], list[Broken]]:
    """The same without the lines."""
    items, broken = placed(text)
    return [(position, item) for position, _, item in items], broken


def by_value(content: bytes, size: int = 7) -> JsonText:
    return JsonText(chunked(content, size), by_value=True)


@pytest.mark.parametrize("size", [1, 3, 1000])
def test_values_know_their_place_and_their_line(size: int) -> None:
    content = b'{"a":1}{"a":2},\n\n{\n "a":3\n}\n[{"a":4},\n {"a":5}] {"a":6}'
    assert placed(by_value(content, size))[0] == [
        (0, 1, b'{"a":1}'),
        (7, 1, b'{"a":2}'),
        (17, 3, b'{\n "a":3\n}'),
        (29, 6, b'{"a":4}'),
        (39, 7, b'{"a":5}'),
        (48, 7, b'{"a":6}'),
    ]
    counted, _ = placed(JsonText(chunked(b" [" + content + b"]", size)))
    assert [(position, line) for position, line, _ in counted] == [(0, 1), (1, 1), (2, 3), (3, 6), (4, 7), (5, 7)]


def test_blank_lines_are_counted_however_the_text_is_read() -> None:
    good = json.dumps(activity(1)).encode()
    for content, blank in [
        (good + b"\n\n" + good + b"\n \r\n", 2),
        (good + good + b"\n\n" + good + b",\n\xef\xbb\xbf\n\n ", 4),
        (b"\n\nbad\n\n" + good + b"\n\n", 4),
        (b"[" + good + b"\n\n]", 0),
    ]:
        for size in (1, 10, 1000):
            assert taken(JsonText(chunked(content, size)))[1].blank == blank


def test_after_odd_lines_the_fast_way_is_taken_again() -> None:
    good = json.dumps(activity(1)).encode()
    content = good + good + b"\n" + (good + b"\n") * 100
    kinds = []
    for part in JsonText(chunked(content, 5000)):
        assert isinstance(part, Block)
        sort_in(part, "file", ActivityDecoder(), BucketBlobs())
        kinds.append(part.kind)
    assert kinds[0] == "lines"
    assert "elements" in kinds
    assert kinds[-1] == "lines"


@pytest.mark.parametrize("size", [1, 4, 1000])
@pytest.mark.parametrize(
    ("content", "good", "bad"),
    [
        # A pretty-printed object that is cut off, before another.
        (
            b'{\n  "a": [\n    {\n      "b": 1\n{\n  "c": 2\n}\n',
            [b'{\n  "c": 2\n}'],
            [b'{\n  "a": [\n    {\n      "b": 1'],
        ),
        # A syntax error in the middle of one, in an array.
        (
            b'[\n  {\n    "a": x,\n    "b": {\n    }\n  },\n  {"c": 2}\n]',
            [b'{"c": 2}'],
            [b'{\n    "a": x,\n    "b": {\n    }\n  },'],
        ),
        # An array on each line, one of them cut off.
        (b'{}\n[{"a":1},{"b":\n[{"c":2}]\n{"d":3}\n', [b"{}", b'{"a":1}', b'{"c":2}', b'{"d":3}'], [b'{"b":']),
        (b'{"a":1}trailing\n{"b":2}', [b'{"a":1}', b'{"b":2}'], [b"trailing"]),
        (b'{"a":1}]\n{"b":2}', [b'{"a":1}', b'{"b":2}'], [b"]"]),
        (b'{"a":"b\n{"c":1}\n{"d":1}', [b'{"c":1}', b'{"d":1}'], [b'{"a":"b']),
    ],
)
def test_what_a_syntax_error_costs(size: int, content: bytes, good: list[bytes], bad: list[bytes]) -> None:
    items, broken = values(by_value(content, size))
    refused = [part.content for part in broken]
    read_well = []
    for _, item in items:
        try:
            json.loads(item)
            read_well.append(item)
        except ValueError:
            refused.append(item)
    assert (read_well, refused) == (good, bad)
    assert not any(part.unread for part in broken)


@pytest.mark.parametrize("size", [1, 2, 3, 5, 100])
@pytest.mark.parametrize(
    ("content", "items", "position", "rest", "reason"),
    [
        (b'[{"a":1},{"b":', [b'{"a":1}'], 1, b'{"b":', NOT_CLOSED),
        (b'[{"a":1}', [b'{"a":1}'], 1, b"", NOT_CLOSED),
        (b'[{"a":1},', [b'{"a":1}'], 1, b"", NOT_CLOSED),
        (b"[", [], 0, b"", NOT_CLOSED),
        (b'[{"a":1},{"b":}, {"c":1}]', [b'{"a":1}'], 1, b'{"b":}, {"c":1}]', "a syntax error"),
        (b'[{"a":1},{"b":]}, {"c":1}]', [b'{"a":1}'], 1, b'{"b":]}, {"c":1}]', "a syntax error"),
    ],
)
def test_an_array_that_does_not_end(
    size: int, content: bytes, items: list[bytes], position: int, rest: bytes, reason: str
) -> None:
    found, broken = read(JsonText(chunked(content, size)))
    assert [item for _, item in found] == items
    (part,) = broken
    assert (part.position, part.content, part.length, part.reason) == (position, rest, len(rest), reason)
    assert part.unread


@pytest.mark.parametrize("size", [1, 4, 1000])
@pytest.mark.parametrize(
    "spoiled",
    [b'{"a":NaN}', b'{"a":"\xff"}', b'{"a":"\x01"}', b'{"a":"\\ud800"}', b'{"a":' * 4000 + b"1" + b"}" * 4000],
)
def test_a_spoiled_element_spoils_only_itself(size: int, spoiled: bytes) -> None:
    found, broken = read(JsonText(chunked(b'[{"a":1} ,' + spoiled + b' ,{"b":"]"}]', size)))
    assert not broken
    assert [item for _, item in found] == [b'{"a":1}', spoiled, b'{"b":"]"}']


def test_numbers_text_and_nulls_in_an_array_are_elements() -> None:
    for size in (1, 2, 100):
        found, broken = read(JsonText(chunked(b'[1, -0.5e3 ,"a,]",null,true\n,{"a":1}]', size)))
        assert not broken
        assert [item for _, item in found] == [b"1", b"-0.5e3", b'"a,]"', b"null", b"true", b'{"a":1}']


SHORT = ReadLimits(item=20)


def lengths(content: bytes, size: int) -> tuple[list[bytes], list[tuple[int, int, str]]]:
    """The items that are short enough, and the position, the length and the reason of all that is refused."""
    items, broken = read(JsonText(chunked(content, size), limits=SHORT))
    refused = [(part.position, part.length, part.reason) for part in broken]
    # What is too long and came as a whole is left to the decoder, which says the same.
    refused += [(position, len(item), TOO_LONG) for position, item in items if len(item) > 20]
    return [item for _, item in items if len(item) <= 20], sorted(refused)


@pytest.mark.parametrize("size", [1, 3, 10, 21, 22, 64, 1000])
def test_what_is_too_long_is_one_reject_and_the_rest_is_read(size: int) -> None:
    long = b'{"a":"' + b']\\"' * 20 + b'"}'
    pretty = b'{\n  "a": [\n    {},\n    {}\n  ], "b": "' + b"{" * 30 + b'"\n}'
    assert lengths(b"one\n" + b"x" * 50 + b"\ntwo\n" + b"y" * 60, size) == (
        [b"one", b"two"],
        [(4, 50, TOO_LONG), (59, 60, TOO_LONG)],
    )
    for between in (b"\n", b"", b","):
        content = b'{"a":1}' + between + long + between + b'{"b":2}'
        if size < len(content):
            assert lengths(content, size)[1] == [(7 + len(between), len(long), TOO_LONG)]
            assert lengths(content, size)[0][-1] == b'{"b":2}'
    assert lengths(b'[{"a":1},' + long + b',{"b":2}]', size) == ([b'{"a":1}', b'{"b":2}'], [(1, len(long), TOO_LONG)])
    assert lengths(b"[" + pretty + b',{"b":2}]', size) == ([b'{"b":2}'], [(0, len(pretty), TOO_LONG)])


@pytest.mark.parametrize("size", [1, 4, 25])
def test_what_is_too_long_and_never_ends(size: int) -> None:
    assert lengths(b'[{"a":1},{"b":"' + b"]" * 50, size) == ([b'{"a":1}'], [(1, 56, NOT_CLOSED)])
    # Beyond the limit nothing but a line that begins like a value is taken for one.
    cut = b'{"a":"' + b"x" * 50 + b"\n"
    assert lengths(cut + b'{"b":2}\n{"c":3}\n', size) == ([b'{"b":2}', b'{"c":3}'], [(0, len(cut) - 1, TOO_LONG)])


@pytest.mark.parametrize("size", [1, 4, 25, 1000])
@pytest.mark.parametrize(
    "answer",
    [
        b'{"statements": [{"id":1},\n{"id":2}\n], "more": "/xapi/more?page=2&x=\\"]}"}',
        b'{\n "more": null,\n "statements" : [ {"id":1}, {"id":2} ] }',
        b'{"statements":[{"id":1},{"id":2}]           }',
    ],
)
def test_an_answer_of_an_lrs_that_is_too_long_for_one_value_is_entered(size: int, answer: bytes) -> None:
    chunks = chunked(b'{"a":1}' + answer + b' {"b":2}', size)
    items, broken = values(JsonText(chunks, by_value=True, limits=ReadLimits(item=40)))
    assert not broken
    assert [item for _, item in items] == [b'{"a":1}', b'{"id":1}', b'{"id":2}', b'{"b":2}']


def test_a_long_line_is_not_held() -> None:
    """A line of 50 MiB: its head and its length are known."""
    chunk = b"x" * CHUNK
    items, (broken,) = read(JsonText(iter([b"{}\n", *[chunk] * 200, b"\n{}"])))
    assert items == [(0, b"{}"), (3 + 200 * len(chunk) + 1, b"{}")]
    assert (broken.position, broken.length, len(broken.content)) == (3, 200 * len(chunk), CONTENT_LIMIT)


@pytest.mark.slow
def test_a_value_that_is_never_closed_is_read_in_bounded_time() -> None:
    line = b'{"a": "' + b"x" * 1000 + b'"}\n'
    content = b'{"a": [\n' + line * 30_000
    items, broken = values(by_value(content, CHUNK))
    assert len(items) + len(broken) == 30_001


def cutting(content: bytes, reason: str, lost: int = 0) -> Iterator[bytes]:
    yield from chunked(content, 5)
    raise CutShortError(reason, b"\x00" * lost, lost)


@pytest.mark.parametrize(
    ("content", "items", "position", "left"),
    [
        (b'{"a":1}\n{"b":', [b'{"a":1}'], 8, b'{"b":'),
        (b'{"a":1}{"b":1}{"c"', [b'{"a":1}', b'{"b":1}'], 14, b'{"c"'),
        (b'{"a":1}\ngarb', [b'{"a":1}'], 8, b"garb"),
        (b'[{"a":1},{"b":', [b'{"a":1}'], 1, b'{"b":'),
        (b'[{"a":1}]', [b'{"a":1}'], 1, b""),
        (b"", [], 0, b""),
    ],
)
def test_cut_short_inside_a_compressed_stream(content: bytes, items: list[bytes], position: int, left: bytes) -> None:
    found, (broken,) = read(JsonText(cutting(content, "cut short", 3)))
    assert [item for _, item in found] == items
    assert (broken.position, broken.content, broken.length) == (position, left + b"\0\0\0", len(left) + 3)
    assert (broken.reason, broken.unread) == ("cut short", True)


@pytest.mark.parametrize("content", [b"", b" \n ", BOM, b"\n", b"[]", b" [ ] ", b"[[],[[]]]"])
def test_what_holds_nothing(content: bytes) -> None:
    for size in (1, 100):
        found, counts, rejects = taken(JsonText(chunked(content, size)))
        assert (found, rejects, counts.read) == ([], [], 0)


def test_a_part_of_a_byte_order_mark_is_no_mark() -> None:
    assert taken(JsonText(iter([b"\xef"])))[2][0].content == b"\xef"


@given(st.binary(max_size=200), st.integers(1, 50))
def test_any_bytes_are_read_to_their_end(content: bytes, size: int) -> None:
    first, counts, rejects = taken(JsonText(chunked(content, size)))
    again, other_counts, others = taken(JsonText(iter([content] if content else [])))
    assert (first, counts.blank) == (again, other_counts.blank)
    assert [reject.position for reject in rejects] == [reject.position for reject in others]


def test_damage_anywhere_raises_nothing() -> None:
    chance = random.Random(7)  # noqa: S311
    activities = [activity(number, responses=RESPONSES) for number in range(20)]
    for spelling in (None, 1):
        content = json.dumps(activities, indent=spelling).encode()
        joined = b"\n".join(json.dumps(each, indent=spelling).encode() for each in activities)
        for whole in (content, joined):
            for _ in range(100):
                damaged = bytearray(whole)
                damaged[chance.randrange(len(damaged))] ^= 1 << chance.randrange(8)
                _, counts, rejects = taken(JsonText(chunked(bytes(damaged), 512)))
                assert counts.accepted >= 18 or rejects


@pytest.mark.slow
def test_what_stands_between_values_takes_no_memory() -> None:
    script = """
from pathlib import Path
from transforms.reading.json_values import next_value

def peak():
    # In KiB. The peak that getrusage tells is at least the memory of the process that started this one.
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(lines["VmHWM"].split()[0])

blank = " " * 20_000_000
before = peak()
assert next_value(blank, 0) == len(blank)
assert peak() < before + 100_000
"""
    subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=True)  # noqa: S603
