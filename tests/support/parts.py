"""What a file was cut into, told in short."""

import json
from collections.abc import Iterable, Iterator
from typing import Any

from schemas import Reject
from transforms.reading.activity import ActivityDecoder
from transforms.reading.blocks import Block, Broken
from transforms.reading.bucket_blobs import BucketBlobs, ReadCounts, sort_in

Items = list[tuple[int, Any]]


def chunked(content: bytes, size: int = 7) -> Iterator[bytes]:
    return iter([content[at : at + size] for at in range(0, len(content), size)])


def read(parts: Iterable[Block | Broken]) -> tuple[Items, list[Broken]]:
    """Items with their positions, and what was broken."""
    items: Items = []
    broken = []
    for part in parts:
        if isinstance(part, Block):
            items += zip(part.positions(), part.items, strict=False)
        else:
            broken.append(part)
    return items, broken


def taken(parts: Iterable[Block | Broken]) -> tuple[list[Any], ReadCounts, list[Reject]]:
    """The activities that the job takes of a file, in the order of their record ids, its counts, and its rejects."""
    blobs, counts, rejects = BucketBlobs(), ReadCounts(), []
    for part in parts:
        more, refused = sort_in(part, "file", ActivityDecoder(), blobs)
        counts += more
        rejects += refused
    activities = [json.loads(line) for lines in blobs.lines.values() for line in lines]
    return sorted(activities, key=lambda activity: str(activity["record_id"])), counts, rejects


def admitted(parts: Iterable[Block | Broken]) -> tuple[int, list[tuple[int, str]]]:
    """How many activities the job takes of a file, and the position and reason of each reject."""
    accepted = 0
    rejects = []
    for part in parts:
        counts, refused = sort_in(part, "file", ActivityDecoder(), BucketBlobs())
        accepted += counts.accepted
        rejects += [(reject.position, reject.reason) for reject in refused]
    return accepted, rejects
