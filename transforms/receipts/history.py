"""What earlier runs settled (forwarders.md section 4): "the latest receipt of (forwarder, id) decides".

Receipts can be far more than memory holds, and users are worked on bucket by bucket. So the launcher makes one
sequential pass over the parts, sorts what it needs into `BUCKETS` files, and leaves under the output, for each bucket,
the ids that each forwarder has. A worker loads the bucket it works on. With `dead_letters` the same pass leaves, for
each bucket, what a redrive has to send, in order.
"""

import logging
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Self

import msgspec

from schemas import DeadLetter
from schemas.buckets import BUCKETS
from transforms.receipts.index import (
    DELIVERED_FILE,
    LETTERS_FILE,
    HistoryIndex,
    decode_dead_letter,
    horizon_beginning,
    parts_written,
    write_index,
    written_since,
)
from transforms.receipts.journal import DEAD_LETTERS, JOURNAL, PART, RECEIPTS
from transforms.sinks.base import DEFERRED
from transforms.storage import LocalStorage, read_frame, read_frames, storage_at

logger = logging.getLogger(__name__)
Delivered = Mapping[str, frozenset[str]]
"""Forwarder id to the ids of the records it has, for the users of one bucket."""


_decode_delivered = msgspec.msgpack.Decoder(dict[str, frozenset[str]]).decode


class History:
    """What earlier runs settled, as a worker asks for it. Made from the launcher's index; keeps `keep` buckets loaded.

    Give it the `run_id` of the present run where the engine may try a bundle again (Flink): then it also knows what
    that run had delivered when this was made, so that a bundle tried again sends only what was in flight. Make it
    when the worker starts; it costs a listing, and a pass over that run's receipts if there are any. Two buckets are
    enough for input that comes bucket by bucket; what comes in any order needs all of them (some 100 bytes an id).
    `horizon`, for unbounded input, in seconds: the run is looked at from so long before its latest receipt on, and for
    what it had deferred too.
    """

    def __init__(
        self, index: HistoryIndex, run_id: str | None = None, keep: int = 2, horizon: float | None = None
    ) -> None:
        self._keep = keep
        self._index = index
        self._storage = storage_at(index.output)
        self._loaded: dict[int, Delivered] = {}
        self._same_run = None if run_id is None else _SameRun.found(index.output, run_id, horizon)

    def bucket(self, bucket: int) -> Delivered:
        """Forwarder id to ids of delivered records, for the users whose `bucket_of` is `bucket`.

        Look it up once for a bucket, `.get(forwarder_id, frozenset())` once for a forwarder, and `record.id in` that
        for each record. A record is only ever found in its own user's bucket.
        """
        if not self._index.delivered_at and self._same_run is None:
            return _NOTHING
        found = self._loaded.get(bucket)
        if found is None:
            found = self._load(bucket)
            while len(self._loaded) >= self._keep:
                del self._loaded[next(iter(self._loaded))]
            self._loaded[bucket] = found
        return found

    def _load(self, bucket: int) -> Delivered:
        earlier: Delivered = _NOTHING
        if self._index.delivered_at:
            earlier = _decode_delivered(self._read(DELIVERED_FILE, self._index.delivered_at, bucket))
        if self._same_run is None:
            return earlier
        # No receipt of this run takes a delivery back: it sends nothing that was delivered before.
        now = self._same_run.history.bucket(bucket)
        return {each: earlier.get(each, frozenset()) | now.get(each, frozenset()) for each in {*earlier, *now}}

    def _read(self, file: str, offsets: tuple[int, ...], bucket: int) -> bytes:
        with self._storage.open(f"{self._index.name}/{file}") as stream:
            stream.seek(offsets[bucket])
            return stream.read(offsets[bucket + 1] - offsets[bucket])

    def dead_letters(self, bucket: int) -> Iterator[DeadLetter]:
        """What a redrive has to send for the users of `bucket`, one at a time, from an index made with `dead_letters`.

        The latest dead letter of each (forwarder, id) that was not delivered since, by user, and for each user in the
        order of the records: timestamp, place, session, then event, status, score (records.md section 2).
        """
        for _, frame in self._letters(bucket):
            yield decode_dead_letter(frame)

    def _letters(self, bucket: int) -> Iterator[tuple[int, bytes]]:
        offsets = self._index.letters_at
        if not offsets or offsets[bucket] == offsets[bucket + 1]:
            return
        with self._storage.open(f"{self._index.name}/{LETTERS_FILE}") as stream:
            stream.seek(offsets[bucket])
            yield from read_frames(stream, offsets[bucket], offsets[bucket + 1])

    def _letter_at(self, offset: int) -> DeadLetter:
        with self._storage.open(f"{self._index.name}/{LETTERS_FILE}") as stream:
            return decode_dead_letter(read_frame(stream, offset))

    def take_deferred(self, user_id: str) -> list[DeadLetter]:
        """What this run had deferred for the user when this was made (`Deferral`), in order; [] the next time."""
        return self._same_run.take_deferred(user_id) if self._same_run else []

    def undelivered_dead_letters(self) -> Iterator[DeadLetter]:
        """`dead_letters` of every bucket in turn."""
        for bucket in range(BUCKETS):
            yield from self.dead_letters(bucket)


class _SameRun:
    """What workers of this very run have delivered and deferred, indexed on this machine's disk."""

    def __init__(self, directory: tempfile.TemporaryDirectory[str], history: History, since: float) -> None:
        """Of letters from before `since` (epoch seconds) not all receipts may be in `history`."""
        self._directory = directory  # removed with this object
        self.history = history
        # user id -> where their letters are; the letters themselves may be more than memory holds.
        self._deferred: dict[str, list[int]] = {}
        for bucket in range(BUCKETS):
            for offset, frame in history._letters(bucket):
                letter = decode_dead_letter(frame)
                if letter.reason == DEFERRED and letter.settled_at / 1000 >= since:
                    self._deferred.setdefault(letter.user_id, []).append(offset)

    @classmethod
    def found(cls, output: str, run_id: str, horizon: float | None) -> Self | None:
        """None if they have settled nothing. A journal that is being written, or was left by a kill, counts too."""
        storage = storage_at(output)
        prefix = run_id + "-"
        written = parts_written(storage, RECEIPTS, PART, JOURNAL, prefix=prefix)
        if not written:
            return None
        beginning = horizon_beginning(written, horizon)
        receipts, letters = written_since(written, beginning), []
        if horizon is not None:
            letters = written_since(parts_written(storage, DEAD_LETTERS, PART, JOURNAL, prefix=prefix), beginning)
            beginning += horizon / 2  # For clocks that differ: an outage takes less.
        directory = tempfile.TemporaryDirectory(prefix="session-forwarder-history-")
        here = LocalStorage(Path(directory.name))
        with tempfile.TemporaryDirectory(dir=directory.name) as scratch:
            index = write_index(here.root, storage, receipts, letters, Path(scratch), here, "same_run")
        return cls(directory, History(index), beginning)

    def take_deferred(self, user_id: str) -> list[DeadLetter]:
        offsets = self._deferred.pop(user_id, [])
        return [self.history._letter_at(offset) for offset in offsets]


_NOTHING: Delivered = {}


# --- reading parts


# --- receipts, by bucket


# --- dead letters, by bucket


# --- files of frames: a length in four bytes, then that many bytes
