"""What travels from reading to deriving: blobs of activity, each of one bucket of users.

Activity travels as bytes, because bytes are small and the garbage collector does not look into them. It travels in
blobs, because a runner's cost is for each element and not for each byte (docs/beam-notes.md section 2).
"""

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeVar
from zlib import crc32

import msgspec
import zstandard

from schemas import Reject
from schemas.buckets import BUCKETS, bucket_of
from schemas.reject import CONTENT_LIMIT
from transforms.reading.activity import (
    BOM,
    ActivityError,
    TooManyValuesError,
    check_values,
    may_have_too_many_values,
)
from transforms.reading.admission import admit_again, alone, is_object
from transforms.reading.blocks import Block, Broken
from transforms.reading.input_formats import Decoder
from transforms.reading.originals import Original, OriginalDecoder, decode_original
from transforms.reading.positions import Positions, later
from transforms.reading.reasons import Place, Reasons, Unit
from transforms.reading.utf8 import are_utf8
from transforms.reading.voids import NOTHING, Void
from transforms.reading.xapi import PassedOverError

BLOB_SIZE = 16 * 1024 * 1024
"""Bytes of activity that a worker gathers before it compresses them and gives them on."""

_QUICK = -3
"""The level of zstd for statements. Nothing is made of them, so that compressing is much of the work."""

PASS_SIZE = 64 * 1024 * 1024
"""About how many bytes of activity are decompressed at a time."""

_encode_into = msgspec.msgpack.Encoder().encode_into
_decode_lines = msgspec.msgpack.Decoder(dict[str, list[bytes]]).decode
_decode_originals = msgspec.msgpack.Decoder(dict[str, list[Original]]).decode


@dataclass(frozen=True, slots=True)
class ReadCounts:
    """A part of the input in numbers. They add up with `+`.

    Attributes:
        accepted: activities, or statements.
        rejected: pieces of input that were refused; rows, of a part that says how many it holds.
        blank: blank lines.
        size: bytes that were read of the files.
        unfinished: file ranges of which something was left, because the run was asked to stop.
        accepted_bytes: what was accepted, decompressed; rows in the spelling in which they travel.
        rejected_bytes: what was refused, decompressed as far as it could be; rows as JSON.
        unread: the files that were not read to their end, because of something in them.
        line_ends: of files that were read in several ranges: the line ends in each, by file and start of the range.
        passed_over: by name, what is no activity and not wrong either.
        left_out: by name, results that were left out of activity that was read.
        voids: the activity that is to count as never read, in this part of the input or in another.
        reasons: why it was rejected.
        positions: up to where the live sources were read.
        failures: why live sources could not be read to their end, in words for the user.
    """

    accepted: int = 0
    rejected: int = 0
    blank: int = 0
    size: int = 0
    unfinished: int = 0
    accepted_bytes: int = 0
    rejected_bytes: int = 0
    unread: frozenset[str] = frozenset()
    line_ends: dict[str, dict[int, int]] = field(default_factory=dict)
    passed_over: Mapping[str, int] = field(default_factory=dict)
    left_out: Mapping[str, int] = field(default_factory=dict)
    voids: frozenset[Void] = NOTHING
    reasons: Reasons = field(default_factory=Reasons)
    positions: Positions = field(default_factory=dict)
    failures: frozenset[str] = frozenset()

    @property
    def read(self) -> int:
        """Pieces of input that were read; blank lines do not count."""
        return self.accepted + self.rejected + sum(self.passed_over.values())

    def __add__(self, other: "ReadCounts") -> "ReadCounts":
        return ReadCounts(
            self.accepted + other.accepted,
            self.rejected + other.rejected,
            self.blank + other.blank,
            self.size + other.size,
            self.unfinished + other.unfinished,
            self.accepted_bytes + other.accepted_bytes,
            self.rejected_bytes + other.rejected_bytes,
            self.unread | other.unread,
            _merged(self.line_ends, other.line_ends),
            _added(self.passed_over, other.passed_over),
            _added(self.left_out, other.left_out),
            self.voids | other.voids if other.voids else self.voids,
            self.reasons + other.reasons,
            later(self.positions, other.positions),
            self.failures | other.failures if other.failures else self.failures,
        )

    def line_of(self, place: Place) -> int | None:
        """The number of the line at `place`, counted from 1 in its file; None where it is not known."""
        if place.line is None:
            return None
        ranges = self.line_ends.get(place.file, {})
        return place.line + sum(line_ends for start, line_ends in ranges.items() if start < place.start)


def _merged(one: dict[str, dict[int, int]], other: dict[str, dict[int, int]]) -> dict[str, dict[int, int]]:
    if not one or not other:
        return one or other
    return {file: one.get(file, {}) | other.get(file, {}) for file in one.keys() | other.keys()}


def _added(one: Mapping[str, int], other: Mapping[str, int]) -> Mapping[str, int]:
    if not one or not other:
        return one or other
    return {name: one.get(name, 0) + other.get(name, 0) for name in sorted({*one, *other})}


class BucketBlobs:
    """Gathers lines of activity by user, and gives them back as one blob for each bucket.

    A blob is msgpack, compressed with zstd: {user id: [line, ...]}. A line is what `Decoder.admit` returned. Where
    statements are forwarded as they are, it is {user id: [Original, ...]}.
    """

    def __init__(self) -> None:
        self.lines: defaultdict[str, list[bytes]] = defaultdict(list)
        self.originals: defaultdict[str, list[Original]] = defaultdict(list)
        self.size = 0
        """Bytes that were gathered. Who adds a line adds its length here."""

    def take(self) -> list[tuple[int, bytes]]:
        """(bucket, blob) for each bucket that something was gathered of. All of it is then forgotten here."""
        blobs = _blobs(self.lines, 1) + _blobs(self.originals, _QUICK)
        self.lines.clear()
        self.originals.clear()
        self.size = 0
        return blobs


def _blobs(users: Mapping[str, list[bytes]] | Mapping[str, list[Original]], level: int) -> list[tuple[int, bytes]]:
    buckets: defaultdict[int, dict[str, Any]] = defaultdict(dict)
    for user_id, lines in users.items():
        buckets[bucket_of(user_id)][user_id] = lines
    compress = zstandard.ZstdCompressor(level).compress
    encoded = bytearray()  # one for all: to let each grow anew takes five times as long
    blobs = []
    for bucket, of_bucket in buckets.items():
        _encode_into(of_bucket, encoded)
        blobs.append((bucket, compress(encoded)))
    return blobs


def sort_in(
    block: Block | Broken,
    file: str,
    decoder: Decoder,
    blobs: BucketBlobs,
    start: int = 0,
    unit: Unit = "element",
    number: int = 0,
) -> tuple[ReadCounts, list[Reject]]:
    """Check what is in a block, and put the activity in it into `blobs`.

    At the first line that holds no whole object, the block is asked to give the rest of it again.

    Args:
        block: of the file.
        file: its path, for the rejects.
        decoder: checks one item of the block.
        blobs: where the activity goes.
        start: where the part of the file begins that is being read, for the places of reasons.
        unit: what the position of a `Broken` counts.
        number: of the file in the order of all files' paths, for the places of lines.

    Returns:
        How much there was (without `size`), and what was refused.
    """
    if isinstance(block, Broken):
        error = ActivityError(block.reason)
        length = max(block.length, len(block.content))
        refusal = _Refusal(block.position, block.line, error, block.content, length, max(block.rows or 1, 1))
        counts, rejects = _refused([refusal], file, decoder, start, unit)
        return (counts + ReadCounts(unread=frozenset((file,))) if block.unread else counts), rejects
    refused: list[tuple[int, ActivityError, bytes]] = []
    passed_over: Counter[str] = Counter()
    voids: set[Void] = set()
    originals = blobs.originals if isinstance(decoder, OriginalDecoder) else None
    places = block.positions() if originals is not None else ()
    admit = _admission(block, decoder)
    lines = blobs.lines
    count, blank = len(block.items), 0
    size = 0
    length = block.size if block.size or block.kind == "rows" else sum(map(len, block.items))
    if may_have_too_many_values(length):
        admit = _counting_values(admit)
    for index, item in enumerate(block.items):
        try:
            user_id, line = admit(item)
        except TooManyValuesError as error:
            refused.append((index, alone(error), item))
        except ActivityError as error:
            if block.kind == "lines" and not item.removeprefix(BOM).strip():
                blank += 1
                count -= 1
            elif block.recut and not is_object(item):
                block.recut(index)
                count -= len(block.items) - index
                length -= sum(len(left) + 1 for left in block.items[index:])
                break
            elif block.kind == "rows":
                refused.append((index, alone(error), _content(item)))
            else:
                count -= 1
                for part, (piece, outcome) in enumerate(admit_again(item, decoder, error)):
                    if isinstance(outcome, PassedOverError):
                        passed_over[outcome.name] += 1
                        if outcome.voids is not None:
                            voids.add(outcome.voids)
                        continue
                    count += 1
                    if isinstance(outcome, ActivityError):
                        refused.append((index, outcome, piece))
                        continue
                    user_id, line = outcome
                    size += len(line)
                    if originals is None:
                        lines[user_id].append(line)
                    else:
                        original = decode_original(line)
                        original.file, original.position, original.part = number, places[index], part
                        originals[user_id].append(original)
        else:
            if originals is None:
                lines[user_id].append(line)
                size += len(line)
            else:
                line.file, line.position = number, places[index]
                originals[user_id].append(line)
                size += len(line.text)
    blobs.size += size
    blank += block.blank
    lost = sum(len(content) for _, _, content in refused)
    accepted = ReadCounts(
        accepted=count - len(refused),
        blank=blank,
        accepted_bytes=max(length - lost, 0) if length else size,
        passed_over=passed_over,
        left_out=decoder.take_left_out(),
        voids=decoder.take_voids() | voids,
    )
    if not refused:
        return accepted, []
    positions = block.positions()
    refusals = [
        _Refusal(positions[index], block.line_of(index), error, content, len(content))
        for index, error, content in refused
    ]
    counts, rejects = _refused(refusals, file, decoder, start, "row" if block.kind == "rows" else "element")
    return accepted + counts, rejects


def _admission(block: Block, decoder: Decoder) -> Callable[[Any], tuple[str, Any]]:
    """What is asked for each item of a block. It gives the user id, and what is gathered of the user."""
    if block.kind == "rows":
        return decoder.admit_row
    if not isinstance(decoder, OriginalDecoder):
        return decoder.admit
    if decoder.derive:
        return decoder.read
    return decoder.read_utf8 if are_utf8(block.items) else decoder.read_alone


def _counting_values(admit: Callable[[bytes], tuple[str, Any]]) -> Callable[[bytes], tuple[str, Any]]:
    """`admit`, but what has too many values is refused before it is decoded."""

    def admit_if_few(item: bytes) -> tuple[str, Any]:
        check_values(item)
        return admit(item)

    return admit_if_few


class _Refusal(NamedTuple):
    position: int
    line: int | None
    error: ActivityError
    content: bytes
    length: int
    rows: int = 1


def _refused(
    refusals: Iterable[_Refusal], file: str, decoder: Decoder, start: int, unit: Unit
) -> tuple[ReadCounts, list[Reject]]:
    reasons = Reasons()
    rejects = []
    count = size = 0
    for position, line, error, content, length, rows in refusals:
        reason = str(error)
        path, rule = error.kind
        # What is in a damaged container says nothing, and its beginning says no more than that it is one.
        known = reason.startswith("not readable as ") or isinstance(error, TooManyValuesError)
        looks_like = None if known else decoder.guess(content)
        reasons.add(Place(file, start, position, line, unit, path, reason), rule, looks_like, rows)
        rejects.append(Reject(file, position, reason, content[:CONTENT_LIMIT], length))
        count, size = count + rows, size + length
    return ReadCounts(rejected=count, rejected_bytes=size, reasons=reasons), rejects


def _content(item: object) -> bytes:
    """An item as a reject holds it: a row is shown as JSON."""
    if isinstance(item, bytes):
        return item
    return json.dumps(item, default=str, ensure_ascii=False).encode(errors="backslashreplace")


T = TypeVar("T")

Split = Callable[[Collection[bytes], int, int], Iterator[T]]
"""Goes through one pass over the blobs of a bucket: given the blobs, how many passes there are, and which this is."""


def in_passes(blobs: Collection[bytes], split: Split[T], pass_size: int = PASS_SIZE) -> Iterator[T]:
    """All that `split` gives for a bucket.

    Where the blobs hold more than `pass_size` bytes, they are decompressed several times, each time for another part of
    the users. So about `pass_size` bytes are in memory at a time, or all of one user if that is more.

    Args:
        blobs: all of one bucket. They are gone through once more than there are passes.
        split: such as `lines_by_user`.
        pass_size: bytes.
    """
    passes = 1 + unpacked_size(blobs) // pass_size
    for turn in range(passes):
        yield from split(blobs, passes, turn)


def unpacked_size(blobs: Iterable[bytes]) -> int:
    """Bytes that blobs hold, decompressed."""
    return sum(map(zstandard.frame_content_size, blobs))


def lines_by_user(blobs: Iterable[bytes], passes: int, turn: int) -> Iterator[tuple[str, list[bytes]]]:
    """Each user of one pass over a bucket's blobs, once, with all their lines, in no order.

    Args:
        blobs: all of one bucket.
        passes: how often the blobs are gone through, each time for another part of the users.
        turn: which of the passes this is, from 0.
    """
    return _by_user(blobs, passes, turn, _decode_lines)


def originals_by_user(blobs: Iterable[bytes], passes: int, turn: int) -> Iterator[tuple[str, list[Original]]]:
    """As `lines_by_user`, of blobs of statements that are forwarded as they are."""
    return _by_user(blobs, passes, turn, _decode_originals)


def _by_user(
    blobs: Iterable[bytes], passes: int, turn: int, decode: Callable[[bytes], Mapping[str, list[T]]]
) -> Iterator[tuple[str, list[T]]]:
    users: defaultdict[str, list[T]] = defaultdict(list)
    decompress = zstandard.ZstdDecompressor().decompress
    for blob in blobs:
        for user_id, lines in decode(decompress(blob)).items():
            if passes == 1 or crc32(user_id.encode()) // BUCKETS % passes == turn:
                users[user_id] += lines
    while users:
        yield users.popitem()
