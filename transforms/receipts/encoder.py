"""Receipts and dead letters as rows of Avro, written by hand because fastavro takes ten times as long."""

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from typing import get_args

from schemas.delivery import PayloadKind
from schemas.record import encode_record
from transforms.receipts.avro_container import long_bytes
from transforms.sinks.base import Settlement, Verdict

BLOCK_BYTES = 4096
"""Bytes of a block of rows, at most, unless one row alone is larger.

It is a page of a disk's cache: a page that a power cut leaves full of zeros takes few rows with it.
"""

_MEMO_LIMIT = 1 << 16
"""Encoded values that an encoder remembers of a kind, more or less."""


class _Longs(dict[int, bytes]):
    """Encoded longs by their value. They are remembered because the lengths, counts and times of a run repeat."""

    def __missing__(self, number: int) -> bytes:
        encoded = self[number] = long_bytes(number)
        return encoded


class _Strings(dict[str, bytes]):
    """Encoded strings that repeat: forwarders, kinds, shards, reasons. What each user or record has does not."""

    def __missing__(self, text: str) -> bytes:
        encoded = self[text] = _bytes(text.encode())
        return encoded


def _bytes(value: bytes) -> bytes:
    return long_bytes(len(value)) + value


# A value of a union ["null", ...] follows the number of its branch, and a symbol of an enum is its number.
_NULL, _SOME = long_bytes(0), long_bytes(1)
_FALSE, _TRUE = b"\x00", b"\x01"
# An array is blocks of items, each after the number of its items, and ends with a block of none.
_EMPTY = long_bytes(0)
_DELIVERED, _DEAD_LETTERED = long_bytes(0), long_bytes(1)
_PAYLOAD_KINDS: dict[str, bytes] = {kind: long_bytes(number) for number, kind in enumerate(get_args(PayloadKind))}


class Encoder:
    """Encodes settlements as rows of Avro. Each method writes the fields of its schema, in the order of the schema.

    Every record of a run passes here, at 1 us a receipt where fastavro takes 10. The tests compare the bytes with
    fastavro's, so that a change of an .avsc must be made here, too.
    """

    def __init__(self, run_id: str) -> None:
        self._longs = _Longs()
        self._strings = _Strings()
        self._run_id = run_id
        # Fields that stand side by side and repeat together, by their values: kind, delivered, attempts and status;
        # ambiguous, the three times and the run.
        self._middles: dict[tuple[str, bool, int, int | None], bytes] = {}
        self._tails: dict[tuple[bool, int | None, int | None, int], bytes] = {}

    def forget(self) -> None:
        """Forget encoded values if there are too many. Call it now and then, so that memory is bounded."""
        if len(self._longs) > _MEMO_LIMIT:
            self._longs.clear()
        if len(self._strings) > _MEMO_LIMIT:
            self._strings.clear()
        if len(self._middles) + len(self._tails) > _MEMO_LIMIT:
            self._middles.clear()
            self._tails.clear()

    def receipts(self, settlements: Sequence[Settlement], settled_at: int) -> list[bytes]:
        """A row of receipt.avsc for each. In one loop: to call something for each would take a third more."""
        longs, strings, middles, tails = self._longs, self._strings, self._middles, self._tails
        delivered, join = Verdict.DELIVERED, b"".join
        rows = []
        for settlement in settlements:
            item, outcome = settlement.item, settlement.outcome
            record = item.record
            record_id, user_id = record.id.encode(), record.user_id.encode()
            shard, number = outcome.shard, outcome.sequence_number
            middle_of = (record.kind, outcome.verdict is delivered, item.attempts, outcome.status)
            tail_of = (item.ambiguous or outcome.ambiguous, item.first_attempt, item.last_attempt, settled_at)
            if number is None:
                taken_as = _NULL
            else:
                numbered = number.encode()
                taken_as = b"%b%b%b" % (_SOME, longs[len(numbered)], numbered)
            rows.append(
                join(
                    (
                        strings[item.forwarder_id],
                        longs[len(record_id)],
                        record_id,
                        longs[len(user_id)],
                        user_id,
                        middles.get(middle_of) or self._middle(*middle_of),
                        _NULL if shard is None else _SOME + strings[shard],
                        taken_as,
                        tails.get(tail_of) or self._tail(*tail_of),
                        self._remarks(outcome.remarks) if outcome.remarks else _EMPTY,
                    )
                )
            )
        return rows

    def _middle(self, kind: str, is_delivered: bool, attempts: int, status: int | None) -> bytes:
        longs = self._longs
        encoded = b"".join(
            (
                self._strings[kind],
                _DELIVERED if is_delivered else _DEAD_LETTERED,
                longs[attempts],
                _NULL if status is None else _SOME + longs[status],
            )
        )
        self._middles[kind, is_delivered, attempts, status] = encoded
        return encoded

    def _tail(self, is_ambiguous: bool, first: int | None, last: int | None, settled_at: int) -> bytes:
        longs = self._longs
        encoded = b"".join(
            (
                _TRUE if is_ambiguous else _FALSE,
                _NULL if first is None else _SOME + longs[first],
                _NULL if last is None else _SOME + longs[last],
                longs[settled_at],
                self._strings[self._run_id],
            )
        )
        self._tails[is_ambiguous, first, last, settled_at] = encoded
        return encoded

    def _remarks(self, remarks: tuple[str, ...]) -> bytes:
        return b"".join((self._longs[len(remarks)], *(self._strings[remark] for remark in remarks), _EMPTY))

    def dead_letter(self, settlement: Settlement, receipt: bytes) -> bytes:
        """A row of dead_letter.avsc, which begins with the fields of its receipt."""
        item, outcome = settlement.item, settlement.outcome
        response = outcome.response
        return b"".join(
            (
                receipt,
                self._strings[outcome.reason],
                # The text comes from a receiver. A stray surrogate in it must not stop the run here.
                _NULL if response is None else _SOME + _bytes(response.encode(errors="replace")),
                _SOME + _bytes(item.payload) if item.payload else _NULL,
                _PAYLOAD_KINDS[item.payload_kind],
                _bytes(encode_record(item.record)),
                self._longs[item.hops],
                self._longs[item.failed_runs],
            )
        )


Blocks = list[tuple[int, bytes]]
"""Blocks that are to be framed: for each the number of its rows, and these rows one after the other."""


def in_blocks(rows: Sequence[bytes]) -> Blocks:
    """Put encoded rows into blocks of at most BLOCK_BYTES; a row that is larger has a block of its own."""
    if sum(map(len, rows)) <= BLOCK_BYTES:
        return [(len(rows), b"".join(rows))] if rows else []
    ends = list(accumulate(map(len, rows)))
    blocks: Blocks = []
    first = size = 0
    while first < len(rows):
        after = max(first + 1, bisect_right(ends, size + BLOCK_BYTES, first))
        blocks.append((after - first, b"".join(rows[first:after])))
        first, size = after, ends[after - 1]
    return blocks
