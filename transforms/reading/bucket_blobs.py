"""What travels from reading to folding: activity in its raw bytes, by bucket of its user, compressed.

Bytes, because the garbage collector does not look at them and they are small; a blob for each bucket rather than
an element for each activity, because the engine's cost is per element (docs/beam-notes.md section 2).
"""

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from zlib import crc32

import msgspec
import zstandard

from schemas import Activity, Reject
from schemas.buckets import BUCKETS, bucket_of
from schemas.reject import CONTENT_LIMIT
from transforms.reading.activity import BOM, ActivityError, decode_admitted
from transforms.reading.blocks import Block, Broken
from transforms.reading.input_formats import Decoder

BLOB_SIZE = 16 * 1024 * 1024
"""Bytes of activity gathered before they are compressed and sent off."""

PASS_SIZE = 256 * 1024 * 1024
"""Bytes of activity that are decompressed at once, about."""

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(dict[str, list[bytes]]).decode


@dataclass(frozen=True, slots=True)
class ReadCounts:
    """A part of the input in numbers; they add up.

    `size` is bytes read of the files; `unfinished` counts file ranges left because the job was told to stop.
    """

    accepted: int = 0
    rejected: int = 0
    blank: int = 0
    size: int = 0
    unfinished: int = 0

    @property
    def read(self) -> int:
        return self.accepted + self.rejected

    def __add__(self, other: "ReadCounts") -> "ReadCounts":
        return ReadCounts(
            self.accepted + other.accepted,
            self.rejected + other.rejected,
            self.blank + other.blank,
            self.size + other.size,
            self.unfinished + other.unfinished,
        )


class BucketBlobs:
    """Gathers admitted activity by user, and gives it back as one blob for each bucket.

    A blob is zstd of msgpack {user id: [line, ...]}; a line is what a decoder's `admit` gave.
    """

    def __init__(self) -> None:
        self.lines: defaultdict[str, list[bytes]] = defaultdict(list)
        self.size = 0
        """Bytes gathered: whoever adds lines adds their sizes."""

    def take(self) -> list[tuple[int, bytes]]:
        """(bucket, blob) of everything gathered so far, which is then forgotten."""
        buckets: defaultdict[int, dict[str, list[bytes]]] = defaultdict(dict)
        for user_id, lines in self.lines.items():
            buckets[bucket_of(user_id)][user_id] = lines
        self.lines.clear()
        self.size = 0
        compress = zstandard.ZstdCompressor(level=1).compress
        return [(bucket, compress(_encode(users))) for bucket, users in buckets.items()]


def sort_in(block: Block | Broken, file: str, decoder: Decoder, blobs: BucketBlobs) -> tuple[ReadCounts, list[Reject]]:
    """Put the activity of a block of `file` into `blobs`. Returns how much there was, and what was refused."""
    if isinstance(block, Broken):
        return ReadCounts(rejected=1), [Reject(file, block.position, block.reason, block.content, block.length)]
    refused: list[tuple[int, str]] = []
    blank = 0
    admit = decoder.admit_row if block.kind == "rows" else decoder.admit
    lines = blobs.lines
    size = 0
    for index, item in enumerate(block.items):
        try:
            user_id, line = admit(item)
        except ActivityError as error:
            if block.kind == "lines" and not item.removeprefix(BOM).strip():
                blank += 1
            else:
                refused.append((index, str(error)))
        else:
            lines[user_id].append(line)
            size += len(line)
    blobs.size += size
    accepted = len(block.items) - len(refused) - blank
    if not refused:
        return ReadCounts(accepted=accepted, blank=blank), []
    positions = block.positions()
    rejects = []
    for index, reason in refused:
        content = _content(block.items[index])
        rejects.append(Reject(file, positions[index], reason, content[:CONTENT_LIMIT], len(content)))
    return ReadCounts(accepted=accepted, rejected=len(refused), blank=blank), rejects


def _content(item: object) -> bytes:
    """An item as a reject shows it: a row as JSON."""
    if isinstance(item, bytes):
        return item
    return json.dumps(item, default=str, ensure_ascii=False).encode(errors="backslashreplace")


def users_of(blobs: Iterable[bytes], pass_size: int = PASS_SIZE) -> Iterator[tuple[str, list[Activity]]]:
    """One bucket's users, each once, with all their activity in no order.

    `blobs` are those of one bucket. Where they hold more than `pass_size` bytes they are gone through several times,
    for a part of the users each time, so that no more than about `pass_size` is decompressed at once (or one user).
    """
    kept = list(blobs)
    passes = 1 + sum(zstandard.frame_content_size(blob) for blob in kept) // pass_size
    for turn in range(passes):
        for user_id, lines in lines_by_user(kept, passes, turn):
            yield user_id, [decode_admitted(line) for line in lines]


def lines_by_user(blobs: Iterable[bytes], passes: int, turn: int) -> Iterator[tuple[str, list[bytes]]]:
    """The users of one of several passes over a bucket's blobs, each once, with all their lines."""
    users: defaultdict[str, list[bytes]] = defaultdict(list)
    for blob in blobs:
        for user_id, lines in _users(blob).items():
            if passes == 1 or crc32(user_id.encode()) // BUCKETS % passes == turn:
                users[user_id] += lines
    while users:
        yield users.popitem()


def _users(blob: bytes) -> Mapping[str, list[bytes]]:
    users: dict[str, list[bytes]] = _decode(zstandard.ZstdDecompressor().decompress(blob))
    return users
