"""The statements of a user that have arrived of late, so that one that arrives again is known."""

from collections.abc import Iterable
from enum import Enum
from hashlib import blake2b

import msgspec

from transforms.reading.originals import Original
from transforms.statements.comparison import DIGEST_SIZE, fingerprint, same_fingerprint

MOST_KNOWN = 10_000
"""How many statements of one user are known. Of a user with more the latest ones are."""


class Arrival(Enum):
    """What a statement that arrives is to those that have arrived before."""

    NEW = "new"
    DUPLICATE = "duplicate"
    CONFLICT = "conflict"


class _Known(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """A statement that has arrived.

    Attributes:
        id: a digest of its id, its organisation and its store.
        digest: see `transforms.statements.comparison.fingerprint`.
        timestamp: as `digest`.
        arrived: epoch ms.
    """

    id: bytes
    digest: bytes
    timestamp: int | None
    arrived: int


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(list[_Known]).decode


class KnownStatements:
    """What is known of a user's statements. `packed` is what a state keeps of it.

    Args:
        packed: as `pack` returned it; None for nothing.
        since: epoch ms; what arrived before is forgotten.
    """

    def __init__(self, packed: bytes | None, since: int) -> None:
        self._known = [each for each in _decode(packed) if each.arrived >= since] if packed else []

    def arrive(self, original: Original, now: int) -> Arrival:
        """Put a statement down as arrived, if it is new.

        Args:
            original: the statement.
            now: epoch ms.
        """
        name = "\0".join((original.id, repr(original.organisation), repr(original.lrs_id)))
        id_ = blake2b(name.encode("utf-8", "surrogatepass"), digest_size=DIGEST_SIZE).digest()
        print_ = fingerprint(original.text)
        for known in self._known:
            if known.id == id_:
                same = same_fingerprint((known.digest, known.timestamp), print_)
                return Arrival.DUPLICATE if same else Arrival.CONFLICT
        self._known.append(_Known(id_, *print_, now))
        return Arrival.NEW

    def pack(self) -> bytes | None:
        """What is to be kept; None for nothing."""
        return _encode(self._known[-MOST_KNOWN:]) if self._known else None

    def arrivals(self) -> Iterable[int]:
        """When each of them arrived, epoch ms."""
        return [each.arrived for each in self._known]
