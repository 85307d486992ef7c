"""Which part of a refused batch is sent next, until each guilty record is alone (docs/spec/forwarders.md section 2).

    bisection = Bisection(batch)
    while part := bisection.next():
        ...  # send it, and then one of
        bisection.taken()
        bisection.refused()  # for what is in it: it has to be split
        bisection.judged()   # it is one record, and that has its verdict

Parts are sent one after the other, in the order of the records. It is for batches of which a receiver takes all or
nothing: where a refused part's first half is taken, the second is known to be refused, and is split without being sent.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass(slots=True)
class _Part(Generic[T]):
    """Records that are still to be sent.

    Attributes:
        is_first_half: of a part that was refused for a record in it; its second half comes next.
        is_refused: it is known that it would be refused as it is.
    """

    records: Sequence[T]
    is_first_half: bool = False
    is_refused: bool = False


class Bisection(Generic[T]):
    """A batch, and the parts that it is split into."""

    def __init__(self, batch: Sequence[T]) -> None:
        self._parts = [_Part(batch)]

    def next(self) -> Sequence[T]:
        """The part that is to be sent now; empty when there is none left."""
        parts = self._parts
        while parts and parts[-1].is_refused and len(parts[-1].records) > 1:
            self._split(parts.pop())
        return parts[-1].records if parts else ()

    def taken(self) -> None:
        """The part was taken."""
        part = self._parts.pop()
        if part.is_first_half and self._parts:
            self._parts[-1].is_refused = True

    def judged(self) -> None:
        """The part was one record, which was given up; or nothing of it is to be sent after all."""
        self._parts.pop()

    def refused(self, for_its_size: bool = False) -> None:
        """The part, of two records or more, was refused for what is in it.

        Args:
            for_its_size: and not for a record in it: both halves may be taken.
        """
        self._split(self._parts.pop(), for_its_size)

    def keep(self, records: Sequence[T]) -> None:
        """Of the part only these records are to be sent. If that is none, the next part is next."""
        self._parts[-1].records = records
        if not records:
            self._parts.pop()

    def left(self) -> list[T]:
        """Take out all that is still to be sent, in order."""
        left = [record for part in reversed(self._parts) for record in part.records]
        self._parts.clear()
        return left

    def _split(self, part: _Part[T], for_its_size: bool = False) -> None:
        middle = len(part.records) // 2
        self._parts.append(_Part(part.records[middle:]))
        self._parts.append(_Part(part.records[:middle], is_first_half=not for_its_size))
