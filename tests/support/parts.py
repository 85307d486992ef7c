"""What a file was cut into, told in short."""

from collections.abc import Iterable, Iterator
from typing import Any

from transforms.reading.activity import ActivityDecoder
from transforms.reading.blocks import Block, Broken
from transforms.reading.bucket_blobs import BucketBlobs, sort_in

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


def admitted(parts: Iterable[Block | Broken]) -> tuple[int, list[tuple[int, str]]]:
    """How many activities the job takes of a file, and the position and reason of each reject."""
    accepted = 0
    rejects = []
    for part in parts:
        counts, refused = sort_in(part, "file", ActivityDecoder(), BucketBlobs())
        accepted += counts.accepted
        rejects += [(reject.position, reject.reason) for reject in refused]
    return accepted, rejects
