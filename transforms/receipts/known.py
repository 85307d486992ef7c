"""What compacted receipts say is delivered, ready to be asked: a run need not read the receipts themselves.

The file is made from the parts of receipts, says which these were, and is of no account as soon as they are others: a
part that was removed, or put back, counts at once. Then the parts are read, as if the file were not there.
"""

import logging
import zlib
from collections.abc import Callable, Iterator, Mapping
from typing import Self

import msgspec

from schemas.buckets import BUCKETS
from transforms.receipts.journal import PART, RECEIPTS
from transforms.receipts.runs import run_number
from transforms.storage import Storage, StorageError, frame, read_frames, storage_at

logger = logging.getLogger(__name__)

KNOWN = f"{RECEIPTS}/delivered.known"
"""The file, relative to the output."""

Ids = dict[str, list[str]]
"""The ids of the records that each forwarder has, by the forwarder's id."""

_VERSION = 1
_encode = msgspec.msgpack.Encoder().encode
_decode_ids = msgspec.msgpack.Decoder(dict[str, frozenset[str]]).decode


class KnownDeliveries(msgspec.Struct, frozen=True):
    """The head of the file. It pickles: workers are given it.

    Attributes:
        version: of the file's form.
        up_to: the number of the latest run whose receipts went into it.
        parts: the parts that these are in, and the bytes of each.
        sizes: the bytes of each bucket, which follow the head one after the other.
        checks: the CRC-32 of each bucket.
        begins: where the first bucket begins in the file.
        output: where the file is.
    """

    version: int
    up_to: int
    parts: dict[str, int]
    sizes: tuple[int, ...]
    checks: tuple[int, ...]
    begins: int = 0
    output: str = ""

    @classmethod
    def found(cls, storage: Storage) -> Self | None:
        """What is known by a file that fits the parts that are there in an output; None if there is none."""
        sizes = storage.sizes(RECEIPTS)
        if KNOWN.rpartition("/")[2] not in sizes:
            return None
        try:
            with storage.open(KNOWN) as stream:
                (_, data), end = next(read_frames(stream)), stream.tell()
            known = msgspec.msgpack.decode(data[4:], type=cls)
            sound = known.version == _VERSION and zlib.crc32(data[4:]) == int.from_bytes(data[:4], "little")
        except (OSError, EOFError, StopIteration, msgspec.DecodeError, msgspec.ValidationError):
            sound = False
        if not sound:
            logger.warning("%s/%s is damaged: all receipts are read, which takes longer", storage.root, KNOWN)
            return None
        there = {name: size for name, size in sizes.items() if name.endswith(PART) and run_number(name) <= known.up_to}
        return msgspec.structs.replace(known, begins=end, output=storage.root) if there == known.parts else None

    def bucket(self, bucket: int) -> Mapping[str, frozenset[str]]:
        """The ids of the records that each forwarder has, for the users of a bucket.

        Raises:
            StorageError: the file has gone, or is damaged there.
        """
        storage = storage_at(self.output)
        try:
            with storage.open(KNOWN) as stream:
                stream.seek(self.begins + sum(self.sizes[:bucket]))
                data = stream.read(self.sizes[bucket])
        except OSError as error:
            raise StorageError(
                f"{storage.root}/{KNOWN} cannot be read: {error.strerror or error}; run again: without it the receipts "
                "themselves are read"
            ) from error
        if zlib.crc32(data) != self.checks[bucket]:
            raise StorageError(
                f"{storage.root}/{KNOWN} is damaged: remove it, then run again; the receipts themselves say the same"
            )
        return _decode_ids(data)


def write_known(storage: Storage, up_to: int, parts: Mapping[str, int], ids: Callable[[int], Ids]) -> None:
    """Write the file. It is on the disk when this returns.

    Args:
        storage: the output.
        up_to: the number of the latest run whose receipts are in it.
        parts: the parts of receipts of the runs up to there, and the bytes of each, as they will be.
        ids: gives what is delivered for the users of a bucket. It is called for each bucket once, in order.
    """
    buckets = [_encode(ids(bucket)) for bucket in range(BUCKETS)]
    head = KnownDeliveries(_VERSION, up_to, dict(parts), tuple(map(len, buckets)), tuple(map(zlib.crc32, buckets)))
    encoded = _encode(head)

    def pieces() -> Iterator[bytes]:
        yield frame(zlib.crc32(encoded).to_bytes(4, "little") + encoded)
        yield from buckets

    storage.write(KNOWN, pieces())
